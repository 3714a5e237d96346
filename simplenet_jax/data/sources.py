"""Where a run's images come from, by the `data` section of its config."""

from collections.abc import Sequence
from pathlib import Path

from simplenet_jax.data import cifar10, demo, folder, inputs, prepared, visa
from simplenet_jax.progress import console
from simplenet_jax.protocols import Config

_DEMO_VALIDATION = 20  # Good images of each demo category for its threshold.


def open_categories(data: Config) -> list[inputs.Inputs]:
  """Finds the categories and checks the headers of all their files.

  Args:
    data: The `data` section of a config.

  Returns:
    The categories, in the order of the data set; a demo set is generated where
    it is missing.

  Raises:
    FileNotFoundError: If the data set is not there.
    ValueError: If the root is not set, a category is not there or has no
      training images, or a file is not what it should be.
  """
  # Unquoted names arrive from the command line as one string, or as numbers.
  names = [n for entry in data.categories for n in str(entry).split(',') if n]
  found = _find(data, names)
  for category in found:
    _check_name(data.root, category.name)
  return [
    inputs.prepare(
      folder.hold_out(category, data.held_out, data.held_out_least), data
    )
    for category in found
  ]


def _find(data: Config, names: Sequence[str]) -> tuple[folder.Category, ...]:
  if data.source == 'tfds':
    console.print(f'Data: {data.dataset} as TFDS prepared it; reads its names')
    return prepared.find_categories(data.dataset, data.tfds_dir, names)
  root = Path(data.root).expanduser()
  if not data.root:
    raise ValueError('--config.data.root is empty; give the folder of images')
  if data.source == 'demo':
    root = root / f'seed{data.demo_seed}'
    console.print(f'Data: {root} (generated where missing)')
    demo.generate(root, seed=data.demo_seed, validation=_DEMO_VALIDATION)
  elif not root.is_dir():
    raise FileNotFoundError(
      f'{root}: no such folder; {_how(data.dataset)} or name another with '
      '--config.data.root=FOLDER'
    )
  if data.source == 'cifar10':
    return cifar10.find_categories(root, names)
  if (root / visa.SPLIT).is_file():
    return visa.find_categories(root, names)
  return folder.find_categories(root, names)


def _check_name(root: str, name: str) -> None:
  if name == 'mean':
    raise ValueError(
      f"{root}: a category is called 'mean', as the tables' row over all is; "
      'rename it, or choose others with --config.data.categories'
    )
  # Results are files of this name.
  if not name or name.startswith('.') or set(name) & set('/\\'):
    raise ValueError(
      f'{root}: a category is called {name!r}, which names no file; rename it'
    )


def _how(dataset: str) -> str:
  """Returns how a data set is put where it is looked for."""
  if not dataset:
    return 'put images there, one folder per category with train/good in it,'
  return f'get it (python -m simplenet_jax.download --dataset={dataset})'
