"""Defect masks: reading them, and what of them counts."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from simplenet_jax.data import decoding
from simplenet_jax.data.frame import Frame
from simplenet_jax.data.record import File, opened

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


@dataclasses.dataclass(frozen=True)
class Truth:
  """What is known of a defective image's pixels.

  Attributes:
    original: Its defect, bool `[height, width]` of the image; None if unknown.
    reduced: The same in the input's pixels, bool `[*input]`.
    why: Why it is unknown: one of the reasons above; '' if it is known.
    notes: What was done about its masks, of the notes above.
    cut: Defective pixels of the image that the crop leaves out.
  """

  original: np.ndarray | None = None
  reduced: np.ndarray | None = None
  why: str = ''
  notes: tuple[str, ...] = ()
  cut: int = 0


def examine(
  masks: Sequence[File], frame: Frame, rule: Literal['reference', 'half']
) -> Truth:
  """Reads an image's masks and says what they are good for.

  Args:
    masks: All masks of one defective image; a pixel is defective in any.
    frame: The image's.
    rule: See `Frame.mask_to_input`.
  """
  if not masks:
    return Truth(why=NO_MASK)
  try:
    read = [_read(path) for path in masks]
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
  reduced, lost = frame.reduce_mask(defect, rule)
  if not reduced.any():
    all_cut = cut == defect.sum()
    return Truth(why=OUTSIDE if all_cut else VANISHED, cut=cut)
  notes = [NOISY] if any(noisy for _, noisy in read) else []
  notes += [LOST if rule == 'reference' else SMALL] if lost else []
  notes += [CUT] if cut else []
  return Truth(defect, reduced, '', tuple(notes), cut)


def read_mask(path: File | str) -> np.ndarray:
  """Reads a defect mask; every pixel that is not black is a defect.

  So masks saved as 0/1, 0/255, class numbers, 16 bit, palette colours or RGB
  are all understood; alpha is ignored. Compression leaves noise around black
  and white: in a JPEG, or where the gray levels look like a JPEG's, only pixels
  from half of the brightest up count. A JPEG as dark as noise is black.

  Args:
    path: The mask file.

  Returns:
    `[height, width]` uint8, 0 or 255, as a viewer shows it.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If it cannot be read, see `decoding.decode`.
  """
  return np.where(_read(path)[0], np.uint8(255), np.uint8(0))


def _read(path: File | str) -> tuple[np.ndarray, bool]:
  """Returns a mask, and whether noise was left out of it."""
  return decoding.decode(opened(path), _to_mask, path)


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
