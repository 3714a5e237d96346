"""Image files, however a user names them."""

import glob
import os
from pathlib import Path

from simplenet_jax.data.folder import EXTENSIONS

# In a folder of predictions.
TABLE = 'predictions.csv'
RESULTS = PICTURES, MAPS = 'pictures', 'maps'


def find(root: Path) -> list[Path]:
  """Returns the images in a folder and the folders in it, sorted.

  Links to folders are not followed. Hidden files and folders are passed over,
  as are MVTec's masks (`ground_truth`) and, beside a table of predictions, what
  they left.

  Raises:
    FileNotFoundError: If there are none.
  """
  found = []
  for folder, inner, files in os.walk(root):
    passed = {'ground_truth', *(RESULTS if TABLE in files else ())}
    inner[:] = [
      name for name in inner if not name.startswith('.') and name not in passed
    ]
    found += [
      Path(folder, name)
      for name in files
      if not name.startswith('.') and name.lower().endswith(EXTENSIONS)
    ]
  if not found:
    raise FileNotFoundError(f'{root}: no images ({" ".join(EXTENSIONS)}) in it')
  return sorted(found)


def locate(given: str, flag: str) -> list[Path]:
  """Returns the images that a flag names.

  Args:
    given: A file, a folder (see `find`) or a pattern such as `parts/*.png`.
    flag: Its name, for the error.

  Raises:
    FileNotFoundError: If there are none.
  """
  if not given:
    raise FileNotFoundError(f'{flag} is empty; give a file or a folder')
  # Leaves a name alone that only begins with a tilde.
  path = Path(os.path.expanduser(given))  # noqa: PTH111
  if path.is_dir():
    return find(path)
  if path.exists():
    return [path]
  names = glob.glob(str(path), recursive=True)  # noqa: PTH207
  if found := sorted(Path(name) for name in names if Path(name).is_file()):
    return found
  raise FileNotFoundError(f'{flag}={given}: no such file, folder or files')
