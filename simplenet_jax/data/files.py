"""Image files, however a user names them, and what each of them is used as."""

import collections
import dataclasses
import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from absl import logging

from simplenet_jax.data import folder, tree
from simplenet_jax.data.category import Category
from simplenet_jax.data.images import File, place
from simplenet_jax.data.tree import BAD, GOOD, MASK, TRAIN

# In a folder of predictions.
TABLE, LINES = 'predictions.csv', 'predictions.jsonl'
RESULTS = PICTURES, MAPS = 'pictures', 'maps'

# Why an image is left out.
A_MASK = 'a mask by the name of its folder, or of an image beside it'
A_RESULT = 'in a folder of predictions'
TRAINED = 'in a folder called train, and so perhaps trained on'
NOT_GOOD = 'called bad, or beside a folder called good'
A_FOLDER = 'a folder, but a pattern names files'
UNREADABLE = 'an image that cannot be read'
MASK_OF_UNREADABLE = 'a mask of an image that cannot be read'

# What nobody would miss, or is told one by one.
_EXPECTED = (tree.HIDDEN, tree.NO_IMAGE, folder.NOT_CHOSEN, UNREADABLE)
_ORDER = 'train, held out, validation, good test, defective test, mask'
_MOST_SHOWN = 8  # Kinds of defects, or folders, that a terminal shows.


class Given(NamedTuple):
  """The images that a user names, sorted; why other files are not used."""

  images: tuple[Path, ...]
  left_out: dict[Path, str]
  root: Path

  def tell(self, use: str) -> str:
    """Warns of images that are left out, and returns all as lines."""
    return tell(dict.fromkeys(self.images, use), self.left_out, self.root)[1]


@dataclasses.dataclass(frozen=True)
class Row:
  """Files of one use, or of one reason to be left out, and one of them."""

  use: str
  count: int
  example: str
  left_out: bool


def find(root: Path, *, good: bool = False) -> Given:
  """Finds the images in a folder and the folders in it.

  Masks and predictions' pictures and maps are left out; for `good` images, so
  are folders called bad or train, and all beside one called good.
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
      if inner.role == MASK:
        why = A_MASK
      elif good and inner.role == TRAIN:
        why = TRAINED
      elif (good and inner.role == BAD) or (beside and inner.role != GOOD):
        why = NOT_GOOD
      elif predicted and inner.name in RESULTS:
        why = A_RESULT
      else:
        enter(inner)
        continue
      left_out.update(dict.fromkeys(inner.all_images(), why))

  enter(whole)
  return _once(images, left_out, root, f'{root}: no images in it')


def locate(given: str, flag: str, *, good: bool = False) -> Given:
  """Finds the images that a flag names: a file, a folder, or `parts/*.png`."""
  if not given:
    raise FileNotFoundError(f'{flag} is empty; give a file or a folder')
  # Leaves a name alone that only begins with a tilde.
  path = Path(os.path.expanduser(given))  # noqa: PTH111
  if path.is_dir():
    return find(path, good=good)
  if path.exists():
    return Given((path,), {}, path.parent)
  fixed = len(Path(str(path).partition('*')[0]).parts)
  images, left_out = [], {}
  for name in glob.glob(str(path), recursive=True):  # noqa: PTH207
    one = Path(name)
    if one.is_dir():
      if '**' not in given:  # Else what is in it is named as well.
        left_out[one] = A_FOLDER
    elif why := tree.why_no_image(one):
      left_out[one] = why
    elif any(tree.role_of(Path(p)) == MASK for p in one.parts[fixed:-1]):
      left_out[one] = A_MASK
    else:
      images.append(one)
  parents = [one.parent for one in (*images, *left_out)] or [path]
  missing = f'{flag}={given}: no such file, folder or files'
  return _once(images, left_out, Path(os.path.commonpath(parents)), missing)


def _once(
  images: list[Path], left_out: dict[Path, str], root: Path, missing: str
) -> Given:
  """Takes each file once, whatever names links give it."""
  left_out |= dict.fromkeys(tree.masks_beside(images), A_MASK)
  images = sorted({*images} - left_out.keys())
  again = tree.repeated(images)
  left_out |= dict.fromkeys(again, tree.TWICE)
  if not images:
    others = [f'; {p} is left out: {why}' for p, why in left_out.items()]
    raise FileNotFoundError(''.join([missing, *others[:1]]))
  return Given(tuple(p for p in images if p not in again), left_out, root)


def uses(categories: Iterable[Category]) -> dict[File, str]:
  """Returns what a run uses each image and mask as."""
  found: dict[File, str] = {}
  for one in categories:
    held = 'held out' if one.held_out else 'validation'
    found |= dict.fromkeys(one.train, 'train')
    found |= dict.fromkeys(one.validation, held)
    for sample in one.test:
      bad = f'defective test: {sample.defect}'
      found[sample.path] = bad if sample.label else 'good test'
      found |= dict.fromkeys(sample.masks, 'mask')
  return found


def tell(
  uses: Mapping[File, str], left_out: Mapping[Path, str], root: Path
) -> tuple[tuple[Row, ...], str]:
  """Counts files by use, and warns of images that are not used.

  Returns a row for each use, then for each reason not to be; the same as text.
  """

  def rank(item: tuple[File, str]) -> tuple[int, str]:
    return _ORDER.find(item[1].partition(':')[0]), item[1]

  found = collections.defaultdict(list)
  for file, use in sorted(uses.items(), key=rank):
    found[use, False].append(_below(file, root))
  for path, why in sorted(left_out.items()):
    found[why, True].append(_below(path, root))
  for (why, out), names in found.items():
    if out and why not in _EXPECTED:
      folders = {name.rpartition('/')[0] or '.': None for name in names}
      places = ', '.join([*folders][:_MOST_SHOWN])
      places += ' and others' * (len(folders) > _MOST_SHOWN)
      logging.warning(
        f'{root}: left out: {why}: {len(names)} in {places}, such as {names[0]}'
      )
  rows = [Row(use, len(n), n[0], out) for (use, out), n in found.items()]
  kinds = [row for row in rows if row.use.startswith('defective test: ')]
  shown = list(rows)
  if len(kinds) > _MOST_SHOWN:
    first, count = rows.index(kinds[0]), sum(kind.count for kind in kinds)
    use = f'defective test: {len(kinds)} kinds'
    together = dataclasses.replace(kinds[0], use=use, count=count)
    shown[first : first + len(kinds)] = [together]
  lines = (
    f'  {row.count:7,}  {"left out: " if row.left_out else ""}{row.use}, such '
    f'as {row.example}'
    for row in shown
  )
  return tuple(rows), '\n'.join(lines)


def _below(file: File, root: Path) -> str:
  if isinstance(file, Path) and file.is_relative_to(root):
    return file.relative_to(root).as_posix()
  return str(place(file))
