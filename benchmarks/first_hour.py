"""Measures what a newcomer meets: photographs to a detector, and the demo.

  python -m benchmarks.first_hour --photographs=FOLDER --weights=resnet18...

`--what=photographs`: the seconds from a command's start to its end, with an
empty compilation cache, for the first 60 good photographs of FOLDER/train/good.
`--what=verdicts`: what their detector then says of all of FOLDER/test.
`--what=demo`: how well the demo goes on several generated sets, how long it
takes, and what a Gaussian per pixel and an untrained network make of them.
Writes benchmarks/results/first_hour.json, where the others' figures stay.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from absl import flags
from safetensors.numpy import save_file

from benchmarks import timing
from simplenet_jax import cli, environment
from simplenet_jax.config import load_config
from simplenet_jax.data import dataset
from simplenet_jax.evaluation import metrics, results
from simplenet_jax.evaluation.testset import TestSet
from tests.models import torch_resnet

_ALL = ['photographs', 'verdicts', 'demo']
_WHAT = flags.DEFINE_multi_enum('what', _ALL, _ALL, 'What to measure.')
_PHOTOGRAPHS = flags.DEFINE_string('photographs', '', 'A part with defects.')
_WEIGHTS = flags.DEFINE_string('weights', '', "ImageNet's ResNet18.")
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'Runs that a median is of.', 1)
_SETS = flags.DEFINE_integer('sets', 3, 'Generated sets.', 1)
_COUNT = flags.DEFINE_integer('count', 60, 'Good photographs.', 2)

_SIDE = 224
_PATH = timing.RESULTS / 'first_hour.json'


def train(workdir: pathlib.Path, *settings: str) -> float:
  """Runs `simplenet train` with nothing compiled; returns its seconds."""
  command = [sys.executable, '-m', 'simplenet_jax', 'train', *settings]
  with tempfile.TemporaryDirectory() as cache:
    env = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': cache}
    start = time.perf_counter()
    subprocess.run(  # noqa: S603 - our own.
      [*command, f'--workdir={workdir}'], check=True, env=env
    )
    return time.perf_counter() - start


def _of_photographs(folder: pathlib.Path) -> dict[str, list[str]]:
  """Returns each backbone's settings; copies the photographs."""
  good = pathlib.Path(_PHOTOGRAPHS.value) / 'train/good'
  parts = folder / 'parts'
  parts.mkdir()
  for path in sorted(good.iterdir())[: _COUNT.value]:
    shutil.copy(path, parts)
  usual = ['--config=folder', f'--config.data.root={parts}']
  usual += [f'--config.data.resize={_SIDE}']
  larger = ['--config.backbone.name=resnet18']
  larger += [f'--config.backbone.weights={_WEIGHTS.value}']
  return {'efficientnet_lite0': usual, 'resnet18': [*usual, *larger]}


def photographs() -> dict[str, Any]:
  """Returns the seconds of each backbone's runs, taken in turns."""
  seconds: dict[str, list[float]] = {}
  with tempfile.TemporaryDirectory() as place:
    folder = pathlib.Path(place)
    settings = _of_photographs(folder)
    for number in range(_ROUNDS.value):
      for name, values in settings.items():
        workdir = folder / f'{name}-{number}'
        seconds.setdefault(name, []).append(train(workdir, *values))
  return {
    'what': "seconds from the command's start to detector, threshold and page, "
    'nothing compiled before, in turns',
    'photographs': _COUNT.value,
    'side': _SIDE,
    'seconds': seconds,
    'median': {name: statistics.median(x) for name, x in seconds.items()},
  }


def verdicts() -> dict[str, Any]:
  """Returns what the photographs' detectors say of test images."""
  from simplenet_jax.detector import Detector

  found: dict[str, Any] = {}
  with tempfile.TemporaryDirectory() as place:
    folder = pathlib.Path(place)
    for name, values in _of_photographs(folder).items():
      train(folder / name, *values)
      detector = Detector.load(folder / name / 'detectors/parts')
      tested = pathlib.Path(_PHOTOGRAPHS.value) / 'test'
      kinds = {
        kind.name: [bool(one.anomalous) for one in detector.predict(kind)]
        for kind in sorted(tested.iterdir())
      }
      good = kinds.pop('good')
      bad = [one for flagged in kinds.values() for one in flagged]
      found[name] = {
        'false_alarms': sum(good),
        'good': len(good),
        'found': sum(bad),
        'defective': len(bad),
      }
  return {'photographs': _COUNT.value, 'side': _SIDE, 'verdicts': found}


def gaussian(root: pathlib.Path, seed: int) -> dict[str, float]:
  """Returns I-AUROC by category of each pixel's mean and deviation.

  An image scores as the highest of its squared, smoothed deviations.
  """
  config = load_config('demo')
  config.data.root, config.data.demo_seed = str(root), seed
  found = {}
  for one in dataset.open_categories(config.data).categories:
    pixels = np.stack([np.float32(one.pixels(i)) for i in range(one.images)])
    good, test = pixels[: len(one.train)], pixels[len(one.train) :]
    deviations = (test - good.mean(0)) / (good.std(0) + 1)
    maps = scipy.ndimage.gaussian_filter(
      np.square(deviations).mean(-1), (0, 4.0, 4.0)
    )
    labels = TestSet.read(one, 4.0).labels
    found[one.name] = metrics.auroc(labels, maps.max((1, 2)))
  return found


def demo() -> dict[str, Any]:
  """Returns the demo's figures by generated set."""
  sets: dict[str, Any] = {}
  with tempfile.TemporaryDirectory() as place:
    folder = pathlib.Path(place)
    untrained = folder / 'untrained.safetensors'
    torch.manual_seed(0)
    network = torch_resnet.TorchResNet('resnet18')
    save_file(torch_resnet.tensors(network), untrained)
    for seed in range(_SETS.value):
      root = folder / f'set-{seed}'
      data = ['--config=demo', f'--config.data.root={root}']
      data += [f'--config.data.demo_seed={seed}']
      workdir = folder / f'run-{seed}'
      seconds = train(workdir, *data)
      other = folder / f'untrained-{seed}'
      train(
        other,
        *data,
        '--config.backbone.name=resnet18',
        f'--config.backbone.weights={untrained}',
      )
      own = _figures(workdir)
      sets[str(seed)] = {
        'seconds': seconds,
        'categories': own,
        'image_auroc': _mean(own, 'image_auroc'),
        'pixel_auroc': _mean(own, 'pixel_auroc'),
        'lowest_image_auroc': min(x['image_auroc'] for x in own.values()),
        'untrained_image_auroc': _mean(_figures(other), 'image_auroc'),
        'gaussian_image_auroc': statistics.fmean(gaussian(root, seed).values()),
      }
  return {'what': 'the demo, by the seed of its images', 'sets': sets}


def _figures(workdir: pathlib.Path) -> dict[str, dict[str, float]]:
  found = json.loads((workdir / 'results.json').read_text())['categories']
  return {
    name: {
      metric: one['last'][metric]['mean']
      for metric in ('image_auroc', 'pixel_auroc')
    }
    for name, one in found.items()
  }


def _mean(figures: dict[str, dict[str, float]], metric: str) -> float:
  return statistics.fmean(one[metric] for one in figures.values())


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  result = json.loads(_PATH.read_text()) if _PATH.exists() else {}
  of = {'photographs': photographs, 'verdicts': verdicts, 'demo': demo}
  for name in _WHAT.value:
    result[name] = of[name]() | {
      'versions': environment.versions(),
      'device': environment.device(),
    }
    results.write_json(_PATH, result)
  print(json.dumps(result, indent=2))


if __name__ == '__main__':
  cli.run(main)
