"""Which mask belongs to which image, by their names."""

import collections
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

from simplenet_jax.data import naming

Parts = tuple[str, ...]


def pair(
  images: Mapping[Path, Parts],
  masks: Mapping[Path, Parts],
  gone: Set[str] = frozenset(),
  good: Set[str] = frozenset(),
) -> dict[Path, tuple[Path, ...]]:
  """Finds the masks of defective images.

  A mask is called as its image is, or so with `_mask` behind it, and lies in a
  folder that is called as the image's kind of defect, or in none. Several masks
  of one image lie in a folder that is called as the image is (MVTec LOCO AD).
  Case and Unicode form do not matter.

  Args:
    images: By path: kind of defect, folders below it, name without suffix.
    masks: By path: folders below the masks' own, name without suffix.
    gone: Names of images that are left out, see `naming.same`; a mask of none
      but such a one is passed over.
    good: Names of good images; so is a mask in no folder of none but these.

  Returns:
    The masks of each image that has any, sorted.

  Raises:
    ValueError: For a mask without an image, a mask that could belong to
      several, or an image with two masks that lie in no folder of its own.
  """
  index = _Index(images)
  found: dict[Path, list[Path]] = collections.defaultdict(list)
  in_folder = {}
  for mask, parts in sorted(masks.items()):
    candidates, own_folder = index.images_of(parts)
    possible = variants(parts[-1])
    if not candidates and (
      possible & gone
      or set(_plain(parts[-2:-1])) & gone
      or (len(parts) == 1 and possible & good)
    ):
      continue
    image = _only(mask, parts, candidates, images)
    if found[image] and not (own_folder and in_folder[image]):
      other = found[image][0]
      shown = other.name if other.parent == mask.parent else other
      raise ValueError(
        f'{image}: two masks, {shown} and {mask.name} in {mask.parent}; '
        'keep one'
      )
    found[image].append(mask)
    in_folder[image] = own_folder
  return {image: tuple(sorted(some)) for image, some in found.items()}


def variants(stem: str) -> set[str]:
  """Returns the names that a mask's image can have, both without suffix."""
  plain = naming.same(stem)
  return {plain, plain.removesuffix('_mask')}


class _Index:
  """Images by what of their names a mask may repeat."""

  def __init__(self, images: Mapping[Path, Parts]):
    self._whole = collections.defaultdict(list)
    self._by_kind = collections.defaultdict(list)
    self._by_stem = collections.defaultdict(list)
    for image, parts in images.items():
      plain = _plain(parts)
      self._whole[plain].append(image)
      self._by_kind[plain[0], plain[-1]].append(image)
      self._by_stem[plain[-1]].append(image)

  def images_of(self, parts: Parts) -> tuple[list[Path], bool]:
    """Returns what a mask can belong to, and whether by its folder's name."""
    folders, stems = _plain(parts[:-1]), variants(parts[-1])
    if found := _all(self._whole[(*folders, stem)] for stem in stems):
      return found, False
    if found := self._whole[folders]:
      return found, True
    if not folders:
      return _all(self._by_stem[stem] for stem in stems), False
    # A mask that lies deeper than its kind's folder names these folders, too.
    kind, last = folders[0], folders[-1]
    if len(folders) == 1 and (
      found := _all(self._by_kind[kind, stem] for stem in stems)
    ):
      return found, False
    if len(folders) == 2 and (found := self._by_kind[kind, last]):
      return found, True
    return self._by_stem[last] if len(folders) == 1 else [], True


def _only(
  mask: Path,
  parts: Parts,
  candidates: Sequence[Path],
  images: Mapping[Path, Parts],
) -> Path:
  if not candidates:
    stem = parts[-1].removesuffix('_mask')
    place = Path('test', *parts[:-1], stem)
    raise ValueError(
      f'{mask}: a mask without an image; expected {place} (.png or the like)'
    )
  if len(candidates) == 1:
    return candidates[0]
  # Some file systems tell case apart, and then names may do so too.
  exact = {_form(parts[-1]), _form(parts[-1]).removesuffix('_mask')}
  same_case = [i for i in candidates if _form(images[i][-1]) in exact]
  if len(same_case) == 1 and len({images[i] for i in candidates}) > 1:
    return same_case[0]
  names = ', '.join(sorted(image.name for image in candidates))
  raise ValueError(
    f'{mask}: could belong to {names} in {candidates[0].parent}; rename all '
    'but one'
  )


def _all(groups: Iterable[list[Path]]) -> list[Path]:
  return [image for group in groups for image in group]


def _plain(parts: Parts) -> Parts:
  return tuple(map(naming.same, parts))


def _form(name: str) -> str:
  return unicodedata.normalize('NFC', name)
