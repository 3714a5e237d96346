"""Which folders below a root are categories, and what is in each of them."""

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from simplenet_jax.data import naming, pairing
from simplenet_jax.data.naming import (
  BAD,
  GOOD,
  MASK,
  TEST,
  TRAIN,
  VALIDATION,
  Names,
)
from simplenet_jax.data.record import Category, Sample
from simplenet_jax.data.tree import EXTENSIONS, HIDDEN, Folder

# Bytes of a category's name; of 255 that file systems take.
_LONGEST_NAME = 200
_TESTED = 5  # Of so many good images beside defects, one is tested on.
# Why a mask is left out.
UNUSED_MASK = 'a mask of a good image, or of one that is left out'

_WHICH = '--config.data.normal=NAME and --config.data.defects=NAME'

_T = TypeVar('_T')


def categories(root: Folder, names: Names) -> dict[str, Folder]:
  """Returns the folder of each category, by its name.

  Args:
    root: A category's folder, or one of several.
    names: What a user says of folders whose names do not tell.

  Raises:
    ValueError: If there are none, or it cannot be told which images are good.
  """
  roles = _roles(root, names)
  inside = [one for one in roles[''] if _is_category(one, names)]
  # Whatever its name says, a folder with `train` in it is a category.
  named = roles[GOOD] + roles[BAD] + roles[MASK]
  inside += [one for one in named if _has_parts(one, names)]
  unknown = _with_images(roles[''])
  if roles[TRAIN] or roles[TEST] or (not inside and _is_category(root, names)):
    return {root.name: root}
  if root.images and not inside:
    if unknown:
      raise ValueError(
        f'{root.path} holds images, and so does {_listed(unknown)} in it; say '
        f'what these folders hold with {_WHICH} (images beside folders of '
        'defects are good)'
      )
    return {root.name: root}
  flat = [
    one for one in unknown if one.images and not _with_images(one.folders)
  ]
  if not inside and flat and (bad := _with_images(roles[BAD])):
    raise ValueError(
      f'{root.path}: by its name {_listed(bad)} holds defects, but no folder '
      f'beside it ({_listed(flat)}) is called good; say which is with {_WHICH}'
    )
  # Beside folders with `train` or `good`, loose images may be anything.
  split = any(_is_split(one, names) for one in inside)
  chosen = inside if split else inside + flat
  if not chosen:
    raise ValueError(
      f'{root.path}: no categories; expected <category>/train/{GOOD} or '
      f'train/{GOOD} in it, with images, or nothing but good images '
      f'({" ".join(EXTENSIONS)} and the like); name other folders with {_WHICH}'
    )
  return {one.name: one for one in chosen}


def read(
  name: str, folder: Folder, names: Names, left_out: dict[Path, str]
) -> Category:
  """Reads one category.

  Args:
    name: Its name.
    folder: Its folder.
    names: What a user says of folders whose names do not tell.
    left_out: Files that are not used; masks of no use are added.

  Raises:
    ValueError: See `folder.find`.
  """
  if len(os.fsencode(name)) > _LONGEST_NAME:
    raise ValueError(
      f'{folder.path}: its name is too long for files that are named after it; '
      f'at most {_LONGEST_NAME} bytes'
    )
  reader = _Reader(folder, names, left_out)
  train = sorted(reader.train())
  if not train:
    raise ValueError(
      f'{folder.path}: no training images; expected train/{GOOD}/* '
      f'({" ".join(EXTENSIONS)} and the like)'
    )
  good, kinds = reader.test()
  drawn = 0
  if _with_images(list(kinds.values())) and not reader.has_parts:
    drawn = max(1, len(train) // _TESTED) if len(train) > 3 else 0
    train, good = draw(name, train, drawn)
  return Category(
    name,
    tuple(train),
    tuple(reader.samples(sorted(good), kinds)),
    tuple(sorted(reader.validation())),
    drawn,
  )


def draw(
  name: str, given: Sequence[_T], count: int
) -> tuple[list[_T], list[_T]]:
  """Splits images at random, the same way each time: the rest, and so many.

  Args:
    name: The category's, on which the draw depends.
    given: The images.
    count: How many to draw.
  """
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  drawn = set(rng.permutation(len(given))[:count].tolist())
  return (
    [file for i, file in enumerate(given) if i not in drawn],
    [file for i, file in enumerate(given) if i in drawn],
  )


def _roles(folder: Folder, names: Names) -> dict[str, list[Folder]]:
  """Returns the folders in a folder by what their names say."""
  found = {role: [] for role in (GOOD, BAD, MASK, TRAIN, TEST, VALIDATION, '')}
  for inner in folder.folders:
    found[names.role(inner.path)].append(inner)
  return found


def _is_category(folder: Folder, names: Names) -> bool:
  bad = _with_images(_roles(folder, names)[BAD])
  return _is_split(folder, names) or bool(folder.images and bad)


def _is_split(folder: Folder, names: Names) -> bool:
  good = _roles(folder, names)[GOOD]
  return _has_parts(folder, names) or bool(good)


def _has_parts(folder: Folder, names: Names) -> bool:
  # One with test images alone is meant as a category too, and is refused by
  # name later; passing over it would leave it out of a table.
  roles = _roles(folder, names)
  return bool(roles[TRAIN] or roles[TEST])


def _with_images(folders: Sequence[Folder]) -> list[Folder]:
  return [one for one in folders if one.all_images()]


def _listed(folders: Sequence[Folder]) -> str:
  return ', '.join(one.name for one in folders)


class _Reader:
  """Finds the images of one category."""

  def __init__(self, folder: Folder, names: Names, left_out: dict[Path, str]):
    """Looks at the names of the folders in it; see `read`."""
    self._folder, self._names, self._left_out = folder, names, left_out
    self._parts = _roles(folder, names)

  @property
  def has_parts(self) -> bool:
    """Whether images are split into `train` and `test` already."""
    return bool(self._parts[TRAIN] or self._parts[TEST])

  def train(self) -> list[Path]:
    """Returns the good images."""
    if self._parts[TRAIN]:
      return self._one(TRAIN, self._good_images) or []
    if self._parts[GOOD]:
      return [i for one in self._parts[GOOD] for i in self._below(one, BAD)]
    return self._folder.images

  def validation(self) -> list[Path]:
    """Returns good images that are not to be trained on."""
    return self._one(VALIDATION, self._good_images) or []

  def test(self) -> tuple[list[Path], dict[str, Folder]]:
    """Returns good images to test on, and each kind of defect's folder."""
    if found := self._one(TEST, self._tested):
      return found
    if self._parts[TRAIN]:
      return [], {}
    named, others = self._parts[BAD], self._parts['']
    # Beside loose good images a folder's own name must say that it is bad.
    only_named = not self._parts[GOOD] or self._names.defects
    return [], self._kinds(named if only_named else named + others)

  def samples(
    self, good: Sequence[Path], kinds: dict[str, Folder]
  ) -> Iterator[Sample]:
    """Yields test images by kind, with their masks."""
    below = {k: sorted(self._below(one, GOOD)) for k, one in kinds.items()}
    images = {
      image: (kind, *image.relative_to(kinds[kind].path).with_suffix('').parts)
      for kind, some in below.items()
      for image in some
    }
    masks = self._masks(kinds)
    gone = {
      naming.same(path.stem)
      for path, reason in self._left_out.items()
      if reason != HIDDEN and path.is_relative_to(self._folder.path)
    }
    own = pairing.pair(images, masks, gone, {naming.same(i.stem) for i in good})
    used = {mask for some in own.values() for mask in some}
    self._left_out |= {m: UNUSED_MASK for m in masks if m not in used}
    for kind, some in sorted((below | {GOOD: list(good)}).items()):
      yield from (Sample(image, kind, own.get(image, ())) for image in some)

  def _one(self, role: str, read: Callable[[Folder], _T]) -> _T | None:
    """Reads the folder of a role, of which there must not be two."""
    match self._parts[role]:
      case []:
        return None
      case [one]:
        return read(one)
      case [one, other, *_]:
        raise ValueError(
          f'{self._folder.path} holds {one.name} and {other.name}, both names '
          f'of the images for {role}; keep one'
        )

  def _good_images(self, part: Folder) -> list[Path]:
    """Returns the good images of `train` or `validation`."""
    roles = _roles(part, self._names)
    if roles[GOOD]:
      return [i for one in roles[GOOD] for i in self._below(one, BAD)]
    known = roles[BAD] + roles[MASK]
    if unknown := _with_images([o for o in part.folders if o not in known]):
      raise ValueError(
        f'{part.path} has no folder called good; say what {_listed(unknown)} '
        f'in it holds with {_WHICH}'
      )
    return part.images

  def _tested(self, part: Folder) -> tuple[list[Path], dict[str, Folder]]:
    """Returns the good images of `test`, and the folders of defects."""
    if part.images:
      raise ValueError(
        f'{part.images[0]}: a test image belongs in test/{GOOD} or '
        'test/<defect>'
      )
    roles = _roles(part, self._names)
    good = [i for one in roles[GOOD] for i in self._below(one, BAD)]
    known = roles[GOOD] + roles[MASK]
    return good, self._kinds([one for one in part.folders if one not in known])

  def _kinds(self, folders: Sequence[Folder]) -> dict[str, Folder]:
    """Returns the folder of each kind of defect."""
    kinds = {}
    for one in folders:
      roles, inner = _roles(one, self._names), []
      if self._names.role(one.path) == BAD and not one.images:
        known = roles[GOOD] + roles[MASK]
        inner = _with_images([o for o in one.folders if o not in known])
      for kind in inner or [one]:
        if kind.name in kinds or kind.name == GOOD:
          raise ValueError(
            f'{kind.path}: another folder of test images is called '
            f'{kind.name}; rename one'
          )
        kinds[kind.name] = kind
    return kinds

  def _below(self, folder: Folder, other: str) -> list[Path]:
    """Returns the images in a folder and below, but masks and what is other."""
    found = list(folder.images)
    for one in folder.folders:
      if self._names.role(one.path) not in (MASK, other):
        found += self._below(one, other)
    return found

  def _masks(self, kinds: dict[str, Folder]) -> dict[Path, pairing.Parts]:
    """Returns the masks, and what of their places names their images."""
    roots: list[tuple[Folder, pairing.Parts]] = []
    for part in (self._folder, *self._parts[TEST]):
      roots += [(one, ()) for one in _roles(part, self._names)[MASK]]
    for kind, folder in kinds.items():
      roots += [
        (one, (kind, *one.path.relative_to(folder.path).parts[:-1]))
        for one in folder.below()
        if one is not folder and self._names.role(one.path) == MASK
      ]
    found = {}
    for root, before in roots:
      for one in root.below():
        above = one.path.relative_to(root.path).parts
        roles = [self._names.role(Path(name)) for name in above]
        parts = (*before, *(above[1:] if roles[:1] == [TEST] else above))
        for image in one.images:
          if GOOD in roles:
            self._left_out[image] = UNUSED_MASK
          else:
            found[image] = (*parts, image.stem)
    return found
