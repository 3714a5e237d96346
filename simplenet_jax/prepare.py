"""Prepares a data set for TFDS, without TensorFlow.

  simplenet prepare --dataset=mvtec_ad
  simplenet prepare --dataset=cifar10

The result is read by `tfds.builder(...).as_data_source()` and by
--config.data.source=tfds. CIFAR-10 is downloaded where it is not there; MVTec
AD has to be there (simplenet download).
"""

import shlex
from pathlib import Path

from absl import flags

from simplenet_jax import cli
from simplenet_jax.console import console

_DATASET = flags.DEFINE_enum(
  'dataset', None, ['mvtec_ad', 'cifar10'], 'cifar10 becomes cifar10_one_class.'
)
_CATEGORIES = flags.DEFINE_list(
  'categories', [], 'Which ones; else mvtec_ad has all in one, cifar10 each.'
)
_TFDS_DIR = flags.DEFINE_string(
  'tfds_dir', '', "Where prepared data sets lie; TFDS's place if not given."
)
_MANUAL_DIR = flags.DEFINE_string(
  'manual_dir', 'data', "TFDS's manual directory, with mvtec or cifar10 in it."
)
cli.require('dataset', 'manual_dir')


def main() -> None:
  """Prepares the configs that are not prepared yet."""
  # Wrong flags are refused before the imports, which take seconds.
  from simplenet_jax.data import tfds
  from simplenet_jax.data.download import ARCHIVES

  manual = Path(_MANUAL_DIR.value or '').expanduser()
  dataset, names = _DATASET.value or '', _CATEGORIES.value
  tfds.prepare(dataset, names, _TFDS_DIR.value, manual)
  name, place = ARCHIVES[dataset].folder, _TFDS_DIR.value
  line = f'simplenet train --config={name} --config.data.source=tfds'
  line += f' --config.data.tfds_dir={shlex.quote(place)}' if place else ''
  console.print(f'Go on with: {line}')


if __name__ == '__main__':
  cli.run(main)
