"""What reduced precision does to training.

  python -m benchmarks.precision
  python -m benchmarks.precision --root=data/mvtec --category=screw \
    --category=transistor --weights=resnet18.safetensors

Heads are trained in each precision (on CPUs TensorFloat-32 is imitated, by
rounding factors to its 10 bits) and with other seeds; their losses and figures
are compared: of the demo set, or with --root of real parts, by the reference
protocol with a ResNet18. Writes benchmarks/results/precision.json, of real
parts precision_real.json (precision_real_gpu.json on a GPU).
"""

import pathlib
import statistics
import tempfile
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks import timing
from simplenet_jax import cli, train
from simplenet_jax.config import Config, from_protocol, load_config
from simplenet_jax.evaluation import run_files

_DATA = flags.DEFINE_string('data', 'data/demo', 'Where the demo set is kept.')
_ROOT = flags.DEFINE_string(
  'root', '', 'A folder of real parts, else the demo.'
)
_CATEGORY = flags.DEFINE_multi_string(
  'category', ['capsule', 'gasket', 'wood'], 'What is trained.'
)
_WEIGHTS = flags.DEFINE_string('weights', '', "A ResNet18's, for real parts.")
_SIDE = flags.DEFINE_integer('side', 288, "Of real parts' images.", 32)
_EPOCHS = flags.DEFINE_integer('epochs', 40, 'Of the heads.', 1)
_SEEDS = flags.DEFINE_integer('seeds', 2, 'Heads of each category.', 1)
_ONLY = flags.DEFINE_multi_string('only', [], 'Which cases; all: none.')
CASES: dict[str, dict[str, Any]] = {
  'float32': {},
  'tensorfloat32': {'precision': 'tensorfloat32'},
  'bfloat16': {'precision': 'bfloat16'},
  'bfloat16, kept in float32': {
    'precision': 'bfloat16',
    'bank.dtype': 'float32',
  },
  'float32, features in bfloat16': {'bank.dtype': 'bfloat16'},
  'float32, backbone in bfloat16': {'backbone.precision': 'bfloat16'},
  'float32, other seeds': {},
}


def settings() -> Config:
  """Returns what all cases have in common."""
  if not _ROOT.value:
    config = load_config('demo:fast')
    config.data.root = _DATA.value
  else:
    config = from_protocol('reference')
    config.data.root = _ROOT.value
    config.data.resize = round(_SIDE.value * 329 / 288)
    config.data.crop = _SIDE.value
    config.backbone.name = 'resnet18'
    config.backbone.weights = _WEIGHTS.value
  config.name, config.data.categories = 'precision', tuple(_CATEGORY.value)
  config.seeds = tuple(range(_SEEDS.value))
  config.train.epochs = _EPOCHS.value
  config.evaluation.pictures = 0
  config.engine.tensorboard = False
  return config


def trained(name: str, workdir: pathlib.Path) -> Any:
  """Trains; returns categories' results, losses `[category, seed, epoch]`."""
  config = settings()
  if name == 'float32, other seeds':
    config.seeds = tuple(seed + len(config.seeds) for seed in config.seeds)
  config.update_from_flattened_dict(CASES[name])
  table = train.train_and_evaluate(config, workdir)
  losses = [
    [*run_files.read_losses(workdir, one).values()] for one in _CATEGORY.value
  ]
  return table['categories'], np.array(losses)


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  cases, exact = {}, None
  with tempfile.TemporaryDirectory() as folder:
    for name in _ONLY.value or CASES:
      table, losses = trained(name, pathlib.Path(folder) / name)
      exact = losses if exact is None else exact
      differences = np.abs(losses - exact)
      cases[name] = {
        'largest_difference_of_an_epochs_loss': float(differences.max()),
        'of_the_first_epochs_loss': float(differences[:, :, 0].max()),
      }
      for metric in ('image_auroc', 'pixel_auroc'):
        figures = [
          table[one]['last'][metric]['mean'] for one in _CATEGORY.value
        ]
        cases[name][metric] = statistics.fmean(figures)
        cases[name][f'{metric}_by_category'] = figures
  file = 'precision_real' if _ROOT.value else 'precision'
  timing.write(
    file if jax.default_backend() == 'cpu' else f'{file}_gpu',
    {
      'what': 'heads in reduced precision, mean of seeds, last epoch; losses '
      f'against those of {next(iter(cases))}',
      'data': 'real parts' if _ROOT.value else 'the demo set',
      'backbone': settings().backbone.name,
      'side': settings().data.crop,
      'categories': _CATEGORY.value,
      'seeds': _SEEDS.value,
      'epochs': _EPOCHS.value,
      'cases': cases,
    },
  )


if __name__ == '__main__':
  cli.run(main)
