"""What cases begin with: whole images, a whole run, whole files."""

import pathlib
import subprocess
import sys
from typing import NamedTuple

import torch

from simplenet_jax import demo
from tests.models import fabricated

# Of a run that takes a second or two.
SETTINGS = {
  'data.source': 'folder',
  'data.resize': 32,
  'backbone.batch_size': 4,
  'patch.pretrain_dim': 24,
  'patch.target_dim': 24,
  'head.hidden': 8,
  'seeds': '0',
  'train.epochs': 2,
  'train.batch_size': 4,
  'evaluation.every': 1,
  'evaluation.pictures': 2,
  'engine.tensorboard': False,
}


class Ground(NamedTuple):
  """Something whole of every kind: images in MVTec's layout, a run on them."""

  folder: pathlib.Path
  root: pathlib.Path
  run: pathlib.Path
  detector: pathlib.Path
  weights: tuple[pathlib.Path, ...]  # As safetensors and as PyTorch's file.
  released: pathlib.Path


def training(
  root: pathlib.Path, work: pathlib.Path, **others: object
) -> list[str]:
  """Returns a small run's command line; `others` are settings."""
  settings = {**SETTINGS, 'data.root': root, **others}
  return [
    'simplenet_jax.main',
    '--config=configs/demo.py',
    f'--workdir={work}',
    *(f'--config.{field}={value}' for field, value in settings.items()),
  ]


def lay(folder: pathlib.Path) -> Ground:
  """Makes it all, below an empty folder."""
  root, run = folder / 'data', folder / 'run'
  demo.generate(root, categories=['gasket'], train=6, good=2, defective=3)
  (root / demo.MARKER).unlink()
  subprocess.run(  # noqa: S603 - our own.
    [sys.executable, '-m', *training(root, run)],
    check=True,
    capture_output=True,
  )
  tensors = fabricated.untrained('efficientnet_lite0')
  weights = folder / 'net.safetensors', folder / 'net.pth'
  for path in weights:
    fabricated.write(path, tensors)
  detector = run / 'detectors' / 'gasket.safetensors'
  released = write_released(folder / 'ckpt.pth')
  return Ground(folder, root, run, detector, weights, released)


def write_released(path: pathlib.Path) -> pathlib.Path:
  """Writes a checkpoint like those of the released code; returns its path."""
  dim, hidden = SETTINGS['patch.target_dim'], SETTINGS['head.hidden']
  discriminator = {
    'body.block1.0.weight': torch.ones(hidden, dim),
    'body.block1.0.bias': torch.ones(hidden),
    'tail.weight': torch.ones(1, hidden),
  }
  for name in ('weight', 'bias', 'running_mean', 'running_var'):
    discriminator[f'body.block1.1.{name}'] = torch.ones(hidden)
  adaptor = {
    'layers.0fc.weight': torch.ones(dim, dim),
    'layers.0fc.bias': torch.ones(dim),
  }
  parts = {'discriminator': discriminator, 'pre_projection': adaptor}
  torch.save(parts, path)
  return path
