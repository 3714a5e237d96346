"""The images of one kind of object, and which masks belong to which image."""

import collections
import dataclasses
import math
import os
import re
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TypeVar

import numpy as np

from simplenet_jax.data import tree
from simplenet_jax.data.images import File
from simplenet_jax.data.tree import BAD, GOOD, MASK, TEST, Folder

Parts = tuple[str, ...]
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
    held_out: Whether `validation` was drawn from the images to train on.
  """

  name: str
  train: tuple[File, ...]
  test: tuple[Sample, ...]
  validation: tuple[File, ...] = ()
  drawn: int = 0
  held_out: bool = False

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
    defective = sum(sample.label for sample in self.test)
    masks = sum(bool(sample.masks) for sample in self.test)
    held = f'{len(self.validation)} held out, ' if self.validation else ''
    return (
      f'{len(self.train)} train, {held}{len(self.test)} test '
      f'({defective} defective, {masks} masks)'
    )

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
  drawn = {*rng.permutation(len(given))[:count].tolist()}
  parts = [], []
  for index, one in enumerate(given):
    parts[index in drawn].append(one)
  return parts


def hold_out(whole: Category, share: float, least: int) -> Category:
  """Keeps a `share` of the training images back to set thresholds by.

  They are at least `least`, but never more than a quarter, drawn at random, the
  same ones each time. A category with images for validation is left as it is.
  """
  count = len(whole.train)
  kept_back = min(max(math.floor(share * count), least), count // 4)
  if whole.validation or not share or not kept_back:
    return whole
  train, drawn = draw(whole.name, whole.train, kept_back)
  return dataclasses.replace(
    whole, train=tuple(train), validation=tuple(drawn), held_out=True
  )


def find_masks(
  category: Folder, kinds: Mapping[str, Folder]
) -> dict[Path, Parts]:
  """Returns a category's masks, and what of their places names their images.

  `kinds` are the folders of its kinds of defects.
  """
  found: dict[Path, Parts] = {}

  def gather(folder: Folder, names: Parts, *, top: bool = True) -> None:
    found.update({image: (*names, image.stem) for image in folder.images})
    for one in folder.folders:
      if top and one.role in (TEST, BAD) and one.name not in kinds:
        # Folders that hold all kinds, or all that is tested, name no image.
        gather(one, names)
      elif one.role != GOOD:
        gather(one, (*names, one.name), top=False)

  for part in (category, *category.inside(TEST, BAD)):
    for one in part.inside(MASK):
      # A folder such as hole_mask is called after a kind of defect.
      called = re.sub('[-_ .]masks?$', '', tree.same(one.name))
      own = called != tree.same(one.name)
      gather(one, tuple(k for k in kinds if own and tree.same(k) == called))
  for kind, folder in kinds.items():
    for one in folder.below():
      if one is not folder and one.role == MASK:
        gather(one, (kind, *one.path.relative_to(folder.path).parts[:-1]))
  return found


def pair(
  images: Mapping[Path, Parts],
  masks: Mapping[Path, Parts],
  gone: Set[str] = frozenset(),
  good: Set[str] = frozenset(),
) -> dict[Path, tuple[Path, ...]]:
  """Finds the masks of each defective image.

  A mask is called as its image is, or so with `_mask` behind it, and lies in a
  folder that is called as the image's kind of defect, or in none. Several masks
  of one image lie in a folder that is called as the image is (MVTec LOCO AD).
  Case and Unicode form do not matter.

  Args:
    images: By path: kind of defect, folders below it, name without suffix.
    masks: By path: folders below the masks' own, name without suffix.
    gone: Names of images that are left out, see `tree.same`; masks of none but
      these are passed over.
    good: Names of good images; so are masks of these in no folder.

  Raises:
    ValueError: For a mask of no image or of several, or an image with two masks
      that lie in no folder of its own.
  """
  # A mask's folders may be all of its image's, the kind's alone, or none.
  index = collections.defaultdict(list)
  for image, parts in images.items():
    *place, stem = map(tree.same, parts)
    for folders in {tuple(place), tuple(place[:1]), ()}:
      fit = image, len(folders) == len(place)
      index[folders, stem].append(fit)
      index[*folders, stem].append(fit)  # A folder of its own.
  found: dict[Path, list[Path]] = collections.defaultdict(list)
  for mask, parts in sorted(masks.items()):
    *folders, stem = map(tree.same, parts)
    stems = {stem, stem.removesuffix('_mask')}
    by_name = [fit for one in stems for fit in index[tuple(folders), one]]
    fitting = by_name or index[tuple(folders)]
    passed = {*stems, *folders[-1:]} & gone or (not folders and stems & good)
    if passed and not fitting:
      continue
    image = _fitting(mask, parts, fitting, images)
    if found[image] and (by_name or found[image][0].parent != mask.parent):
      raise ValueError(
        f'{image}: two masks, {found[image][0]} and {mask}; keep one'
      )
    found[image].append(mask)
  return {image: tuple(some) for image, some in found.items()}


def _fitting(
  mask: Path,
  parts: Parts,
  fitting: Sequence[tuple[Path, bool]],
  images: Mapping[Path, Parts],
) -> Path:
  """Returns the image that fits a mask, rather one of all the same folders."""
  stem = parts[-1].removesuffix('_mask')
  exact = [image for image, exact in fitting if exact]
  found = exact or [image for image, _ in fitting]
  if len(found) > 1:  # Some file systems tell case apart.
    found = [i for i in found if images[i][-1] in (parts[-1], stem)] or found
  if not found:
    place = Path('test', *parts[:-1], stem)
    raise ValueError(
      f'{mask}: a mask without an image; expected {place} (.png or the like)'
    )
  if len(found) > 1:
    raise ValueError(
      f'{mask}: could belong to {", ".join(sorted(i.name for i in found))} in '
      f'{found[0].parent}; rename all but one'
    )
  return found[0]
