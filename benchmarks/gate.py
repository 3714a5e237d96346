"""Whether a change leaves every number as it was, bit for bit.

  python -m benchmarks.gate --record   # before a change
  python -m benchmarks.gate            # after it

Trains two short runs on the CPU, the demo and two real categories, and compares
their metrics, and one detector's scores and maps of test images, with what the
same machine recorded. The recording lies in `runs/gate.json` or where
`SIMPLENET_GATE` says. Where the real images and weights are absent, the second
run is left out and named.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
from absl import flags

from simplenet_jax import cli

_RECORD = flags.DEFINE_bool('record', False, 'Record instead of comparing.')
_ONLY = flags.DEFINE_enum('only', '', ['', 'demo', 'real'], 'One run alone.')

SHARED = Path(os.environ.get('SIMPLENET_SHARED', '../shared'))
RECORDING = Path(os.environ.get('SIMPLENET_GATE', 'runs/gate.json'))

DEMO = ['--config=configs/demo.py:fast', '--config.train.epochs=2']
REAL = [
  '--config=configs/mvtec.py',
  f'--config.data.root={SHARED}/data',
  '--config.data.categories=toothbrush,glassfiber',
  '--config.backbone.name=resnet18',
  f'--config.backbone.weights={SHARED}/weights/resnet18.safetensors',
  '--config.data.resize=96',
  '--config.data.crop=80',
  '--config.train.epochs=2',
  '--config.seeds=0,1',
  '--config.patch.pretrain_dim=128',
  '--config.patch.target_dim=128',
  '--config.head.hidden=64',
]
QUIET = [
  '--config.engine.tensorboard=false',
  '--config.evaluation.every=1',
  '--config.evaluation.pictures=0',
]


def main() -> None:
  """Records or compares."""
  found = {}
  if _ONLY.value != 'real':
    found |= measure('demo', DEMO, Path('data/demo'), 'gasket')
  if (SHARED / 'data/toothbrush').is_dir():
    if _ONLY.value != 'demo':
      found |= measure('real', REAL, SHARED / 'data', 'toothbrush')
  else:
    print(f'left out: the real categories, {SHARED}/data is absent')
  if not found:
    raise ValueError('no run is left')
  if _RECORD.value:
    RECORDING.parent.mkdir(parents=True, exist_ok=True)
    RECORDING.write_text(json.dumps(found, indent=1))
    print(f'recorded {len(found)} values in {RECORDING}')
    return
  known = json.loads(RECORDING.read_text())
  runs = {key.partition('/')[0] for key in found}
  every = [key for key in known if key.partition('/')[0] in runs]
  other = sorted(key for key in every if found.get(key) != known[key])
  for key in other[:20]:
    print(f'{key}: recorded {known[key]}, now {found.get(key)}')
  if other:
    raise ValueError(f'{len(other)} of {len(every)} values differ')
  new = len(found) - len(every)
  print(f'{len(every)} values are the same, bit for bit; {new} are new')


def measure(
  name: str, arguments: list[str], root: Path, category: str
) -> dict[str, Any]:
  """Trains one run; returns its metrics and a detector's maps, by name."""
  with tempfile.TemporaryDirectory() as folder:
    workdir = Path(folder) / 'run'
    train = [sys.executable, '-m', 'simplenet_jax.main', *arguments, *QUIET]
    subprocess.run(  # noqa: S603
      [*train, f'--workdir={workdir}'], check=True, stdout=subprocess.DEVNULL
    )
    results = json.loads((workdir / 'results.json').read_text())
    parts = {
      part: results[part] for part in ['categories', 'mean', 'selected_on_test']
    }
    tree = jax.tree_util.tree_flatten_with_path(parts, lambda x: x is None)
    found = {
      f'{name}/{jax.tree_util.keystr(path, simple=True, separator="/")}': leaf
      for path, leaf in tree[0]
    }
    images = sorted((root / category / 'test').rglob('*.png'))[::5]
    found |= detect(name, workdir / 'detectors' / category, images)
  return found


def detect(name: str, path: Path, images: list[Path]) -> dict[str, str]:
  """Returns the score and the map's SHA-256 of each image."""
  from simplenet_jax.detector import Detector

  found, predictions = {}, Detector.load(path).predict(images)
  for image, one in zip(images, predictions, strict=True):
    key = f'{name}/maps/{image.parent.name}/{image.name}'
    digest = hashlib.sha256(one.map.tobytes()).hexdigest()
    found[key] = f'{one.score!r} {digest}'
  return found


if __name__ == '__main__':
  cli.run(main)
