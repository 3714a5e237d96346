"""Measures how large a defect must be in the network's input.

  python -m benchmarks.own_data

Dark dots of known diameters on generated pictures of a woven cloth, found by
the recipe of configs/folder.py with one head and the backbone that comes with
the package. Writes benchmarks/results/own_data.json.
"""

import pathlib
import statistics
import tempfile

import numpy as np
from absl import flags
from PIL import Image

from benchmarks import timing
from simplenet_jax import cli, demo, train
from simplenet_jax.config import load_config
from simplenet_jax.detector import Detector
from simplenet_jax.evaluation import metrics

_SETS = flags.DEFINE_integer('sets', 2, 'Number of generated sets.', 1)
_SIDES = flags.DEFINE_multi_integer('sides', [112, 224, 448], 'Of the input.')

_CATEGORY = 'weave'
_SIDE = 768  # Of the pictures.
_DIAMETERS = (6, 12, 24, 48)  # Of the dots, in the picture's pixels.
_DARKER = 0.4  # By this share.
_TESTED = 16  # Pictures of each kind.


def measure(side: int, seed: int, folder: pathlib.Path) -> dict[str, float]:
  """Returns I-AUROC by the diameter of the dots, in the picture's pixels."""
  root, one = folder / 'dots', [_CATEGORY]
  demo.generate(
    root, seed=seed, categories=one, defective=0, good=_TESTED, size=_SIDE
  )
  rng = np.random.default_rng(seed)
  for diameter in _DIAMETERS:
    place = root / _CATEGORY / f'test/{diameter:02}'
    place.mkdir(parents=True)
    for index in range(_TESTED):
      # Good pictures that are in neither part of the set.
      number = 1000 * diameter + index
      good, _ = demo.draw(seed, _CATEGORY, 'test', '', number, _SIDE)
      image = Image.fromarray(dotted(good, diameter, rng))
      image.save(place / f'{index:03}.png')
  config = load_config('folder')
  config.backbone.name = 'efficientnet_lite0'
  config.data.root, config.data.resize = str(root), side
  config.seeds, config.train.folds = (0,), False
  config.evaluation.baseline = config.evaluation.pictures = 0
  train.train_and_evaluate(config, folder / 'run')
  detector = Detector.load(folder / 'run/detectors' / _CATEGORY)
  scores = {
    place.name: [found.score for found in detector.predict(place)]
    for place in sorted((root / _CATEGORY / 'test').iterdir())
  }
  good, labels = scores.pop('good'), np.repeat([0, 1], _TESTED)
  return {
    str(int(name)): metrics.auroc(labels, np.array(good + bad))
    for name, bad in scores.items()
  }


def dotted(
  picture: np.ndarray, diameter: int, rng: np.random.Generator
) -> np.ndarray:
  """Darkens a disk somewhere in the middle of a uint8 picture."""
  side = len(picture)
  centre = rng.uniform(0.25 * side, 0.75 * side, 2)
  rows, columns = np.mgrid[:side, :side]
  distance = np.hypot(rows - centre[0], columns - centre[1])
  # The edge is a pixel wide.
  share = np.clip(diameter / 2 + 0.5 - distance, 0, 1)[..., None]
  return (picture * (1 - _DARKER * share)).round().astype(np.uint8)


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  figures = {}
  for side in _SIDES.value:
    sets = []
    for seed in range(_SETS.value):
      with tempfile.TemporaryDirectory() as folder:
        sets.append(measure(side, seed, pathlib.Path(folder)))
    figures[side] = {
      key: statistics.fmean(one[key] for one in sets) for key in sets[0]
    }
  result = {
    'what': 'I-AUROC by the side of the input and the diameter of dark dots in '
    f'pictures of {_SIDE} pixels',
    'darker_by': _DARKER,
    'pictures_of_each_diameter': _TESTED,
    'generated_sets': _SETS.value,
    'image_auroc': figures,
  }
  timing.write('own_data', result)


if __name__ == '__main__':
  cli.run(main)
