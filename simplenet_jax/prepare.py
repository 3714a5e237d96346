"""Prepares a data set for TFDS, without TensorFlow.

  python -m simplenet_jax.prepare --dataset=mvtec_ad
  python -m simplenet_jax.prepare --dataset=cifar10

The result is read by `tfds.builder(...).as_data_source()` and by
--config.data.source=tfds.
"""

from absl import flags

from simplenet_jax import cli

_DATASET = flags.DEFINE_string(
  'dataset', '', 'Which: mvtec_ad or cifar10 (TFDS: cifar10_one_class).'
)
_CONFIGS = flags.DEFINE_list(
  'categories',
  [],
  'Of which categories; if not given, mvtec_ad has all in one, cifar10 each.',
)
_DATA_DIR = flags.DEFINE_string(
  'tfds_dir', '', "Where prepared data sets lie; TFDS's place if not given."
)
_MANUAL_DIR = flags.DEFINE_string(
  'manual_dir', 'data', "TFDS's manual directory: where the folder mvtec lies."
)
cli.require('dataset')


def main() -> None:
  """Prepares the configs that are not prepared yet."""
  # Wrong flags are told at once, not after the seconds that imports take.
  import tensorflow_datasets as tfds

  from simplenet_jax.data import prepared
  from simplenet_jax.progress import console

  dataset, manual = _DATASET.value, _MANUAL_DIR.value
  known = prepared.configs(dataset)
  default = ['all'] if 'all' in known else known
  names = _CONFIGS.value or default
  if unknown := sorted(set(names) - set(known)):
    raise ValueError(
      f'--categories: {dataset} has no {", ".join(unknown)}; there are '
      f'{", ".join(known)}'
    )
  for name in names:
    builder = prepared.builder(dataset, name, _DATA_DIR.value)
    if builder.data_path.exists():
      console.print(f'{builder.data_path}: is prepared')
      continue
    console.print(f'Prepares {dataset}, {name}: {builder.data_path}')
    try:
      builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual)
      )
    # TFDS says in many ways that data is missing or cannot be downloaded.
    except Exception as error:
      raise ValueError(f'{dataset}, {name}: {error}') from error
  console.print(
    'Reads as tfds.builder(...).as_data_source(), and with '
    '--config.data.source=tfds'
  )


if __name__ == '__main__':
  cli.run(main)
