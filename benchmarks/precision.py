"""What reduced precision does to training.

  python -m benchmarks.precision

Heads of the demo set are trained in each precision (on CPUs TensorFloat-32 is
imitated, by rounding factors to its 10 bits) and with other seeds; their losses
are compared. Writes benchmarks/results/precision.json.
"""

import pathlib
import statistics
import tempfile
from typing import Any

import numpy as np
from absl import flags

from benchmarks import timing
from simplenet_jax import cli, train
from simplenet_jax.config import load_config
from simplenet_jax.evaluation import run_files

_DATA = flags.DEFINE_string('data', 'data/demo', 'Where the demo set is kept.')
_EPOCHS = flags.DEFINE_integer('epochs', 40, 'Of the heads of the demo.', 1)
CASES = {
  'float32': {},
  'tensorfloat32': {'precision': 'tensorfloat32'},
  'bfloat16': {'precision': 'bfloat16'},
  'bfloat16, kept in float32': {
    'precision': 'bfloat16',
    'bank.dtype': 'float32',
  },
  'float32, features in bfloat16': {'bank.dtype': 'bfloat16'},
  'float32, other seeds': {'seeds': (2, 3)},
}
CATEGORIES = ('capsule', 'gasket', 'wood')


def trained(changes: dict[str, Any], workdir: pathlib.Path) -> Any:
  """Trains; returns categories' results, losses `[category, seed, epoch]`."""
  config = load_config('demo:fast')
  config.name, config.seeds = 'precision', (0, 1)
  config.data.root, config.data.categories = _DATA.value, CATEGORIES
  config.train.epochs = _EPOCHS.value
  config.evaluation.pictures = 0
  config.engine.tensorboard = False
  config.update_from_flattened_dict(changes)
  table = train.train_and_evaluate(config, workdir)
  losses = [[*run_files.read_losses(workdir, x).values()] for x in CATEGORIES]
  return table['categories'], np.array(losses)


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  cases, exact = {}, None
  with tempfile.TemporaryDirectory() as folder:
    for name, changes in CASES.items():
      table, losses = trained(changes, pathlib.Path(folder) / name)
      exact = losses if exact is None else exact
      differences = np.abs(losses - exact)
      cases[name] = {
        'largest_difference_of_an_epochs_loss': float(differences.max()),
        'of_the_first_epochs_loss': float(differences[:, :, 0].max()),
      }
      for metric in ('image_auroc', 'pixel_auroc'):
        figures = [table[one]['last'][metric]['mean'] for one in CATEGORIES]
        cases[name][metric] = statistics.fmean(figures)
        cases[name][f'{metric}_by_category'] = figures
  timing.write(
    'precision',
    {
      'what': 'heads of the demo set, mean of two seeds, last epoch; losses '
      'against those of float32',
      'categories': CATEGORIES,
      'epochs': _EPOCHS.value,
      'cases': cases,
    },
  )


if __name__ == '__main__':
  cli.run(main)
