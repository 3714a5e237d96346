"""Where a run's images come from, by the `data` section of its config."""

from pathlib import Path

from simplenet_jax.data import demo, folder, inputs
from simplenet_jax.progress import console
from simplenet_jax.protocols import Config

_DEMO_VALIDATION = 20  # Good images of each demo category for its threshold.


def open_categories(data: Config) -> list[inputs.Inputs]:
  """Finds the categories and checks the headers of all their files.

  Args:
    data: The `data` section of a config.

  Returns:
    The categories, sorted by name; a demo set is generated where it is missing.

  Raises:
    FileNotFoundError: If the root is no folder.
    ValueError: If the root is not set, a category is not there or has no
      training images, or a file is not what it should be.
  """
  root = Path(data.root).expanduser()
  if not data.root:
    raise ValueError('--config.data.root is empty; give the folder of images')
  if data.source == 'demo':
    root = root / f'seed{data.demo_seed}'
    console.print(f'Data: {root} (generated where missing)')
    demo.generate(root, seed=data.demo_seed, validation=_DEMO_VALIDATION)
  elif not root.is_dir():
    origin = f' (to be had from {data.origin})' if data.origin else ''
    raise FileNotFoundError(
      f'{root}: no such folder; put the data set{origin} there, one folder per '
      'category with train/good in it, or name another with '
      '--config.data.root=FOLDER'
    )
  # Unquoted names arrive from the command line as one string, or as numbers.
  names = [n for entry in data.categories for n in str(entry).split(',') if n]
  found = folder.find_categories(root, names)
  if any(category.name == 'mean' for category in found):
    raise ValueError(
      f"{root}: a category is called 'mean', as the tables' row over all is; "
      'rename it, or choose others with --config.data.categories'
    )
  return [
    inputs.prepare(
      folder.hold_out(category, data.held_out, data.held_out_least), data
    )
    for category in found
  ]
