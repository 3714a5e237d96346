"""What reduced precision does to training and to detectors.

  python -m benchmarks.precision
  python -m benchmarks.precision --root=FOLDER --weights=resnet18.safetensors

Without --root, heads of the demo set are trained in each precision (on CPUs
TensorFloat-32 is imitated, by rounding factors to its 10 bits) and with other
seeds; their losses are compared. Writes benchmarks/results/precision.json.

With --root, a folder of categories in MVTec AD's layout, heads are trained for
a few epochs of single images and with more noise, to leave chance behind soon;
then every test image is scored in float32 and in bfloat16. Writes
benchmarks/results/detector_precision.json.
"""

import csv
import pathlib
import statistics
import tempfile
from typing import Any

import numpy as np
from absl import flags

from benchmarks import timing
from simplenet_jax import cli, train
from simplenet_jax.config import describe_protocol, from_protocol, load_config
from simplenet_jax.data import dataset
from simplenet_jax.detector import Detector
from simplenet_jax.evaluation import metrics

_DATA = flags.DEFINE_string('data', 'data/demo', 'Where the demo set is kept.')
_EPOCHS = flags.DEFINE_integer('epochs', 40, 'Of the heads of the demo.', 1)
_ROOT = flags.DEFINE_string('root', None, 'A data set of real images.')
_BACKBONE = flags.DEFINE_string('backbone', 'resnet18', 'For real images.')
_WEIGHTS = flags.DEFINE_string('weights', '', "The backbone's; empty: V1.")

CASES = {
  'float32': {},
  'tensorfloat32': {'precision': 'tensorfloat32'},
  'bfloat16': {'precision': 'bfloat16'},
  'float32, features in bfloat16': {'bank.dtype': 'bfloat16'},
  'float32, other seeds': {'seeds': (2, 3)},
}
CATEGORIES = ('capsule', 'gasket', 'wood')


def trained(
  changes: dict[str, Any], workdir: pathlib.Path
) -> tuple[dict, np.ndarray]:
  """Trains; returns the results and losses `[category, seed, epoch]`."""
  config = load_config('demo')
  config.name, config.seeds = 'precision', (0, 1)
  config.data.root, config.data.categories = _DATA.value, CATEGORIES
  config.train.epochs = _EPOCHS.value
  config.evaluation.pictures = 0
  config.engine.tensorboard = False
  config.update_from_flattened_dict(changes)
  table = train.train_and_evaluate(config, workdir)
  losses = []
  for name in CATEGORIES:
    with (workdir / f'curves/{name}.csv').open() as file:
      losses.append([float(row['loss']) for row in csv.DictReader(file)])
  return table, np.reshape(losses, (len(CATEGORIES), 2, _EPOCHS.value))


def of_training(folder: pathlib.Path) -> dict[str, Any]:
  """Compares heads of the demo set, by case."""
  found, exact = {}, None
  for name, changes in CASES.items():
    table, losses = trained(changes, folder / name)
    exact = losses if exact is None else exact
    differences = np.abs(losses - exact)
    found[name] = {
      'largest_difference_of_an_epochs_loss': float(differences.max()),
      'of_the_first_epochs_loss': float(differences[:, :, 0].max()),
    }
    for metric in ('image_auroc', 'pixel_auroc'):
      figures = [
        table['categories'][one]['last'][metric]['mean'] for one in CATEGORIES
      ]
      found[name][metric] = statistics.fmean(figures)
      found[name][f'{metric}_by_category'] = figures
  return found


def short_schedule() -> Any:
  """Returns the reference protocol's settings with a short schedule."""
  config = from_protocol()
  config.name, config.data.root = 'detector_precision', _ROOT.value
  config.backbone.name = _BACKBONE.value
  config.backbone.weights = _WEIGHTS.value
  config.train.epochs, config.train.batch_size = 2, 1
  config.train.sigma, config.evaluation.every = 0.1, 2
  config.evaluation.pictures = 0
  config.engine.tensorboard = False
  return config


def of_a_detector(detector: pathlib.Path, category: Any) -> dict[str, Any]:
  """Compares a category's detector in two precisions."""
  pixels = np.stack(
    [category.test_pixels(index) for index in range(len(category.test))]
  )
  masks = np.stack(
    [category.mask(index) for index in range(len(category.test))]
  )
  found = {
    precision: Detector.load(detector, precision=precision).infer(pixels)
    for precision in ('float32', 'bfloat16')
  }
  (exact_maps, exact), (maps, scores) = found.values()
  return {
    'test_images': len(pixels),
    'range_of_scores': float(np.ptp(exact)),
    'largest_difference_of_scores': float(np.abs(scores - exact).max()),
    'largest_difference_of_maps': float(np.abs(maps - exact_maps).max()),
    'image_auroc': {
      name: metrics.auroc(category.labels, s) for name, (_, s) in found.items()
    },
    'pixel_auroc': {
      name: metrics.auroc(masks, m) for name, (m, _) in found.items()
    },
  }


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    if not _ROOT.value:
      found = {
        'what': 'heads of the demo set, mean of two seeds, last epoch; losses '
        'against those of float32',
        'categories': CATEGORIES,
        'epochs': _EPOCHS.value,
        'cases': of_training(folder),
      }
    else:
      config = short_schedule()
      train.train_and_evaluate(config, folder)
      found = {
        'what': 'scores of detectors in float32 and bfloat16; differences in '
        'logits',
        'backbone': _BACKBONE.value,
        'protocol': describe_protocol(config),
        'categories': {
          one.name: of_a_detector(folder / 'detectors' / one.name, one)
          for one in dataset.open_categories(config.data).categories
        },
      }
  timing.write('detector_precision' if _ROOT.value else 'precision', found)


if __name__ == '__main__':
  cli.run(main)
