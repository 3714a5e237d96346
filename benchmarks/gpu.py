"""Runs all benchmarks of speed on a GPU, one after the other.

  python -m benchmarks.gpu
  python -m benchmarks.gpu --root=FOLDER --weights=FOLDER

PyTorch must see the GPU too. --root, categories in MVTec AD's layout, and
--weights, a folder with resnet18.safetensors and resnet50.safetensors, add the
benchmarks on real images. A benchmark that fails is named in the end, and keeps
no other from its turn.
"""

import os
import subprocess
import sys

from absl import flags

from simplenet_jax import cli

_ROOT = flags.DEFINE_string('root', None, 'A data set of real images.')
_WEIGHTS = flags.DEFINE_string('weights', None, 'A folder of weights.')

SPEED = (
  'train --precision=tensorfloat32 --images=64 --rounds=9',
  'predict --precision=bfloat16 --rounds=30 --batches=1,16,64',
  'mvtec_speed --precision=tensorfloat32 --seeds=1',
  'mvtec_speed --precision=tensorfloat32 --seeds=5',
  'sweep',
)


def main() -> None:
  """Runs all."""
  commands: list[list[str]] = [str(line).split() for line in SPEED]
  if _ROOT.value and _WEIGHTS.value:
    root = f'--root={_ROOT.value}'
    weights = f'--weights={_WEIGHTS.value}'
    commands.append(['last_epoch', root, weights])
    commands.append(['precision', root, f'{weights}/resnet18.safetensors'])
  environment = {**os.environ, 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
  failed = []
  for name, *arguments in commands:
    print('python -m', f'benchmarks.{name}', *arguments, flush=True)
    done = subprocess.run(  # noqa: S603 - our own.
      [sys.executable, '-m', f'benchmarks.{name}', *arguments],
      env=environment,
      check=False,
    )
    if done.returncode:
      failed.append(name)
  if failed:
    raise ValueError(f'failed: {", ".join(failed)}')


if __name__ == '__main__':
  cli.run(main)
