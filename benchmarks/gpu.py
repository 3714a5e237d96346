"""Runs all benchmarks of speed on a GPU, one after the other.

  python -m benchmarks.gpu

PyTorch must see the GPU too. A benchmark that fails is named in the end, and
keeps no other from its turn.
"""

import os
import subprocess
import sys

from simplenet_jax import cli

COMMANDS = (
  'train --precision=tensorfloat32 --images=64 --rounds=9',
  'train --mvtec --precision=tensorfloat32 --seeds=1',
  'train --mvtec --precision=tensorfloat32 --seeds=5',
  'predict --precision=bfloat16 --rounds=30 --batches=1,16,64',
  'sweep',
)


def main() -> None:
  """Runs all."""
  os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
  failed = []
  for command in COMMANDS:
    print(f'python -m benchmarks.{command}', flush=True)
    arguments = f'-m benchmarks.{command}'.split()
    if subprocess.run([sys.executable, *arguments], check=False).returncode:  # noqa: S603
      failed.append(command)
  if failed:
    raise ValueError(f'failed: {", ".join(failed)}')


if __name__ == '__main__':
  cli.run(main)
