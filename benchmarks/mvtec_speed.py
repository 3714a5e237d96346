"""Times a whole data set of MVTec AD's sizes, from files to the table.

  python -m benchmarks.mvtec_speed --precision=tensorfloat32 --seeds=1
  python -m benchmarks.mvtec_speed --precision=tensorfloat32 --seeds=5

PNG files of 1024 x 1024 are decoded, features extracted, heads trained and
evaluated. Meant for a GPU; `--epochs` and `--share` make it small. Adds an
entry to benchmarks/results/mvtec_speed.json.
"""

import json
import pathlib
import tempfile
import time

import jax
from absl import flags

from benchmarks import random_data, timing
from simplenet_jax import cli, environment, train
from simplenet_jax.evaluation import results

_BACKBONE = flags.DEFINE_string('backbone', 'wide_resnet50_2', 'Which ResNet.')
_PRECISION = flags.DEFINE_enum(
  'precision',
  'float32',
  ['float32', 'tensorfloat32', 'bfloat16'],
  'Of matrix products.',
)
_SEEDS = flags.DEFINE_integer('seeds', 1, 'Heads of each category.', 1)
_EPOCHS = flags.DEFINE_integer('epochs', 160, 'Of each head.', 1)
_SHARE = flags.DEFINE_float('share', 1.0, 'Share of the images.', 0.0, 1.0)
_CROP = flags.DEFINE_integer('crop', 288, 'Side of an input, in pixels.', 32)


def main() -> None:
  """Runs one measurement and adds it to the results."""
  sizes = {}
  for name, (good, normal, defective) in random_data.MVTEC.items():
    counts = (
      max(2, round(n * _SHARE.value)) for n in (good, normal, defective)
    )
    sizes[name] = tuple(counts)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    config = random_data.make_config(
      folder, sizes, _BACKBONE.value, _PRECISION.value, _CROP.value
    )
    config.seeds = tuple(range(_SEEDS.value))
    config.train.epochs = _EPOCHS.value
    start = time.perf_counter()
    table = train.train_and_evaluate(config, folder / 'work')
    seconds = time.perf_counter() - start
  steps = sum(-(-train // 8) for train, _, _ in sizes.values())
  entry = {
    'what': 'PNG files of 1024 x 1024 to the table, with compilation',
    'seconds': seconds,
    'seconds_by_phase': table['wall_seconds'],
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
