"""Image files, however a user names them."""

import dataclasses
import glob
import os
from pathlib import Path

from simplenet_jax.data import accounts, tree
from simplenet_jax.data.naming import BAD, GOOD, MASK, TRAIN, Names
from simplenet_jax.data.record import File

# In a folder of predictions.
TABLE = 'predictions.csv'
RESULTS = PICTURES, MAPS = 'pictures', 'maps'

# Why an image is left out.
A_MASK = 'a mask by the name of its folder, or of an image beside it'
A_RESULT = 'in a folder of predictions'
TRAINED = 'in a folder called train, and so perhaps trained on'
NOT_GOOD = 'called bad, or beside a folder called good'
A_FOLDER = 'a folder, but a pattern names files'
TWICE = 'another name of an image that is there already'


@dataclasses.dataclass(frozen=True)
class Given:
  """The images that a user names.

  Attributes:
    images: Sorted, each file once.
    left_out: Why which other files are not used.
    root: The folder that all are below.
  """

  images: tuple[Path, ...]
  left_out: dict[Path, str]
  root: Path

  def tell(self, use: str) -> str:
    """Warns of images that are left out, and returns all as lines.

    Args:
      use: What the images are used as.
    """
    accounts.warn(self.left_out, self.root)
    uses: dict[File, str] = dict.fromkeys(self.images, use)
    return accounts.tell(accounts.rows(uses, self.left_out, self.root))


def find(root: Path, *, good: bool = False) -> Given:
  """Finds the images in a folder and the folders in it.

  Links are followed. Masks are left out, as are, beside a table of predictions,
  the pictures and maps that belong to it.

  Args:
    root: The folder.
    good: Whether only good images are wanted that were not trained on: then
      folders called bad or train are left out, and all beside one called good.

  Raises:
    FileNotFoundError: If there are none.
  """
  whole, left_out = tree.read(root)
  images: list[Path] = []

  def enter(folder: tree.Folder) -> None:
    roles = {one.path: Names().role(one.path) for one in folder.folders}
    beside = good and GOOD in roles.values()
    if beside:
      left_out.update(dict.fromkeys(folder.images, NOT_GOOD))
    else:
      images.extend(folder.images)
    predicted = (folder.path / TABLE).exists()
    for inner in folder.folders:
      role = roles[inner.path]
      if role == MASK:
        left_out.update(dict.fromkeys(inner.all_images(), A_MASK))
      elif good and role == TRAIN:
        left_out.update(dict.fromkeys(inner.all_images(), TRAINED))
      elif (good and role == BAD) or (beside and role != GOOD):
        left_out.update(dict.fromkeys(inner.all_images(), NOT_GOOD))
      elif predicted and inner.name in RESULTS:
        left_out.update(dict.fromkeys(inner.all_images(), A_RESULT))
      else:
        enter(inner)

  enter(whole)
  given = _once(images, left_out, root)
  if not given.images:
    raise FileNotFoundError(f'{root}: no images in it{_why(left_out)}')
  return given


def locate(given: str, flag: str, *, good: bool = False) -> Given:
  """Returns the images that a flag names.

  Args:
    given: A file, a folder (see `find`) or a pattern such as `parts/*.png`.
    flag: Its name, for the error.
    good: See `find`.

  Raises:
    FileNotFoundError: If there are none.
  """
  if not given:
    raise FileNotFoundError(f'{flag} is empty; give a file or a folder')
  # Leaves a name alone that only begins with a tilde.
  path = Path(os.path.expanduser(given))  # noqa: PTH111
  if path.is_dir():
    return find(path, good=good)
  if path.exists():
    return Given((path,), {}, path.parent)
  names = glob.glob(str(path), recursive=True)  # noqa: PTH207
  paths = sorted({Path(name) for name in names})
  found = [path for path in paths if not path.is_dir()]
  left_out = {one: why for one in found if (why := tree.why_no_image(one))}
  fixed = len(Path(str(path).partition('*')[0]).parts)
  for one in found:
    if any(Names().role(Path(p)) == MASK for p in one.parts[fixed:-1]):
      left_out.setdefault(one, A_MASK)
  if '**' not in str(path):  # Else what is in them is named as well.
    left_out |= {one: A_FOLDER for one in paths if one.is_dir()}
  images = [one for one in found if one not in left_out]
  if not images:
    raise FileNotFoundError(
      f'{flag}={given}: no such file, folder or files{_why(left_out)}'
    )
  root = os.path.commonpath([one.parent for one in found])
  return _once(images, left_out, Path(root))


def _once(images: list[Path], left_out: dict[Path, str], root: Path) -> Given:
  """Takes each file once, whatever names links give it."""
  masks = tree.masks_beside(images)
  left_out |= dict.fromkeys(masks, A_MASK)
  images = sorted(set(images) - masks)
  again = tree.repeated(images)
  left_out |= dict.fromkeys(again, TWICE)
  return Given(tuple(p for p in images if p not in again), left_out, root)


def _why(left_out: dict[Path, str]) -> str:
  if not left_out:
    return ''
  path, reason = next(iter(left_out.items()))
  return f'; {path} is left out: {reason}'
