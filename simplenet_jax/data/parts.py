"""What is in the folder of one category: good images, defects, masks."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from simplenet_jax.data import naming, pairing, tree
from simplenet_jax.data.naming import (
  BAD,
  GOOD,
  MASK,
  TEST,
  TRAIN,
  VALIDATION,
  Names,
)
from simplenet_jax.data.record import Sample
from simplenet_jax.data.tree import Folder

WHICH = '--config.data.normal=NAME and --config.data.defects=NAME'

# Why a mask is left out.
UNUSED_MASK = 'a mask of a good image, or of one that is left out'

# Reasons for which images are left out, other than that they are none.
_LOST_IMAGES = (tree.UNREAD, tree.NOTHING, tree.NO_FILE, tree.FORBIDDEN)

_T = TypeVar('_T')


def roles(folder: Folder, names: Names) -> dict[str, list[Folder]]:
  """Returns the folders in a folder by what their names say."""
  found = {role: [] for role in (GOOD, BAD, MASK, TRAIN, TEST, VALIDATION, '')}
  for inner in folder.folders:
    found[names.role(inner.path)].append(inner)
  return found


def with_images(folders: Sequence[Folder]) -> list[Folder]:
  """Returns the folders that have images in them or below."""
  return [one for one in folders if one.all_images()]


def listed(folders: Sequence[Folder]) -> str:
  """Returns folders' names for a message."""
  return ', '.join(one.name for one in folders)


class Reader:
  """Finds the images of one category."""

  def __init__(self, folder: Folder, names: Names, left_out: dict[Path, str]):
    """Looks at the names of the folders in it.

    Args:
      folder: The category's.
      names: What a user says of folders whose names do not tell.
      left_out: Files that are not used; masks of no use are added.
    """
    self._folder, self._names, self._left_out = folder, names, left_out
    self._parts = roles(folder, names)

  @property
  def has_parts(self) -> bool:
    """Whether images are split into `train` and `test` already."""
    return bool(self._parts[TRAIN] or self._parts[TEST])

  def train(self) -> list[Path]:
    """Returns the good images."""
    if self._parts[TRAIN]:
      return self._one(TRAIN, self._good_images) or []
    if self._parts[GOOD]:
      return self._good(self._parts[GOOD])
    return self._unmasked(self._folder.images)

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
    masks |= {one: images.pop(one) for one in tree.masks_beside(images)}
    own = pairing.pair(
      images, masks, self._gone(kinds), {naming.same(i.stem) for i in good}
    )
    used = {mask for some in own.values() for mask in some}
    self._left_out |= {m: UNUSED_MASK for m in masks if m not in used}
    for kind, some in sorted((below | {GOOD: list(good)}).items()):
      tested = [one for one in some if kind == GOOD or one in images]
      yield from (Sample(image, kind, own.get(image, ())) for image in tested)

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
    inner = roles(part, self._names)
    if inner[GOOD]:
      return self._good(inner[GOOD])
    known = inner[BAD] + inner[MASK]
    if unknown := with_images([o for o in part.folders if o not in known]):
      raise ValueError(
        f'{part.path} has no folder called good; say what {listed(unknown)} '
        f'in it holds with {WHICH}'
      )
    return self._unmasked(part.images)

  def _good(self, folders: Sequence[Folder]) -> list[Path]:
    """Returns the images in folders called good."""
    return self._unmasked([i for one in folders for i in self._below(one, BAD)])

  def _unmasked(self, images: list[Path]) -> list[Path]:
    """Leaves out the masks that lie beside good images."""
    masks = tree.masks_beside(images)
    self._left_out |= dict.fromkeys(masks, UNUSED_MASK)
    return [image for image in images if image not in masks]

  def _tested(self, part: Folder) -> tuple[list[Path], dict[str, Folder]]:
    """Returns the good images of `test`, and the folders of defects."""
    if part.images:
      raise ValueError(
        f'{part.images[0]}: a test image belongs in test/{GOOD} or '
        'test/<defect>'
      )
    inner = roles(part, self._names)
    good = self._good(inner[GOOD])
    known = inner[GOOD] + inner[MASK]
    return good, self._kinds([one for one in part.folders if one not in known])

  def _kinds(self, folders: Sequence[Folder]) -> dict[str, Folder]:
    """Returns the folder of each kind of defect."""
    kinds = {}
    for one in folders:
      inner = []
      if self._names.role(one.path) == BAD and not one.images:
        known = roles(one, self._names)
        inner = with_images(known[''] + known[BAD])
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
    for part in (self._folder, *self._parts[TEST], *self._parts[BAD]):
      roots += [
        (one, _kind_of(one, kinds)) for one in roles(part, self._names)[MASK]
      ]
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
        inner = [self._names.role(Path(name)) for name in above]
        # Folders that hold all kinds, or all that is tested, name no image.
        while above and inner[0] in (TEST, BAD) and above[0] not in kinds:
          above, inner = above[1:], inner[1:]
        for image in one.images:
          if GOOD in inner:
            self._left_out[image] = UNUSED_MASK
          else:
            found[image] = (*before, *above, image.stem)
    return found

  def _gone(self, kinds: dict[str, Folder]) -> set[str]:
    """Returns the names of defective images that are left out."""
    return {
      naming.same(path.stem)
      for path, reason in self._left_out.items()
      if reason in _LOST_IMAGES
      and any(path.is_relative_to(one.path) for one in kinds.values())
    }


def _kind_of(folder: Folder, kinds: dict[str, Folder]) -> pairing.Parts:
  """Returns the kind of defect that a folder of masks is called after."""
  return tuple(
    kind for kind in kinds if naming.same(folder.name) in _mask_names(kind)
  )


def _mask_names(kind: str) -> list[str]:
  ends = (f'{mark}{end}' for mark in '_- .' for end in ('mask', 'masks'))
  return [naming.same(kind + end) for end in ends]
