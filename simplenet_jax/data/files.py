"""Image files, however a user names them, and what each of them is used as."""

import collections
import dataclasses
import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from absl import logging

from simplenet_jax.data import folder, tree
from simplenet_jax.data.category import Category
from simplenet_jax.data.images import File, place
from simplenet_jax.data.tree import BAD, GOOD, MASK, TRAIN, TWICE

# In a folder of predictions.
TABLE = 'predictions.csv'
RESULTS = PICTURES, MAPS = 'pictures', 'maps'

# Why an image is left out.
A_MASK = 'a mask by the name of its folder, or of an image beside it'
A_RESULT = 'in a folder of predictions'
TRAINED = 'in a folder called train, and so perhaps trained on'
NOT_GOOD = 'called bad, or beside a folder called good'
A_FOLDER = 'a folder, but a pattern names files'
UNREADABLE = 'an image that cannot be read'

# What nobody would miss, or is told one by one.
_EXPECTED = (tree.HIDDEN, tree.NO_IMAGE, folder.NOT_CHOSEN, UNREADABLE)
_ORDER = (
  *('train', 'held out', 'validation', 'good test', 'defective test'),
  'mask',
)
_MOST_SHOWN = 8  # Kinds of defects, or folders, that a terminal shows.


@dataclasses.dataclass(frozen=True)
class Given:
  """The images that a user names, sorted; why other files are not used."""

  images: tuple[Path, ...]
  left_out: dict[Path, str]
  root: Path

  def tell(self, use: str) -> str:
    """Warns of images that are left out, and returns all as lines."""
    warn(self.left_out, self.root)
    return tell(rows(dict.fromkeys(self.images, use), self.left_out, self.root))


@dataclasses.dataclass(frozen=True)
class Row:
  """Files with something in common: one use, or one reason to be left out.

  `example` is one of them, by its place below the root or in its data set.
  """

  use: str
  count: int
  example: str
  left_out: bool


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

  def enter(found: tree.Folder) -> None:
    beside = good and bool(found.inside(GOOD))
    if beside:
      left_out.update(dict.fromkeys(found.images, NOT_GOOD))
    else:
      images.extend(found.images)
    predicted = (found.path / TABLE).exists()
    for inner in found.folders:
      why = ''
      if inner.role == MASK:
        why = A_MASK
      elif good and inner.role == TRAIN:
        why = TRAINED
      elif (good and inner.role == BAD) or (beside and inner.role != GOOD):
        why = NOT_GOOD
      elif predicted and inner.name in RESULTS:
        why = A_RESULT
      if why:
        left_out.update(dict.fromkeys(inner.all_images(), why))
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
    good: See `find`, which raises the same error.
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
    if any(tree.Names().role(Path(p)) == MASK for p in one.parts[fixed:-1]):
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


def uses(
  categories: Iterable[Category], drawn: Sequence[str]
) -> dict[File, str]:
  """Returns what a run uses each image and mask as.

  Args:
    categories: The images, those for thresholds already held out.
    drawn: Categories whose held-out images were drawn from those to train on.
  """
  found: dict[File, str] = {}
  for one in categories:
    held = 'held out' if one.name in drawn else 'validation'
    found |= dict.fromkeys(one.train, 'train')
    found |= dict.fromkeys(one.validation, held)
    for sample in one.test:
      bad = f'defective test: {sample.defect}'
      found[sample.path] = bad if sample.label else 'good test'
      found |= dict.fromkeys(sample.masks, 'mask')
  return found


def rows(
  uses: Mapping[File, str], left_out: Mapping[Path, str], root: Path
) -> tuple[Row, ...]:
  """Counts files: a row for each use in its order, then one for each reason."""
  found = collections.defaultdict(list)
  for file, use in sorted(uses.items(), key=lambda item: _rank(item[1])):
    found[use, False].append(_below(file, root))
  for path, reason in sorted(left_out.items()):
    found[reason, True].append(_below(path, root))
  return tuple(
    Row(use, len(files), files[0], out) for (use, out), files in found.items()
  )


def tell(given: Sequence[Row]) -> str:
  """Returns rows as lines for a terminal."""
  kinds = [row for row in given if row.use.startswith('defective test: ')]
  shown = list(given)
  if len(kinds) > _MOST_SHOWN:
    use = f'defective test: {len(kinds)} kinds'
    count = sum(kind.count for kind in kinds)
    one = dataclasses.replace(kinds[0], use=use, count=count)
    shown.insert(shown.index(kinds[0]), one)
    shown = [row for row in shown if row not in kinds]
  return '\n'.join(
    f'  {row.count:7,}  {"left out: " if row.left_out else ""}{row.use}, such '
    f'as {row.example}'
    for row in shown
  )


def warn(left_out: Mapping[Path, str], root: Path) -> None:
  """Warns of images that are not used, a line for each reason."""
  by_reason = collections.defaultdict(list)
  for path, reason in sorted(left_out.items()):
    if reason not in _EXPECTED or (
      reason == tree.HIDDEN and tree.may_be_image(path)
    ):
      by_reason[reason].append(_below(path, root))
  for reason, paths in by_reason.items():
    folders = list(dict.fromkeys(path.rpartition('/')[0] for path in paths))
    more = len(folders) - _MOST_SHOWN
    places = ', '.join(one or '.' for one in folders[:_MOST_SHOWN])
    places += f' and {more} more' if more > 0 else ''
    logging.warning(
      f'{root}: left out: {reason}: {len(paths)} in {places}, such as '
      f'{paths[0]}'
    )


def _rank(use: str) -> tuple[int, str]:
  part = use.partition(':')[0]
  return _ORDER.index(part) if part in _ORDER else len(_ORDER), use


def _below(file: File, root: Path) -> str:
  """Returns where a file lies below the root, or in its data set."""
  if isinstance(file, Path) and file.is_relative_to(root):
    return file.relative_to(root).as_posix()
  return str(place(file))
