"""Last epochs against the best test epoch of the reference, on real images.

  python -m benchmarks.last_epoch --root=MVTEC --weights=FOLDER

MVTEC holds categories in MVTec AD's layout, FOLDER resnet18.safetensors and
resnet50.safetensors. The recipe was chosen on the first category and is
confirmed on the second. Writes benchmarks/results/last_epoch/ and
docs/last_epoch.md; --reduced takes small images, narrow heads and bfloat16
products, for about an hour and a half on two CPU cores. What is finished in
--workdir is not done again.
"""

import pathlib
import shutil
from typing import Any

from absl import flags

from benchmarks import last_epoch_page, timing
from configs.study import last_epoch
from simplenet_jax import cli, rules
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
  'precision', None, rules.PRECISIONS, "Of the products; else the study's own."
)
_ABOUT = flags.DEFINE_string(
  'about', '', 'Of images and weights, for the page.'
)
flags.mark_flags_as_required(['root', 'weights'])

FOLDER = timing.RESULTS / 'last_epoch'
_CONFIRMED = 'reference,fast'  # Of the study's variants.


def configure(network: str, category: str) -> Any:
  """Returns the settings of one network's and one category's part."""
  config = last_epoch.get_config('small' if _REDUCED.value else None)
  base = config.base
  base.seeds = tuple(range(_SEEDS.value))
  base.precision = _PRECISION.value or base.precision
  base.data.root, base.data.categories = _ROOT.value, (category,)
  base.backbone.name = network
  base.backbone.weights = str(
    pathlib.Path(str(_WEIGHTS.value), f'{network}.safetensors')
  )
  chosen_on = (_NETWORKS.value[0], _CATEGORIES.value[0])
  if (network, category) != chosen_on:
    config.only = _CONFIRMED
  return config


def main() -> None:
  """Runs the study, part by part."""
  FOLDER.mkdir(parents=True, exist_ok=True)
  done = []
  for category in _CATEGORIES.value:
    for network in _NETWORKS.value:
      part = f'{network}-{category}'
      workdir = pathlib.Path(_WORKDIR.value, part)
      config = configure(network, category)
      experiment.run(config, workdir)
      for suffix in ('json', 'png'):
        source = workdir / f'{config.name}.{suffix}'
        shutil.copyfile(source, FOLDER / f'{part}.{suffix}')
      done.append(part)
  last_epoch_page.write(FOLDER, done, _ABOUT.value)


if __name__ == '__main__':
  cli.run(main)
