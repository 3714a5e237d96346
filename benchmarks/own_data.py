"""Measures what images and pixels are worth, on generated parts.

How many good images to train on (with the demo's backbone), and how large a
defect must be in the input to be found (with ImageNet's ResNet18): the two
questions that one's own data raises first.

  python -m benchmarks.own_data --weights=resnet18.safetensors

Writes benchmarks/results/own_data.json; `--what=images` or `--what=pixels`
measures one of them and keeps the other's figures. Everything is generated; no
figure is selected on test images, and all are of the last epoch.
"""

import json
import pathlib
import shutil
import statistics
import tempfile

import numpy as np
from absl import flags
from PIL import Image

from benchmarks import resnet18
from configs import demo as demo_config
from simplenet_jax import cli, demo, environment, train
from simplenet_jax import demo as pictures
from simplenet_jax.config import Config
from simplenet_jax.detector import Detector
from simplenet_jax.evaluation import metrics, results
from simplenet_jax.models.weights import DEFAULT_WEIGHTS

_RESULT = pathlib.Path(__file__).parent / 'results' / 'own_data.json'
_WHAT = flags.DEFINE_multi_enum(
  'what', ['images', 'pixels'], ['images', 'pixels'], 'What to measure.'
)
_WEIGHTS = flags.DEFINE_string(
  'weights',
  DEFAULT_WEIGHTS['resnet18'],
  "ImageNet's ResNet18: a file, or a name on the Hugging Face hub.",
)
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Number of generated sets.', 1)
_IMAGES = flags.DEFINE_multi_integer(
  'images', [6, 12, 24, 48], 'How many good images to train on.'
)
_SIDES = flags.DEFINE_multi_integer(
  'sides', [96, 192, 384], 'Sides of the input, in pixels.'
)

_CATEGORY = 'weave'
_SIDE = 768  # Of the pictures with defects of known size.
_DIAMETERS = (6, 12, 24, 48)  # Of these defects, in the picture's pixels.
_DARKER = 0.4  # By this share.
_TESTED = 16  # Pictures of each kind.


def run(config: Config, root: pathlib.Path, workdir: pathlib.Path) -> dict:
  """Trains on a folder and returns the results."""
  config = config.copy_and_resolve_references()
  config.data.source, config.data.root = 'folder', str(root)
  config.evaluation.pictures = 0
  config.evaluation.every = config.train.epochs
  return train.train_and_evaluate(config, workdir)


def of_images(count: int, seed: int, folder: pathlib.Path) -> dict[str, float]:
  """Returns I-AUROC by category, trained on the first images of a demo set."""
  root = folder / 'set'
  demo.generate(root, seed=seed)
  for good in root.glob('*/train/good'):
    for path in sorted(good.iterdir())[count:]:
      path.unlink()
  config = demo_config.get_config()
  # As many steps, however few the images.
  config.train.epochs = config.train.epochs * max(_IMAGES.value) // count
  config.detector.save = False
  found = run(config, root, folder / 'run')
  return {
    name: one['last']['image_auroc']['mean']
    for name, one in found['categories'].items()
  }


def dotted(picture: np.ndarray, diameter: int, rng) -> np.ndarray:
  """Darkens a disk somewhere in the middle of a picture.

  Args:
    picture: uint8 `[side, side, 3]`.
    diameter: Of the disk, in pixels.
    rng: A NumPy generator.
  """
  side = len(picture)
  centre = rng.uniform(0.25 * side, 0.75 * side, 2)
  rows, columns = np.mgrid[:side, :side]
  distance = np.hypot(rows - centre[0], columns - centre[1])
  # The edge is a pixel wide.
  share = np.clip(diameter / 2 + 0.5 - distance, 0, 1)[..., None]
  return (picture * (1 - _DARKER * share)).round().astype(np.uint8)


def draw_dots(seed: int, root: pathlib.Path) -> None:
  """Writes good pictures, and others with a dot of known size."""
  demo.generate(
    root,
    seed=seed,
    categories=[_CATEGORY],
    defective=0,
    good=_TESTED,
    size=_SIDE,
  )
  rng = np.random.default_rng(seed)
  for diameter in _DIAMETERS:
    folder = root / _CATEGORY / f'test/{diameter:02}'
    folder.mkdir(parents=True)
    for index in range(_TESTED):
      # Good pictures that are in neither part of the set.
      number = 1000 * diameter + index
      good, _ = pictures.draw(seed, _CATEGORY, 'test', '', number, _SIDE)
      image = Image.fromarray(dotted(good, diameter, rng))
      image.save(folder / f'{index:03}.png')


def of_pixels(
  side: int, root: pathlib.Path, workdir: pathlib.Path
) -> dict[str, float]:
  """Returns I-AUROC by the diameter of the defects, in the picture's pixels."""
  config = resnet18.settings(demo_config.get_config(), _WEIGHTS.value)
  config.data.resize = side
  run(config, root, workdir)
  detector = Detector.load(workdir / 'detectors' / _CATEGORY)
  scores = {
    folder.name: [found.score for found in detector.predict(folder)]
    for folder in sorted((root / _CATEGORY / 'test').iterdir())
  }
  good = scores.pop('good')
  labels = np.repeat([0, 1], _TESTED)
  return {
    str(int(name)): metrics.auroc(labels, np.array(good + bad))
    for name, bad in scores.items()
  }


def averaged(found: list[dict[str, float]]) -> dict[str, float]:
  """Averages figures over sets."""
  return {
    name: statistics.fmean(one[name] for one in found) for name in found[0]
  }


def measure_images(folder: pathlib.Path) -> dict[int, dict[str, float]]:
  """Returns I-AUROC by the number of good images, and by category."""
  found = {}
  for count in _IMAGES.value:
    sets = []
    for seed in range(_SEEDS.value):
      sets.append(of_images(count, seed, folder))
      shutil.rmtree(folder)
    found[count] = averaged(sets)
    found[count]['mean'] = statistics.fmean(found[count].values())
  return found


def measure_pixels(folder: pathlib.Path) -> dict[int, dict[str, float]]:
  """Returns I-AUROC by the input's side, and by the defects' diameter."""
  found: dict[int, list] = {side: [] for side in _SIDES.value}
  for seed in range(_SEEDS.value):
    draw_dots(seed, folder / 'dots')
    for side, sets in found.items():
      sets.append(of_pixels(side, folder / 'dots', folder / f'run{side}'))
    shutil.rmtree(folder)
  return {side: averaged(sets) for side, sets in found.items()}


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  result = json.loads(_RESULT.read_text()) if _RESULT.exists() else {}
  run_as = {
    'generated_sets': _SEEDS.value,
    'versions': environment.versions(),
    'device': environment.device(),
  }
  with tempfile.TemporaryDirectory() as name:
    aside = pathlib.Path(name, 'aside')
    if 'images' in _WHAT.value:
      result['images'] = {
        'what': 'I-AUROC by the number of good images, trained for equally '
        "many steps, the demo's backbone",
        'image_auroc': measure_images(aside),
        **run_as,
      }
    if 'pixels' in _WHAT.value:
      result['pixels'] = {
        'what': 'I-AUROC by the side of the input and the diameter of dark '
        "dots in the picture, in pixels, ImageNet's ResNet18",
        'category': _CATEGORY,
        'side_of_pictures': _SIDE,
        'darker_by': _DARKER,
        'pictures_of_each_diameter': _TESTED,
        'image_auroc': measure_pixels(aside),
        **run_as,
      }
  results.write_json(_RESULT, result)
  print(json.dumps(result, indent=2))


if __name__ == '__main__':
  cli.run(main)
