"""Where a pixel of the network's input lies in the original image.

Sizes are (height, width) throughout, rows before columns. Resizing is PIL's,
because that is where the released code resizes.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from PIL import Image

from simplenet_jax.data import decoding

_MAX_ASPECT = 4  # Of an input that shows a whole image.
# Beyond this ratio of aspects an image is visibly squashed.
ASPECT_TOLERANCE = 1.05

Array = np.ndarray
Size = tuple[int, int]
MaskRule = Literal['reference', 'half']


def whole_input_size(original: Size, resize: int) -> Size:
  """Chooses the input size for an image of which nothing is cropped away.

  The longer side is at most four times the shorter, so that memory is bounded.
  """
  short, long = sorted(original)
  longer = int(min(resize * long / short, resize * _MAX_ASPECT))
  return (resize, longer) if original[0] <= original[1] else (longer, resize)


class Frame(NamedTuple):
  """Relates the pixels of one image to those of the network's input.

  The image is resized, and a window that begins at row `top` and column `left`
  is the input. Where it reaches beyond the resized image, there are zeros.
  """

  original: Size
  resized: Size
  input: Size
  top: int = 0
  left: int = 0

  @classmethod
  def of(
    cls, original: Size, resize: int, crop: int, whole: Size = (0, 0)
  ) -> 'Frame':
    """The paper's geometry; if `crop` is 0, the whole image as `whole`."""
    if not crop:
      return cls(original, whole, whole)
    resized, top, left = decoding.place_crop(original, resize, crop)
    return cls(original, resized, (crop, crop), top, left)

  @property
  def scored(self) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of the original's part in the input."""
    (top, bottom), (left, right) = self.window
    (height, width), (rows, columns) = self.original, self.resized
    first = top * height // rows, left * width // columns
    last = -(-bottom * height // rows), -(-right * width // columns)
    return *first, *last

  @property
  def is_squashed(self) -> bool:
    """Whether the image's aspect is visibly another one in the input."""
    ratios = [a / b for a, b in zip(self.resized, self.original, strict=True)]
    return max(ratios) / min(ratios) > ASPECT_TOLERANCE

  def image_to_input(self, image: Image.Image) -> Array:
    """Resizes and crops RGB as torchvision does, to uint8 `[*input, 3]`."""
    return np.array(self._to_input(image))

  def mask_to_input(self, mask: Array, rule: MaskRule) -> tuple[Array, int]:
    """Resizes and crops a mask as its image is, then makes it boolean again.

    'reference' counts pixels that lie wholly inside the defect, as the released
    code's truncation to integers does; 'half' counts those of which at least
    half does, and of a region (8-connected) without one its most covered pixel.
    Returns bool `[*input]`, and how many regions had none.
    """
    pixels = np.where(mask, np.uint8(255), np.uint8(0))
    shares = np.asarray(self._to_input(Image.fromarray(pixels)))
    reduced = shares == 255 if rule == 'reference' else shares > 127
    # All are found first, so that none is kept by what another one keeps.
    lost = list(self._lost(mask, reduced))
    if rule == 'half':
      for region in lost:
        reduced.flat[region[shares.flat[region].argmax()]] = True
    return reduced, len(lost)

  def _lost(self, mask: Array, reduced: Array) -> Iterator[Array]:
    """Yields the input's pixels, flat, of regions of which none is left."""
    from scipy import ndimage  # Slow to import.

    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
      return
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels, _ = cast(Any, ndimage.label(mask[box], np.ones((3, 3))))
    height, width = self.input
    for label, part in enumerate(ndimage.find_objects(labels), start=1):
      y, x = np.nonzero(labels[part] == label)
      y, x = y + rows[0] + part[0].start, x + columns[0] + part[1].start
      y = y * self.resized[0] // self.original[0] - self.top
      x = x * self.resized[1] // self.original[1] - self.left
      inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
      pixels = np.unique((y * width + x)[inside])
      if len(pixels) and not reduced.flat[pixels].any():
        yield pixels

  def map_to_original(self, scores: Array) -> Array:
    """Resizes a map `[*input]`, float32; it is NaN outside the box `scored`."""
    (top, bottom), (left, right) = self.window
    rows = scores[top - self.top : bottom - self.top]
    kept = rows[:, left - self.left : right - self.left].astype(np.float32)
    # Continued to the whole resized image, the map meets exactly the inverse
    # of the image's own resize; the continuation is then cut off again.
    height, width = self.resized
    margins = (top, height - bottom), (left, width - right)
    whole = np.pad(kept, margins, mode='edge')
    resized = decoding.resize(Image.fromarray(whole), self.original)
    result = np.full(self.original, np.nan, np.float32)
    top, left, bottom, right = self.scored
    box = np.s_[top:bottom, left:right]
    result[box] = np.asarray(resized)[box]
    return result

  def map_to_picture(
    self, scores: Array, picture: Image.Image, roi: Array | None = None
  ) -> Array:
    """Resizes a map to a picture's pixels; NaN also outside a `roi`."""
    frame = self._replace(original=(picture.height, picture.width))
    heat = frame.map_to_original(scores)
    if roi is not None:
      seen = frame.map_to_original(roi.astype(np.float32))
      heat[seen < min(0.5, np.nanmax(seen))] = np.nan  # Thin ones leave some.
    return heat

  @property
  def window(self) -> tuple[Size, Size]:
    """Rows and columns of the resized image that the input shows."""
    (rows, columns), (height, width) = self.resized, self.input
    return (
      (max(self.top, 0), min(self.top + height, rows)),
      (max(self.left, 0), min(self.left + width, columns)),
    )

  def _to_input(self, image: Image.Image) -> Image.Image:
    if (size := (image.height, image.width)) != self.original:
      raise ValueError(
        f'got {text(size)} pixels, expected {text(self.original)}, the size '
        'this frame was made for'
      )
    height, width = self.input
    box = (self.left, self.top, self.left + width, self.top + height)
    return decoding.resize(image, self.resized).crop(box)


def text(size: tuple[int, ...]) -> str:
  """Returns a size as messages show it: '3 x 4'."""
  return ' x '.join(map(str, size))
