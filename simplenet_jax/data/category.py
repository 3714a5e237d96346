"""The images of one kind of object, and where they are in its folder."""

import dataclasses
import os
import re
import zlib
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from simplenet_jax.data import masks, tree
from simplenet_jax.data.images import File
from simplenet_jax.data.tree import BAD, GOOD, MASK, TEST, TRAIN, Folder, Names

# Why a mask is left out.
UNUSED_MASK = 'a mask of a good image, or of one that is left out'

WHICH = '--config.data.normal=NAME and --config.data.defects=NAME'
# Bytes of a category's name; of 255 that file systems take.
_LONGEST_NAME = 200
_TESTED = 5  # Of so many good images beside defects, one is tested on.

_T = TypeVar('_T')


@dataclasses.dataclass(frozen=True)
class Sample:
  """A test image, its kind ('good' for a normal one), the masks that count."""

  path: File
  defect: str
  masks: tuple[File, ...] = ()

  @property
  def label(self) -> int:
    """0 for a normal image, 1 for a defective one."""
    return int(self.defect != GOOD)


@dataclasses.dataclass(frozen=True)
class Category:
  """The images of one kind of object.

  Attributes:
    name: The folder's name.
    train: Normal images to train on, sorted by name.
    test: Test images, sorted by defect, then name; may be empty.
    validation: Normal images to set thresholds by; may be empty.
    drawn: How many good test images were drawn from the folder of good ones.
  """

  name: str
  train: tuple[File, ...]
  test: tuple[Sample, ...]
  validation: tuple[File, ...] = ()
  drawn: int = 0

  def images(self) -> Iterator[File]:
    """Yields its images: to train on, for thresholds, to test on."""
    yield from self.train
    yield from self.validation
    yield from (sample.path for sample in self.test)

  def describe(self) -> str:
    """Counts images: '213 train, 20 held out, 100 test (40 defective, ...)'."""
    defective = sum(sample.label for sample in self.test)
    masks = sum(bool(sample.masks) for sample in self.test)
    held = f'{len(self.validation)} held out, ' if self.validation else ''
    return (
      f'{len(self.train)} train, {held}{len(self.test)} test '
      f'({defective} defective, {masks} masks)'
    )

  def files(self) -> Iterator[File]:
    """Yields its images and masks."""
    yield from self.images()
    for sample in self.test:
      yield from sample.masks

  def without(self, files: Container[File]) -> 'Category':
    """Returns it without some images."""
    return dataclasses.replace(
      self,
      train=tuple(file for file in self.train if file not in files),
      validation=tuple(file for file in self.validation if file not in files),
      test=tuple(one for one in self.test if one.path not in files),
    )


def draw(
  name: str, given: Sequence[_T], count: int
) -> tuple[list[_T], list[_T]]:
  """Splits images at random, by the name alone: the rest, `count` of them."""
  rng = np.random.default_rng(zlib.crc32(os.fsencode(name)))
  drawn = set(rng.permutation(len(given))[:count].tolist())
  return (
    [file for i, file in enumerate(given) if i not in drawn],
    [file for i, file in enumerate(given) if i in drawn],
  )


def filled(folders: Sequence[Folder]) -> list[Folder]:
  """Returns the folders that have images in them or below."""
  return [one for one in folders if one.all_images()]


def listed(folders: Sequence[Folder]) -> str:
  """Returns folders' names for a message."""
  return ', '.join(one.name for one in folders)


class Reader:
  """Finds the images and masks of one category; adds to those left out."""

  def __init__(self, folder: Folder, names: Names, left_out: dict[Path, str]):
    self._folder, self._names, self._left_out = folder, names, left_out

  def read(self, name: str) -> Category:
    """Returns the category of a name; see `folder.find` for what it raises."""
    folder = self._folder
    if len(os.fsencode(name)) > _LONGEST_NAME:
      raise ValueError(
        f'{folder.path}: its name is too long for files that are named after '
        f'it; at most {_LONGEST_NAME} bytes'
      )
    part, held, tested = map(self._one, (TRAIN, tree.VALIDATION, TEST))
    train = sorted(self._good_in(part) if part else self._good(folder))
    if not train:
      raise ValueError(
        f'{folder.path}: no training images; expected train/{GOOD}/* '
        f'({" ".join(tree.EXTENSIONS)} and the like)'
      )
    good, drawn, kinds = [], 0, {}
    if tested:
      if tested.images:
        raise ValueError(
          f'{tested.images[0]}: a test image belongs in test/{GOOD} or '
          'test/<defect>'
        )
      good = self._good(tested)
      others = [one for one in tested.folders if one.role not in (GOOD, MASK)]
      kinds = _kinds(others)
    elif not part:
      # Beside loose good images a folder's own name must say that it is bad.
      only_named = not folder.inside(GOOD) or self._names.defects
      kinds = _kinds(folder.inside(BAD, *([] if only_named else [''])))
      if filled([*kinds.values()]):
        drawn = max(1, len(train) // _TESTED) if len(train) > 3 else 0
        train, good = draw(name, train, drawn)
    return self._once(
      Category(
        name,
        tuple(train),
        tuple(self._samples(sorted(good), kinds)),
        tuple(sorted(self._good_in(held))) if held else (),
        drawn,
      )
    )

  def _one(self, role: str) -> Folder | None:
    """Returns the folder of a role, of which there must not be two."""
    match self._folder.inside(role):
      case [one, other, *_]:
        raise ValueError(
          f'{self._folder.path} holds {one.name} and {other.name}, both names '
          f'of the images for {role}; keep one'
        )
      case found:
        return found[0] if found else None

  def _good_in(self, part: Folder) -> list[Path]:
    """Returns the good images of `train` or `validation`."""
    others = [one for one in part.folders if one.role not in (BAD, MASK)]
    if not part.inside(GOOD) and (unknown := filled(others)):
      raise ValueError(
        f'{part.path} has no folder called good; say what {listed(unknown)} '
        f'in it holds with {WHICH}'
      )
    return self._good(part)

  def _good(self, part: Folder) -> list[Path]:
    """Returns the images in folders called good, else those in none."""
    found = part.images
    if folders := part.inside(GOOD):
      found = [i for one in folders for i in one.all_images(MASK, BAD)]
    beside = tree.masks_beside(found)
    self._left_out |= dict.fromkeys(beside, UNUSED_MASK)
    return [image for image in found if image not in beside]

  def _samples(
    self, good: Sequence[Path], kinds: dict[str, Folder]
  ) -> Iterator[Sample]:
    """Yields test images by kind, with their masks."""
    below = {k: sorted(f.all_images(MASK, GOOD)) for k, f in kinds.items()}
    images = {
      image: (kind, *image.relative_to(kinds[kind].path).with_suffix('').parts)
      for kind, some in below.items()
      for image in some
    }
    found = self._masks(kinds)
    found |= {one: images.pop(one) for one in tree.masks_beside(images)}
    good_names = {tree.same(image.stem) for image in good}
    own = masks.pair(images, found, self._gone(kinds), good_names)
    used = {mask for some in own.values() for mask in some}
    self._left_out |= {m: UNUSED_MASK for m in found if m not in used}
    for kind, some in sorted((below | {GOOD: list(good)}).items()):
      tested = [one for one in some if kind == GOOD or one in images]
      yield from (Sample(image, kind, own.get(image, ())) for image in tested)

  def _masks(self, kinds: dict[str, Folder]) -> dict[Path, masks.Parts]:
    """Returns the masks, and what of their places names their images."""
    found: dict[Path, masks.Parts] = {}

    def gather(folder: Folder, names: masks.Parts, *, top: bool) -> None:
      found.update({image: (*names, image.stem) for image in folder.images})
      for one in folder.folders:
        if one.role == GOOD:
          self._left_out |= dict.fromkeys(one.all_images(), UNUSED_MASK)
        elif top and one.role in (TEST, BAD) and one.name not in kinds:
          # Folders that hold all kinds, or all that is tested, name no image.
          gather(one, names, top=True)
        else:
          gather(one, (*names, one.name), top=False)

    parts = [self._folder, *self._folder.inside(TEST, BAD)]
    for one in (one for part in parts for one in part.inside(MASK)):
      # A folder such as hole_mask is called after a kind of defect.
      called = re.sub('[-_ .]masks?$', '', tree.same(one.name))
      kind = [k for k in kinds if called == tree.same(k) != tree.same(one.name)]
      gather(one, tuple(kind), top=True)
    for kind, folder in kinds.items():
      for one in folder.below():
        if one is not folder and one.role == MASK:
          names = one.path.relative_to(folder.path).parts[:-1]
          gather(one, (kind, *names), top=True)
    return found

  def _gone(self, kinds: dict[str, Folder]) -> set[str]:
    """Returns the names of defective images that are left out."""
    reasons = (tree.UNREAD, tree.NOTHING, tree.NO_FILE, tree.FORBIDDEN)
    return {
      tree.same(path.stem)
      for path, reason in self._left_out.items()
      if reason in reasons
      and any(path.is_relative_to(one.path) for one in kinds.values())
    }

  def _once(self, category: Category) -> Category:
    """Uses a file once only that links give several names to."""
    tested = {sample.path: sample.label for sample in category.test}
    again = tree.repeated([i for i in category.images() if isinstance(i, Path)])
    for path, first in again.items():
      if bool(tested.get(path)) != bool(tested.get(first)):
        raise ValueError(
          f'{path} and {first} are one file, good by one name and defective by '
          'the other; remove one'
        )
    self._left_out |= dict.fromkeys(again, tree.TWICE)
    return category.without(again)


def _kinds(folders: Sequence[Folder]) -> dict[str, Folder]:
  """Returns the folder of each kind of defect."""
  kinds = {}
  for one in folders:
    inner = []
    if one.role == BAD and not one.images:
      inner = filled(one.inside('', BAD))
    for kind in inner or [one]:
      if kind.name in kinds or kind.name == GOOD:
        raise ValueError(
          f'{kind.path}: another folder of test images is called '
          f'{kind.name}; rename one'
        )
      kinds[kind.name] = kind
  return kinds
