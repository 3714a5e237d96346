"""What reduced precision does to losses and figures, on the demo's images.

  python -m benchmarks.precision

Heads with the same seeds are trained with every `--config.precision`, and with
features stored in bfloat16. On a CPU the rounding of TensorFloat-32 is
imitated. Writes benchmarks/results/precision.json; takes about ten minutes on
two CPU cores.
"""

import csv
import pathlib
import statistics
import tempfile

import numpy as np
from absl import flags

from benchmarks import timing
from configs import demo
from simplenet_jax import cli, train

_DATA = flags.DEFINE_string('data', 'data/demo', 'Where the demo set is kept.')
_EPOCHS = flags.DEFINE_integer('epochs', 24, 'Of each head.', 1)

CASES = {
  'float32': {},
  'tensorfloat32': {'precision': 'tensorfloat32'},
  'bfloat16': {'precision': 'bfloat16'},
  'float32, features in bfloat16': {'bank.dtype': 'bfloat16'},
  'float32, other seeds': {'seeds': (2, 3)},
}
CATEGORIES = ('capsule', 'gasket', 'wood')


def run(changes: dict, workdir: pathlib.Path) -> tuple[dict, np.ndarray]:
  """Trains; returns the results and losses `[category, seed, epoch]`."""
  config = demo.get_config()
  config.seeds = (0, 1)
  config.data.root = _DATA.value
  config.data.categories = CATEGORIES
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


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  found, exact = {}, None
  with tempfile.TemporaryDirectory() as folder:
    for index, (name, changes) in enumerate(CASES.items()):
      table, losses = run(changes, pathlib.Path(folder, str(index)))
      exact = losses if exact is None else exact
      figures = {
        metric: [
          table['categories'][category]['last'][metric]['mean']
          for category in CATEGORIES
        ]
        for metric in ('image_auroc', 'pixel_auroc')
      }
      found[name] = {
        'largest_difference_of_an_epochs_loss': float(
          np.abs(losses - exact).max()
        ),
        'of_the_first_epochs_loss': float(
          np.abs(losses - exact)[:, :, 0].max()
        ),
        **{m: statistics.fmean(values) for m, values in figures.items()},
        **{f'{m}_by_category': values for m, values in figures.items()},
      }
  timing.write(
    'precision',
    {
      'what': 'heads of the demo set, mean of two seeds, last epoch; losses '
      'against those of float32',
      'categories': CATEGORIES,
      'epochs': _EPOCHS.value,
      'cases': found,
    },
  )


if __name__ == '__main__':
  cli.run(main)
