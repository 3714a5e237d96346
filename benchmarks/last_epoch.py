"""Last epochs against the best test epoch of the reference, on real images.

  python -m benchmarks.last_epoch --root=MVTEC --weights=FOLDER

MVTEC holds categories in MVTec AD's layout, FOLDER resnet18.safetensors and
resnet50.safetensors. The recipe was chosen on the first category, with the
ablation of the first network, and is confirmed on the second. Writes
results to benchmarks/results/last_epoch/; --reduced takes small images, narrow
heads and bfloat16 products, for about an hour and a half on two CPU cores. What
is finished in --workdir is not done again.
"""

import pathlib
import shutil
from typing import Any

from absl import flags

from benchmarks import timing
from configs.study import ablation, last_epoch
from simplenet_jax import cli
from simplenet_jax.fields import PRECISIONS
from simplenet_jax.sweeps import experiment

_ROOT = flags.DEFINE_string('root', None, 'The data set.')
_WEIGHTS = flags.DEFINE_string('weights', None, 'The folder of weights.')
_WORKDIR = flags.DEFINE_string('workdir', 'runs/last_epoch', 'Of the runs.')
_NETWORKS = flags.DEFINE_list('networks', ['resnet18', 'resnet50'], 'Which.')
_CATEGORIES = flags.DEFINE_list(
  'categories', ['screw', 'transistor'], 'To choose on, and to confirm on.'
)
_SEEDS = flags.DEFINE_integer('seeds', 5, 'How many.', 2)
_REDUCED = flags.DEFINE_bool('reduced', False, 'Whether to do it in small.')
_PRECISION = flags.DEFINE_enum(
  'precision', None, PRECISIONS, "Of the products; else the study's own."
)
flags.mark_flags_as_required(['root', 'weights'])

FOLDER = timing.RESULTS / 'last_epoch'


def configure(study: Any, network: str, category: str) -> Any:
  """Returns the settings of a study of one network and one category."""
  config = study.get_config('small' if _REDUCED.value else None)
  base = config.base
  base.seeds = tuple(range(_SEEDS.value))
  base.precision = _PRECISION.value or base.precision
  base.data.root, base.data.categories = _ROOT.value, (category,)
  base.backbone.name = network
  base.backbone.weights = str(
    pathlib.Path(str(_WEIGHTS.value), f'{network}.safetensors')
  )
  return config


def main() -> None:
  """Runs the studies, part by part."""
  FOLDER.mkdir(parents=True, exist_ok=True)
  parts = [
    f'{network}-{category}'
    for category in _CATEGORIES.value
    for network in _NETWORKS.value
  ]
  # Studies of the same images share their runs of the reference.
  for part, study in [(parts[0], ablation), *((p, last_epoch) for p in parts)]:
    config = configure(study, *part.split('-', 1))
    workdir = pathlib.Path(_WORKDIR.value, part)
    experiment.run(config, workdir)
    for suffix in ('json', 'md', 'png'):
      source = workdir / f'{config.name}.{suffix}'
      shutil.copyfile(source, FOLDER / f'{config.name}-{part}.{suffix}')


if __name__ == '__main__':
  cli.run(main)
