"""Measures on generated parts what images and pixels are worth.

  python -m benchmarks.own_data --weights=resnet18.safetensors

`--what=images`: how many good images does training need (the demo's backbone)?
`--what=pixels`: how large must a defect be in the input (ImageNet's ResNet18)?
Writes benchmarks/results/own_data.json, where the other's figures stay. All
figures are of the last epoch.
"""

import json
import pathlib
import statistics
import tempfile

import numpy as np
from absl import flags
from PIL import Image

from benchmarks import timing
from simplenet_jax import cli, demo, environment, train
from simplenet_jax.config import Config, from_protocol, load_config
from simplenet_jax.detector import Detector
from simplenet_jax.evaluation import metrics, results

_WHAT = flags.DEFINE_multi_enum(
  'what', ['images', 'pixels'], ['images', 'pixels'], 'What to measure.'
)
_WEIGHTS = flags.DEFINE_string(
  'weights', '', "ImageNet's ResNet18: a file, or a name on the hub."
)
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Number of generated sets.', 1)
_IMAGES = flags.DEFINE_multi_integer('images', [6, 12, 24, 48], 'Good images.')
_SIDES = flags.DEFINE_multi_integer('sides', [96, 192, 384], 'Of the input.')

_CATEGORY = 'weave'
_SIDE = 768  # Of the pictures with defects of known size.
_DIAMETERS = (6, 12, 24, 48)  # Of these defects, in the picture's pixels.
_DARKER = 0.4  # By this share.
_TESTED = 16  # Pictures of each kind.
_TOLD = {
  'images': 'I-AUROC by the number of good images, trained for equally many '
  "steps, the demo's backbone",
  'pixels': 'I-AUROC by the side of the input and the diameter of dark dots in '
  f"pictures of {_SIDE} pixels, ImageNet's ResNet18",
}


def resnet18() -> Config:
  """Returns the demo's settings with a ResNet18 as the backbone."""
  config = load_config('demo:fast')
  config.backbone.name = 'resnet18'
  config.backbone.weights = _WEIGHTS.value
  config.patch.pretrain_dim = config.patch.target_dim = 384
  config.head.hidden = 256
  config.train = from_protocol().train
  # About a third of the deviation of a ResNet18's features.
  config.train.sigma, config.train.epochs = 0.05, 12
  # Faster, for so few epochs.
  config.train.adaptor.learning_rate *= 3
  config.train.discriminator.learning_rate *= 3
  return config


def run(
  config: Config, root: pathlib.Path, workdir: pathlib.Path
) -> dict[str, float]:
  """Trains on a folder; returns the last epoch's I-AUROC by category."""
  config.name, config.data.source = 'own_data', 'folder'
  config.data.root = str(root)
  config.evaluation.pictures = 0
  config.evaluation.every = config.train.epochs
  found = train.train_and_evaluate(config, workdir)['categories'].items()
  return {name: one['last']['image_auroc']['mean'] for name, one in found}


def of_images(count: int, seed: int, folder: pathlib.Path) -> dict[str, float]:
  """Returns I-AUROC by category, trained on the first images of a demo set."""
  root = folder / 'set'
  demo.generate(root, seed=seed)
  for good in root.glob('*/train/good'):
    for path in sorted(good.iterdir())[count:]:
      path.unlink()
  config = load_config('demo:fast')
  # As many steps, however few the images.
  config.train.epochs = config.train.epochs * max(_IMAGES.value) // count
  found = run(config, root, folder / 'run')
  return {**found, 'mean': statistics.fmean(found.values())}


def of_pixels(side: int, seed: int, folder: pathlib.Path) -> dict[str, float]:
  """Returns I-AUROC by the diameter of dark dots, in the picture's pixels."""
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
  config = resnet18()
  config.data.resize = side
  run(config, root, folder / 'run')
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
  path = timing.RESULTS / 'own_data.json'
  result = json.loads(path.read_text()) if path.exists() else {}
  for name in _WHAT.value:
    of_one, values = {
      'images': (of_images, _IMAGES.value),
      'pixels': (of_pixels, _SIDES.value),
    }[name]
    figures = {}
    for value in values:
      sets = []
      for seed in range(_SEEDS.value):
        with tempfile.TemporaryDirectory() as folder:
          sets.append(of_one(value, seed, pathlib.Path(folder)))
      figures[value] = {
        key: statistics.fmean(one[key] for one in sets) for key in sets[0]
      }
    result[name] = {
      'what': _TOLD[name],
      'image_auroc': figures,
      'generated_sets': _SEEDS.value,
      'versions': environment.versions(),
      'device': environment.device(),
    }
  results.write_json(path, result)
  print(json.dumps(result, indent=2))


if __name__ == '__main__':
  cli.run(main)
