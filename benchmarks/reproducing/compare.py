"""What a run leaves, and how far it is from what another one leaves."""

import csv
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from simplenet_jax.detector import Detector

# Arrays by name.
Content = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Left:
  """What a run leaves.

  Attributes:
    heads: By category and seed: `head/` weights and statistics, the `metrics`
      of every step (first the losses), patch `scores/` by epoch, `auroc` of
      the last epoch in [0, 1], the `curve` as it is written, a row per epoch.
    detectors: By category and all its seeds: the file's arrays under `file/`,
      and what it says of the test images, `scores`, `maps` and `thresholds`.
  """

  heads: Mapping[tuple[str, int], Content]
  detectors: Mapping[tuple[str, tuple[int, ...]], Content]


def read(
  workdir: pathlib.Path, images: pathlib.Path, first_seed: int = 0
) -> Left:
  """Reads what a run has left, and has its detectors predict.

  Args:
    workdir: The run's.
    images: The data set.
    first_seed: What seeds are counted from, so that other seeds can be
      compared in turn.
  """
  table = json.loads((workdir / 'results.json').read_text(encoding='utf-8'))
  seeds = tuple(table['config']['seeds'])
  counted = tuple(seed - first_seed for seed in seeds)
  heads, detectors = {}, {}
  for category, found in table['categories'].items():
    aurocs = found['last']['image_auroc']['seeds']
    for seed, auroc in zip(seeds, aurocs, strict=True):
      heads[category, seed - first_seed] = {
        **_checkpoint(workdir / 'checkpoints' / category / f'seed-{seed}'),
        'auroc': np.array(auroc),
        'curve': _curve(workdir / f'curves/{category}.csv', seed),
      }
    detectors[category, counted] = _predicted(
      workdir / f'detectors/{category}.safetensors', images / category / 'test'
    )
  return Left(heads, detectors)


def _checkpoint(folder: pathlib.Path) -> Content:
  (path,) = folder.glob('*/arrays.safetensors')
  return load_file(path)


def _curve(path: pathlib.Path, seed: int) -> np.ndarray:
  with path.open(encoding='utf-8') as file:
    return np.array(
      [
        list(r.values())[1:]
        for r in csv.DictReader(file)
        if r['seed'] == f'{seed}'
      ]
    )


def _predicted(path: pathlib.Path, images: pathlib.Path) -> Content:
  said = list(Detector.load(path).predict(sorted(images.glob('*/*.png'))))
  thresholds = said[0].thresholds
  return {
    **{f'file/{name}': value for name, value in load_file(path).items()},
    'scores': np.array([one.score for one in said]),
    'maps': np.stack([one.input_map for one in said]),
    'thresholds': np.array([thresholds.image, thresholds.pixel], float),
  }


def compare(base: Left, other: Left) -> dict[str, Any]:
  """Compares the heads and detectors that both runs have.

  Returns:
    `identical`, whether everything is, bit for bit; `differing`, the names of
    what is not; how many `heads` and `detectors` were compared, and the largest
    differences, 0 where there is none: of `weights` and statistics, relative to
    the largest of their array, of an epoch's mean `losses`, relative, of image
    `scores` and of the detector's (`predictions`), in ranges of the base's
    scores, of I-AUROC in points (`auroc`).

  Raises:
    ValueError: If they have no head in common.
  """
  heads = _pairs(base.heads, other.heads)
  detectors = _pairs(base.detectors, other.detectors)
  if not heads:
    raise ValueError('the runs have no head in common')
  differing = sorted(
    {name for pair in (*heads, *detectors) for name in _differing(*pair)}
  )
  return {
    'identical': not differing,
    'differing': differing,
    'heads': len(heads),
    'detectors': len(detectors),
    'weights': max(_weights(*pair) for pair in heads),
    'losses': max(_losses(*pair) for pair in heads),
    'scores': max(_range(_image_scores(a), _image_scores(b)) for a, b in heads),
    'predictions': max(
      (_range(a['scores'], b['scores']) for a, b in detectors), default=None
    ),
    'auroc': max(100 * abs(float(a['auroc'] - b['auroc'])) for a, b in heads),
  }


def _pairs(base: Mapping, other: Mapping) -> list[tuple[Content, Content]]:
  return [(base[key], other[key]) for key in base if key in other]


def _differing(base: Content, other: Content) -> list[str]:
  """Returns the names of what is not the same in every bit."""
  both = base.keys() & other.keys()
  return [
    *(name for name in both if _bits(base[name]) != _bits(other[name])),
    *(base.keys() ^ other.keys()),
  ]


def _bits(array: np.ndarray) -> tuple[Any, ...]:
  return array.dtype, array.shape, array.tobytes()


def _weights(base: Content, other: Content) -> float:
  return max(
    float(np.abs(value - other[name]).max() / np.abs(value).max())
    for name, value in base.items()
    if name.startswith('head/')
  )


def _losses(base: Content, other: Content) -> float:
  a, b = (
    one['metrics'][0].reshape(len(one['curve']), -1).mean(1)
    for one in (base, other)
  )
  return float(np.abs((a - b) / a).max())


def _image_scores(head: Content) -> np.ndarray:
  last = len(head['curve'])
  return head[f'scores/{last}'].max((-2, -1))


def _range(base: np.ndarray, other: np.ndarray) -> float:
  return float(np.abs(base - other).max() / np.ptp(base))
