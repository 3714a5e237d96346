"""The images of one kind of object, and which masks belong to which image."""

import collections
import math
import os
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from simplenet_jax.data import tree
from simplenet_jax.data.images import File
from simplenet_jax.data.tree import GOOD, MASK, TRAIN, VALIDATION, Folder

Parts = tuple[str, ...]  # Kind of defect, folders in it, name without suffix.
_T = TypeVar('_T')


class Sample(NamedTuple):
  """A test image, its kind ('good' for a normal one), the masks that count."""

  path: File
  defect: str
  masks: tuple[File, ...] = ()

  @property
  def label(self) -> int:
    """0 for a normal image, 1 for a defective one."""
    return int(self.defect != GOOD)


class Category(NamedTuple):
  """The images of one kind of object; only those to train on are required."""

  name: str
  train: tuple[File, ...]  # Normal images, sorted by name.
  test: tuple[Sample, ...]  # Sorted by defect, then name.
  validation: tuple[File, ...] = ()  # Normal images to set thresholds by.
  drawn: int = 0  # Good test images that were drawn from a folder of good ones.
  held_out: bool = False  # Whether these were drawn from `train`.

  def images(self) -> Iterator[File]:
    """Yields its images: to train on, for thresholds, to test on."""
    yield from self.train
    yield from self.validation
    yield from (sample.path for sample in self.test)

  def files(self) -> Iterator[File]:
    """Yields its images and masks."""
    yield from self.images()
    for sample in self.test:
      yield from sample.masks

  def describe(self) -> str:
    """Counts images: '213 train, 20 held out, 100 test (40 defective, ...)'."""
    held = f'{len(self.validation)} held out, ' if self.validation else ''
    defective = sum(sample.label for sample in self.test)
    masks = sum(bool(sample.masks) for sample in self.test)
    tested = f'{len(self.test)} test ({defective} defective, {masks} masks)'
    return f'{len(self.train)} train, {held}{tested}'

  def without(self, files: Collection[File]) -> 'Category':
    """Returns it without some images."""
    return self._replace(
      train=tuple(file for file in self.train if file not in files),
      validation=tuple(file for file in self.validation if file not in files),
      test=tuple(one for one in self.test if one.path not in files),
    )


def draw(
  name: str, given: Sequence[_T], count: int
) -> tuple[list[_T], list[_T]]:
  """Splits images at random, by the name alone: the rest, `count` of them."""
  rng = np.random.default_rng(zlib.crc32(os.fsencode(name)))
  drawn = {*rng.permutation(len(given))[:count].tolist()}
  parts: tuple[list[_T], list[_T]] = ([], [])
  for index, one in enumerate(given):
    parts[index in drawn].append(one)
  return parts


def hold_out(whole: Category, share: float, least: int) -> Category:
  """Keeps training images back for thresholds, at most a quarter of them."""
  count = len(whole.train)
  kept_back = min(max(math.floor(share * count), least), count // 4)
  if whole.validation or not share or not kept_back:
    return whole
  train, drawn = draw(whole.name, whole.train, kept_back)
  held = {'train': tuple(train), 'validation': tuple(drawn)}
  return whole._replace(**held, held_out=True)


def find_masks(
  category: Folder, kinds: Mapping[str, Folder]
) -> dict[Path, Parts]:
  """Returns masks, and what of their places below `category` names images."""
  found: dict[Path, Parts] = {}

  def enter(folder: Folder, names: Parts, inside: bool) -> None:
    if inside:
      found.update({image: (*names, image.stem) for image in folder.images})
    for one in folder.outside(GOOD, TRAIN, VALIDATION):
      # Folders that hold all kinds, or all that is tested, name no image.
      own = (one.name,) if one.name in kinds or not one.role else ()
      if one.role == MASK:  # Such as hole_mask, for a kind of defect.
        called = re.sub('[-_ .]masks?$', '', tree.same(one.name))
        own = tuple(kind for kind in kinds if tree.same(kind) == called)
      if inside or names or one.role or one.name in kinds:
        enter(one, (*names, *own), inside or one.role == MASK)

  enter(category, (), False)
  return found


def pair(
  images: Mapping[Path, Parts],
  masks: Mapping[Path, Parts],
  gone: set[str],
  good: set[str],
) -> dict[Path, tuple[Path, ...]]:
  """Finds the masks of each defective image.

  A mask is called as its image is, or so with `_mask` behind it, and lies in a
  folder called as the image's kind of defect, or in none; several masks of one
  image lie in a folder that is called as the image is (MVTec LOCO AD). Others
  are refused, but those of images that are `gone`, or, in no folder, `good`.
  """
  by_stem = collections.defaultdict(list)
  for image, parts in images.items():
    *place, stem = map(tree.same, parts)
    by_stem[stem].append((place, image))

  def fitting(folders: list[str], stems: Iterable[str]) -> list[Path]:
    # They may be all folders of an image, the kind's alone, or none.
    some = [one for stem in stems for one in by_stem[stem]]
    some = [one for one in some if folders in (one[0], one[0][:1], [])]
    exact = [image for place, image in some if place == folders]
    return exact or [image for _, image in some]

  own: dict[Path, list[Path]] = collections.defaultdict(list)
  for mask, parts in sorted(masks.items()):
    *folders, stem = map(tree.same, parts)
    stems = {stem, stem.removesuffix('_mask')}
    by_name = fitting(folders, stems)
    found = by_name or fitting(folders[:-1], folders[-1:])
    passed = {*stems, *folders[-1:]} & gone or (not folders and stems & good)
    if passed and not found:
      continue
    name = parts[-1].removesuffix('_mask')
    if len(found) > 1:  # Some file systems tell case apart.
      found = [i for i in found if images[i][-1] in (parts[-1], name)] or found
    if not found:
      place = Path('test', *parts[:-1], name)
      raise ValueError(f'{mask}: a mask without an image; expected {place}.png')
    if len(found) > 1:
      names = ', '.join(sorted(image.name for image in found))
      raise ValueError(f'{mask}: could belong to {names}; rename all but one')
    others = own[found[0]]
    if others and (by_name or others[0].parent != mask.parent):
      raise ValueError(f'two masks, {others[0]} and {mask}; keep one')
    others.append(mask)
  return {image: tuple(some) for image, some in own.items()}
