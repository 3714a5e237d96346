"""Runs whose features are larger than the memory that they are given."""

import os
import pathlib
import shutil
from typing import Any

from flax import nnx
from safetensors.numpy import save_file

from benchmarks.loading import watched
from benchmarks.loading.findings import Findings
from benchmarks.loading.watched import Watched
from simplenet_jax import demo
from simplenet_jax.config import Config, load_config
from simplenet_jax.models import resnet, weights
from simplenet_jax.training import bank, setup

# What a run of 10,000 images takes more than one of a hundred, beside their
# features: their names and sizes, 512 that are decoded ahead, blocks of
# features on their way, what allocators keep.
SLACK_BYTES = 64e6

_CATEGORY = 'wood'
_FEW = 100  # Images of a category whose features fit on the device.
_TEST = {'good': 10, 'defective': 10}
_SMALL = {
  'data.source': 'folder',
  'data.resize': 64,
  'engine.devices': 1,
  'head.hidden': 8,
  'train.epochs': 1,
  'train.batch_size': 8,
}
_DEVICE_GB = 0.05
_LARGE = {
  'data.categories': _CATEGORY,
  'engine.devices': 1,
  'head.hidden': 64,
  'train.epochs': 2,
  'bank.device_gb': 0.05,
  'bank.host_gb': 0.02,
}


def _feature_bytes(config: Config, images: int) -> int:
  """Returns the size of the features of square images."""
  extractor, backbone = setup.make_extractor(config), config.backbone
  side = config.data.crop or config.data.resize
  _, state = resnet.abstract(
    backbone.name, tuple(backbone.levels), backbone.padding
  )
  return images * bank.row_bytes(extractor.shapes(state, (side, side)))


def _multiply(few: pathlib.Path, many: pathlib.Path, images: int) -> None:
  """Makes a data set whose training images are those of another, repeated."""
  shutil.copytree(few, many, copy_function=os.link)
  folder = many / _CATEGORY / 'train/good'
  drawn = sorted(folder.iterdir())
  for index in range(len(drawn), images):
    os.link(drawn[index % len(drawn)], folder / f'{index:06}.png')


def _check_file(
  findings: Findings, seen: Watched, workdir: pathlib.Path, features: int
) -> None:
  """Checks that a run kept features in a file, and that nothing is left."""
  findings.expect(
    seen.mapped_bytes >= features,
    f'{workdir.name}: {seen.mapped_bytes / 1e6:.0f} MB of files were mapped, '
    f'expected {features / 1e6:.0f} of features',
  )
  findings.expect(
    not seen.mapped_bytes_at_the_end,
    f'{workdir.name}: the file of features was open until the end',
  )
  left = [path for path in (workdir / 'features').iterdir() if path.is_file()]
  findings.expect(not left, f'{workdir.name}: left are {left}')


def _pair(
  folder: pathlib.Path, roots: dict[int, pathlib.Path], host_gb: float
) -> list[Watched]:
  """Trains on few images and on many with the same budgets."""
  return [
    watched.train(
      'demo',
      {
        **_SMALL,
        'data.root': root,
        'bank.device_gb': _DEVICE_GB,
        'bank.host_gb': host_gb,
      },
      folder / f'{images} images, {host_gb:g} GB',
    )
    for images, root in roots.items()
  ]


def category(
  folder: pathlib.Path, images: int, findings: Findings
) -> dict[str, Any]:
  """Trains a large category and a small one with the same budgets.

  The large one may take more than the small one what the budgets allow features
  to take, and `SLACK_BYTES`. Pages of the file of features are not counted: the
  system takes them back when it needs the memory.

  Args:
    folder: For data and results.
    images: Of the large one, for training.
    findings: What does not hold is added to it.
  """
  roots = {_FEW: folder / 'few', images: folder / 'many'}
  size = _SMALL['data.resize']
  demo.generate(
    roots[_FEW], categories=[_CATEGORY], train=_FEW, size=size, **_TEST
  )
  _multiply(roots[_FEW], roots[images], images)
  config = load_config('demo')
  config.update_from_flattened_dict(_SMALL)
  features = _feature_bytes(config, images + sum(_TEST.values()))
  findings.expect(
    features > 2e9 * _DEVICE_GB,
    f'features of {features / 1e6:.0f} MB are too few to say anything',
  )
  found: dict[str, Any] = {
    'images': images,
    'features_mb': features / 1e6,
    'device_budget_mb': 1e3 * _DEVICE_GB,
  }
  # A budget that holds them, and one that does not.
  for place, budget in {
    'in host memory': 1.2 * features,
    'in a file': features / 20,
  }.items():
    small, large = _pair(folder, roots, budget / 1e9)
    growth = large.own_bytes - small.own_bytes
    allowed = 1e9 * _DEVICE_GB + SLACK_BYTES
    if budget > features:
      allowed += features
    findings.expect(
      growth <= allowed,
      f'{images} images {place} took {growth / 1e6:.0f} MB more than {_FEW}, '
      f'allowed are {allowed / 1e6:.0f}',
    )
    if budget < features:
      workdir = folder / f'{images} images, {budget / 1e9:g} GB'
      _check_file(findings, large, workdir, features)
    found[place] = {
      'host_budget_mb': budget / 1e6,
      'growth_mb': growth / 1e6,
      'growth_allowed_mb': allowed / 1e6,
      f'{_FEW} images': small.figures(),
      f'{images} images': large.figures(),
    }
  return found


def spill(
  folder: pathlib.Path, images: int, findings: Findings
) -> dict[str, Any]:
  """Trains on features of a WideResNet50-2 that fit no budget.

  Args:
    folder: For data, random weights and results.
    images: For training; a few more are tested on.
    findings: What does not hold is added to it.
  """
  root, file = folder / 'data', folder / 'random.safetensors'
  test = {'good': 3, 'defective': 3}
  demo.generate(root, categories=[_CATEGORY], train=images, size=320, **test)
  config = load_config('mvtec')
  backbone = config.backbone
  network = resnet.ResNet(
    backbone.name, tuple(backbone.levels), rngs=nnx.Rngs(0)
  )
  save_file(weights.to_torch_names(nnx.split(network)[1]), file)
  features = _feature_bytes(config, images + sum(test.values()))
  for name in ('bank.device_gb', 'bank.host_gb'):
    findings.expect(
      features > 1e9 * _LARGE[name],
      f'features of {features / 1e6:.0f} MB fit {name}',
    )
  workdir = folder / 'spilled'
  seen = watched.train(
    'mvtec',
    {**_LARGE, 'data.root': root, 'backbone.weights': file},
    workdir,
  )
  findings.expect((workdir / 'results.json').exists(), 'no results are left')
  _check_file(findings, seen, workdir, features)
  return {
    'backbone': backbone.name,
    'side': config.data.crop,
    'images': images + sum(test.values()),
    'epochs': _LARGE['train.epochs'],
    'features_mb': features / 1e6,
    'device_budget_mb': 1e3 * _LARGE['bank.device_gb'],
    'host_budget_mb': 1e3 * _LARGE['bank.host_gb'],
    **seen.figures(),
  }
