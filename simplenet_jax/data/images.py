"""Images as files or records: reading them, normalising their pixels.

Files become pixels in `decoding.py`, geometry is in `frame.py`, masks in
`masks.py`. Everything happens on PIL images and 8-bit pixels, because that is
where the released code resizes; only `normalize` leaves them. Sizes are
(height, width), rows before columns.
"""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from simplenet_jax.data import decoding
from simplenet_jax.data.decoding import to_rgb
from simplenet_jax.data.frame import Frame, Size, whole_input_size
from simplenet_jax.data.masks import read_mask
from simplenet_jax.data.record import File, Record, opened

__all__ = (
  'IMAGENET_MEAN',
  'IMAGENET_STD',
  'NORMALIZED',
  'Checked',
  'Frame',
  'check',
  'decode',
  'encoded_size',
  'image_size',
  'normalize',
  'read_image',
  'read_mask',
  'to_rgb',
  'used_bits',
  'whole_input_size',
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_T = TypeVar('_T')


def _normalized_table() -> np.ndarray:
  values = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
  mean, std = np.array((IMAGENET_MEAN, IMAGENET_STD), np.float32)
  table = (values - mean) / std
  table.setflags(write=False)
  return table


# [256, 3] float32: the normalised value of each 8-bit value in each channel.
# A table is exact on every device; XLA may turn `/ std` into `* (1 / std)`.
NORMALIZED = _normalized_table()


def normalize(pixels: Any, table: Any = NORMALIZED) -> Any:
  """ImageNet-normalises pixels, bit for bit as torchvision does.

  `(pixels / 255 - mean) / std` in float32 (ToTensor, then Normalize). Inside
  `jax.jit` pass `table=jnp.asarray(NORMALIZED)`.

  Args:
    pixels: `[..., 3]` uint8 RGB, NumPy or JAX.
    table: `NORMALIZED`, as an array of the same library as `pixels`.

  Returns:
    `[..., 3]` float32, about -2.12 to 2.64.
  """
  channels = np.arange(3).reshape((1,) * (pixels.ndim - 1) + (3,))
  return table[pixels, channels]


def read_image(path: File | str, bits: int = 16) -> Image.Image:
  """Reads an image as 8-bit RGB, as a viewer shows it; see `decoding.to_rgb`.

  Args:
    path: The file, or a record of a data set.
    bits: How many bits 16-bit gray images make use of, 8 to 16: those of the
      camera.

  Returns:
    The decoded image, mode 'RGB', turned as its EXIF data say.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If the file is damaged, no image of `decoding.FORMATS`, animated
      or of several pages, of float or 32-bit pixels, of pixels beyond `bits`,
      or larger than `decoding.MAX_PIXELS`. One line, with the path.
  """
  return decode(path, lambda image: to_rgb(image, bits))


def used_bits(path: File | str, *, colour: bool = False) -> int:
  """Returns how many bits a 16-bit image's values take; 0 for other images.

  Pillow keeps the upper eight bits of 16-bit colour, so of these no fewer than
  eight are found.

  Args:
    path: The file, or a record of a data set.
    colour: Whether to look at 16-bit colour images, else at gray ones.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If it cannot be read; see `read_image`.
  """

  def measure(image: Image.Image) -> int:
    if colour:
      wide = decoding.is_wide_colour(image)
      return 8 + int(np.asarray(image).max()).bit_length() if wide else 0
    gray = image.mode in decoding.GRAY16
    return int(np.asarray(image).max()).bit_length() if gray else 0

  return decode(path, measure)


def image_size(path: File | str) -> Size:
  """Returns (height, width) in pixels, of which nothing is decoded.

  They are those that a viewer shows, after a turn that EXIF data ask for.

  Args:
    path: The image file.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If it cannot be read; see `read_image`.
  """
  if isinstance(path, Record):
    return path.size
  return decode(path, decoding.viewed_size)


class Checked(NamedTuple):
  """An image that is whole.

  Attributes:
    size: Its (height, width) in pixels, as a viewer shows it.
    turned: Whether it is stored otherwise, and EXIF data say so.
  """

  size: Size
  turned: bool


def check(path: File, bits: int = 16, *, whole: bool = True) -> Checked:
  """Looks whether an image is whole, in a fraction of the time of reading it.

  Args:
    path: The image file, or a record, which is not looked at.
    bits: See `read_image`.
    whole: Whether to look at more than its header.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If it is damaged or cannot be read; see `read_image`.
  """
  if isinstance(path, Record):
    return Checked(path.size, False)

  def look(image: Image.Image) -> Checked:
    decoding.refuse_floats(image)
    turn = decoding.orientation(image)
    size = decoding.size_turned(image, turn)
    if not whole:
      return Checked(size, turn > 1)
    if image.mode in decoding.GRAY16:
      to_rgb(image, bits)  # Its values may be too large.
    elif isinstance(image, PngImageFile) and image.tile:
      # Its chunks have checksums; a search for EXIF data has not decoded it.
      image.verify()
    else:
      # A JPEG can be decoded at an eighth of its size.
      image.draft(None, (image.width // 8, image.height // 8))
      image.load()
    return Checked(size, turn > 1)

  return decode(path, look)


def encoded_size(content: bytes, place: PurePosixPath, origin: str) -> Size:
  """Returns (height, width) in pixels of an encoded image, by its header.

  Args:
    content: An image file's.
    place: Of the record that it is, for messages.
    origin: Of that record.

  Raises:
    ValueError: If it cannot be read; see `read_image`.
  """
  record = Record(place, origin, lambda: content, len(content), (0, 0))
  return decode(record, decoding.viewed_size)


def decode(path: File | str, convert: Callable[[Image.Image], _T]) -> _T:
  """Opens a file or a record and converts it; see `decoding.decode`."""
  return decoding.decode(opened(path), convert, path)
