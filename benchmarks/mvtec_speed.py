"""Times a whole data set of MVTec AD's sizes, from pixels to trained heads.

  python -m benchmarks.mvtec_speed --precision=tensorfloat32 --seeds=1
  python -m benchmarks.mvtec_speed --precision=tensorfloat32 --seeds=5
  python -m benchmarks.mvtec_speed --precision=tensorfloat32 --files

The first two begin with decoded images in host memory and end with trained
heads; the last one begins with PNG files and ends with the table of results,
decoding and evaluation included. Weights and pixels are random: times do not
depend on them. Programs are compiled by a first epoch that is timed apart.
Meant for a GPU; `--epochs` and `--share` make it small. Adds an entry to
benchmarks/results/mvtec_speed.json.
"""

import json
import pathlib
import tempfile
import time
from typing import Any

import jax
import numpy as np
from absl import flags
from flax import nnx
from PIL import Image
from safetensors.numpy import save_file

from benchmarks import heads, timing
from benchmarks.mvtec_sizes import SIZES, Decoded
from simplenet_jax import cli, environment, train
from simplenet_jax.config import from_protocol
from simplenet_jax.evaluation import results
from simplenet_jax.models import resnet, weights
from simplenet_jax.models.precision import PRECISIONS
from simplenet_jax.training import layout

_BACKBONE = flags.DEFINE_string('backbone', 'wide_resnet50_2', 'Which ResNet.')
_PRECISION = flags.DEFINE_enum(
  'precision', 'float32', list(PRECISIONS), 'Of matrix products.'
)
_SEEDS = flags.DEFINE_integer('seeds', 1, 'Heads of each category.', 1)
_EPOCHS = flags.DEFINE_integer('epochs', 160, 'Of each head.', 1)
_SHARE = flags.DEFINE_float('share', 1.0, 'Share of the images.', 0.0, 1.0)
_CROP = flags.DEFINE_integer('crop', 288, 'Side of an input, in pixels.', 32)
_FILES = flags.DEFINE_bool('files', False, 'Whether to begin with files.')


def make_config(file: pathlib.Path):
  """Returns the reference protocol's settings, with random weights."""
  config = from_protocol()
  config.name = 'mvtec_speed'
  config.precision = _PRECISION.value
  config.seeds = tuple(range(_SEEDS.value))
  config.backbone.name = _BACKBONE.value
  config.backbone.weights = str(file)
  config.data.resize, config.data.crop = _CROP.value + 41, _CROP.value
  config.train.epochs = _EPOCHS.value
  network = resnet.ResNet(
    config.backbone.name, tuple(config.backbone.levels), rngs=nnx.Rngs(0)
  )
  save_file(weights.to_torch_names(nnx.split(network)[1]), file)
  return config


def scaled(count: int) -> int:
  """Returns a number of images at the chosen share, at least two."""
  return max(2, round(count * _SHARE.value))


def from_memory(config) -> dict:
  """Trains from decoded images; returns seconds."""
  most = max(scaled(train) for train, _, _ in SIZES.values())
  rng = np.random.default_rng(0)
  shape = (most, _CROP.value, _CROP.value, 3)
  shared = rng.integers(0, 256, shape, np.uint8)
  categories: list[Any] = [
    Decoded(name, shared, scaled(train))
    for name, (train, _, _) in SIZES.items()
  ]

  def run(epochs: int) -> tuple[float, layout.Shift]:
    config.train.epochs = epochs
    made = heads.prepare(config, categories)
    start = time.perf_counter()
    made.train(made.planned.rota)
    return time.perf_counter() - start, made.planned.rota[0][0]

  first, _ = run(1)
  whole, shift = run(_EPOCHS.value)
  return {
    'what': 'decoded images in host memory to trained heads',
    'seconds': whole,
    'seconds_of_a_first_epoch_with_compilation': first,
    'lanes': shift.lanes,
    'bank_gigabytes': shift.bank_bytes / 1e9,
  }


def from_files(config, folder: pathlib.Path) -> dict:
  """Runs everything from PNG files; returns seconds by phase."""
  config.data.root = str(folder / 'data')
  rng = np.random.default_rng(0)
  for name, (train_good, test_good, defective) in SIZES.items():
    for part, count in (
      ('train/good', train_good),
      ('test/good', test_good),
      ('test/hole', defective),
    ):
      place = folder / 'data' / name / part
      place.mkdir(parents=True)
      for index in range(scaled(count)):
        small = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))
        small.resize((1024, 1024), Image.Resampling.BICUBIC).save(
          place / f'{index:03}.png'
        )
    masks = folder / 'data' / name / 'ground_truth/hole'
    masks.mkdir(parents=True)
    mask = np.zeros((1024, 1024), np.uint8)
    mask[300:500, 400:600] = 255
    for index in range(scaled(defective)):
      Image.fromarray(mask).save(masks / f'{index:03}_mask.png')
  start = time.perf_counter()
  table = train.train_and_evaluate(config, folder / 'work')
  return {
    'what': 'PNG files of 1024 x 1024 to the table, with compilation',
    'seconds': time.perf_counter() - start,
    'seconds_by_phase': table['wall_seconds'],
  }


def main() -> None:
  """Runs one measurement and adds it to the results."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    config = make_config(folder / 'weights.safetensors')
    found = from_files(config, folder) if _FILES.value else from_memory(config)
  steps = sum(-(-scaled(train) // 8) for train, _, _ in SIZES.values())
  entry = {
    **found,
    'backbone': _BACKBONE.value,
    'precision': _PRECISION.value,
    'seeds': _SEEDS.value,
    'epochs': _EPOCHS.value,
    'share_of_images': _SHARE.value,
    'side': _CROP.value,
    'head_steps': steps * _EPOCHS.value * _SEEDS.value,
    'device': environment.device(),
    'jax': jax.__version__,
  }
  print(json.dumps(entry, indent=2))
  path = timing.RESULTS / 'mvtec_speed.json'
  known = json.loads(path.read_text())['runs'] if path.exists() else []
  results.write_json(path, {'runs': [*known, entry]})


if __name__ == '__main__':
  cli.run(main)
