"""Defect masks: whose they are, reading them, and what of them counts."""

import collections
import dataclasses
import functools
import unicodedata
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simplenet_jax.data import decoding, tree
from simplenet_jax.data.frame import Frame, MaskRule
from simplenet_jax.data.images import File, decode

Parts = tuple[str, ...]

# Why the pixels of a defective image are not known.
NO_MASK = 'no mask'
BLACK = 'mask all black'
INVERTED = 'mask of most of the image, perhaps inverted'
OTHER_SIZE = 'mask of another size'
UNREADABLE = 'mask that cannot be read'
OUTSIDE = 'defect outside the crop'
VANISHED = 'defect that vanishes in the input'

# What was done about masks that count all the same.
NOISY = 'compression noise: pixels count from half of the brightest up'
SMALL = 'regions that would vanish in the input, of which one pixel is kept'
LOST = 'regions that vanish in the input, as in the released code'
CUT = 'defective pixels outside the crop'
TURNED = 'turned by EXIF data; masks are taken as drawn on what a viewer shows'

# A mask of more than the first share of an image is taken for an inverted one,
# and so is one of more than the second and of most of the image's border.
_ALL, _MOST, _BORDER = 0.9, 0.5, 0.8
_DARK = 31  # Up to this value, a JPEG of a black picture may have noise.


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
    gone: Names of images that are left out, see `tree.same`; a mask of none but
      such a one is passed over.
    good: Names of good images; so is a mask in no folder of none but these.

  Raises:
    ValueError: For a mask without an image, a mask that could belong to
      several, or an image with two masks that lie in no folder of its own.
  """
  # Besides an image's whole name, a mask may repeat less of it; what it leaves
  # out is `...`.
  index = collections.defaultdict(list)
  for image, parts in images.items():
    kind, *_, stem = plain = _plain(parts)
    for key in {plain, (kind, ..., stem), (..., stem)}:
      index[key].append(image)
  found: dict[Path, list[Path]] = collections.defaultdict(list)
  in_folder = {}
  for mask, parts in sorted(masks.items()):
    stem = tree.same(parts[-1])
    stems = {stem, stem.removesuffix('_mask')}
    candidates, own_folder = _candidates(_plain(parts[:-1]), stems, index)
    if not candidates and (
      stems & gone
      or set(_plain(parts[-2:-1])) & gone
      or (len(parts) == 1 and stems & good)
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


def _candidates(
  folders: Parts, stems: Set[str], index: Mapping[Any, list[Path]]
) -> tuple[list[Path], bool]:
  """Returns a mask's possible images, and whether its folder names them."""
  tries = [([(*folders, stem) for stem in stems], False), ([folders], True)]
  match folders:
    case ():
      tries += [([(..., stem) for stem in stems], False)]
    case (one,):
      tries += [([(one, ..., stem) for stem in stems], False)]
      tries += [([(..., one)], True)]
    case (kind, name):
      tries += [([(kind, ..., name)], True)]
  for keys, own_folder in tries:
    if found := [image for key in keys for image in index.get(key, ())]:
      return found, own_folder
  return [], False


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
  form = functools.partial(unicodedata.normalize, 'NFC')
  exact = {form(parts[-1]), form(parts[-1]).removesuffix('_mask')}
  same_case = [i for i in candidates if form(images[i][-1]) in exact]
  if len(same_case) == 1 and len({images[i] for i in candidates}) > 1:
    return same_case[0]
  names = ', '.join(sorted(image.name for image in candidates))
  raise ValueError(
    f'{mask}: could belong to {names} in {candidates[0].parent}; rename all '
    'but one'
  )


def _plain(parts: Parts) -> Parts:
  return tuple(map(tree.same, parts))


@dataclasses.dataclass(frozen=True)
class Truth:
  """What is known of a defective image's pixels.

  Attributes:
    original: Its defect, bool `[height, width]` of the image; None if unknown.
    reduced: The same in the input's pixels, bool `[*input]`.
    why: Why it is unknown, or ''.
    notes: What was done about its masks.
    cut: Defective pixels of the image that the crop leaves out.
  """

  original: np.ndarray | None = None
  reduced: np.ndarray | None = None
  why: str = ''
  notes: tuple[str, ...] = ()
  cut: int = 0


def examine(masks: Sequence[File], frame: Frame, rule: MaskRule) -> Truth:
  """Reads all masks of a defective image, and says what they are good for."""
  if not masks:
    return Truth(why=NO_MASK)
  try:
    read = [read_mask(path) for path in masks]
  except (ValueError, OSError):
    return Truth(why=UNREADABLE)
  if any(defect.shape != frame.original for defect, _ in read):
    return Truth(why=OTHER_SIZE)
  defect = np.any([one for one, _ in read], axis=0)
  if not defect.any():
    return Truth(why=BLACK)
  if _is_inverted(defect):
    return Truth(why=INVERTED)
  top, left, bottom, right = frame.scored
  cut = int(defect.sum() - defect[top:bottom, left:right].sum())
  reduced, lost = frame.mask_to_input(defect, rule)
  if not reduced.any():
    all_cut = cut == defect.sum()
    return Truth(why=OUTSIDE if all_cut else VANISHED, cut=cut)
  notes = [NOISY] if any(noisy for _, noisy in read) else []
  notes += [LOST if rule == 'reference' else SMALL] if lost else []
  notes += [CUT] if cut else []
  return Truth(defect, reduced, '', tuple(notes), cut)


def read_mask(path: File | str) -> tuple[np.ndarray, bool]:
  """Reads a defect mask; every pixel that is not black is a defect.

  So masks saved as 0/1, 0/255, class numbers, 16 bit, palette colours or RGB
  are all understood; alpha is ignored. Compression leaves noise around black
  and white: in a JPEG, or where the gray levels look like a JPEG's, only pixels
  from half of the brightest up count. A JPEG as dark as noise is black.

  Returns:
    The mask, bool `[height, width]`, as a viewer shows it; whether noise was
    left out of it.
  """
  return decode(path, _to_mask)


def _to_mask(image: Image.Image) -> tuple[np.ndarray, bool]:
  decoding.refuse_floats(image)
  lossy = image.format in ('JPEG', 'MPO')
  image = decoding.upright(image)
  image.info.pop('transparency', None)  # Pillow warns when it drops it itself.
  if image.mode == 'LA':
    image = image.convert('L')
  elif image.mode not in ('1', 'L', *decoding.GRAY16):
    image = image.convert('RGB')
  values = np.asarray(image)
  if values.ndim == 3:
    values = values.max(axis=-1)
  bound = _noise(values, lossy)
  defect = values > bound
  return defect, bool(bound) and bool((~defect & (values > 0)).any())


def _noise(values: np.ndarray, lossy: bool) -> int:
  """Returns up to which value a mask's pixels are noise; 0 if there is none."""
  peak = int(values.max())
  if lossy:
    return max(peak // 2, _DARK)
  if values.dtype == bool or peak < 128:
    return 0
  levels, counts = np.unique(values, return_counts=True)
  share = levels / peak
  # Noise lies close to black and to white, numbers of classes anywhere.
  near_black = (share > 0) & (share < 0.2)
  near_white = share > 0.8
  between = counts[(share >= 0.2) & (share <= 0.8)].sum()
  noisy = near_white.sum() > 1 + (near_black.sum() < 2)
  if noisy and near_black.any() and between <= 0.25 * counts[near_white].sum():
    return peak // 2
  return 0


def _is_inverted(defect: np.ndarray) -> bool:
  border = np.concatenate(
    [defect[0], defect[-1], defect[1:-1, 0], defect[1:-1, -1]]
  )
  share = defect.mean()
  return bool(share > _ALL or (share > _MOST and border.mean() > _BORDER))
