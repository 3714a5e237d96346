"""Images and masks: reading files, normalising pixels; their geometry.

Geometry is in `frame.py` and can be had from here. Everything happens on PIL
images and 8-bit pixels, because that is where the released code resizes; only
`normalize` leaves them. Sizes are (height, width), rows before columns.
"""

import io
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from simplenet_jax.data.frame import Frame, Size, text, whole_input_size
from simplenet_jax.data.record import File, Record, weight

__all__ = (
  'IMAGENET_MEAN',
  'IMAGENET_STD',
  'NORMALIZED',
  'Frame',
  'encoded_size',
  'image_size',
  'normalize',
  'read_image',
  'read_mask',
  'to_rgb',
  'used_bits',
  'whole_input_size',
)

# Naming the decoders keeps PIL's others (PostScript, for one) off user files.
FORMATS = ('BMP', 'JPEG', 'PNG', 'TIFF', 'WEBP')
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_T = TypeVar('_T')
_GRAY16 = ('I;16', 'I;16B', 'I;16L', 'I;16N', 'I')


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
  """Reads a PNG, JPEG, BMP, TIFF or WebP file as 8-bit RGB, as it is stored.

  8-bit images become what PIL's `convert('RGB')`, and so the released code,
  makes of them: gray is repeated, palettes are looked up, alpha is dropped
  (not composited). 16-bit gray keeps the upper eight of its `bits`, as PIL does
  for 16-bit colour (all 16). Colour profiles and EXIF orientation
  are not applied: a mask is drawn in the stored frame. (A TIFF's own
  orientation tag is part of decoding it, in images and masks alike.)

  Args:
    path: the file, or a record of a data set.
    bits: how many bits 16-bit gray images make use of, 8 to 16: those of the
      camera.

  Returns:
    The decoded image, mode 'RGB'.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is empty, truncated, corrupt, not such an image,
      animated or of several pages, of float or 32-bit pixels, of pixels beyond
      `bits`, or more than twice `PIL.Image.MAX_IMAGE_PIXELS` large. One line,
      with the path.
  """
  return _decode(path, lambda image: to_rgb(image, bits))


def to_rgb(image: Image.Image, bits: int = 16) -> Image.Image:
  """Converts a PIL image to 8-bit RGB, as `read_image` does.

  Args:
    image: of any mode; left as it is.
    bits: see `read_image`.

  Returns:
    An image of mode 'RGB'.

  Raises:
    ValueError: its pixels are floats, or beyond `bits`.
  """
  _refuse_float(image)
  if 'transparency' in image.info:
    # Only alpha hangs on it, and PIL warns when it drops it itself.
    image = image.copy()
    del image.info['transparency']
  if image.mode not in _GRAY16:
    return image.convert('RGB')
  pixels = np.asarray(image)
  if pixels.min() < 0 or int(pixels.max()) >> bits:
    raise ValueError(
      f'pixel values {pixels.min()} to {pixels.max()}, expected at most '
      f'{bits} bits, as data.bits of the config says'
    )
  shifted = (pixels >> (bits - 8)).astype(np.uint8)
  return Image.fromarray(shifted).convert('RGB')


def used_bits(path: File | str) -> int:
  """Returns how many bits a 16-bit gray image's values take; 0 for others.

  Args:
    path: the file, or a record of a data set.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: not a readable image; see `read_image`.
  """

  def measure(image: Image.Image) -> int:
    if image.mode not in _GRAY16:
      return 0
    return int(np.asarray(image).max()).bit_length()

  return _decode(path, measure)


def read_mask(path: File | str, image: File | str | None = None) -> np.ndarray:
  """Reads a defect mask; every pixel that is not black is a defect.

  So masks saved as 0/1, 0/255, class numbers, 16 bit, palette colours or RGB
  are all understood; alpha is ignored. JPEG blurs its edges, so there only
  the brighter half of the range counts.

  Args:
    path: the mask file.
    image: the image it belongs to; if given, their sizes must agree.

  Returns:
    `[height, width]` uint8, 0 or 255.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file cannot be read (see `read_image`), or its size is not
      the image's.
  """
  mask = _decode(path, _to_mask)
  if image is not None and mask.shape != (size := image_size(image)):
    raise ValueError(
      f'{path}: the mask is {text(mask.shape)} but its image {image} is'
      f' {text(size)} (height x width); they must be equal'
    )
  return mask


def image_size(path: File | str) -> Size:
  """Returns (height, width) in pixels from a file's header alone.

  Args:
    path: the image file.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: not a readable image; see `read_image`.
  """
  if isinstance(path, Record):
    return path.size
  return _decode(path, lambda image: (image.height, image.width))


def encoded_size(content: bytes, place: PurePosixPath, origin: str) -> Size:
  """Returns (height, width) in pixels of an encoded image, by its header.

  Args:
    content: an image file's.
    place: of the record that it is, for messages.
    origin: of that record.

  Raises:
    ValueError: not a readable image; see `read_image`.
  """
  record = Record(place, origin, lambda: content, len(content), (0, 0))
  return _decode(record, lambda image: (image.height, image.width))


def _decode(path: File | str, convert: Callable[[Image.Image], _T]) -> _T:
  """Opens an image, converts it, and puts what goes wrong into one line."""
  found = isinstance(path, Record)
  try:
    if not found and Path(path).exists() and not Path(path).is_file():
      # A pipe or a device may be read for ever.
      raise ValueError('not a file')
    source = io.BytesIO(path.read_bytes()) if found else path
    with Image.open(source, formats=FORMATS) as image:
      # An MPO is a camera's JPEG with previews after the picture itself.
      frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)
      if frames > 1:
        raise ValueError(f'holds {frames} pictures, expected one per file')
      # Only alpha hangs on it, and PIL warns when it drops it itself.
      image.info.pop('transparency', None)
      return convert(image)
  except FileNotFoundError:
    raise FileNotFoundError(f'{path}: no such file') from None
  except (PermissionError, MemoryError):
    raise
  except UnidentifiedImageError as error:
    size = weight(path if found else Path(path))
    raise ValueError(
      f'{path}: not a readable image ({size} bytes),'
      f' expected {", ".join(FORMATS)}; replace or remove it'
    ) from error
  except Exception as error:  # PIL's decoders raise almost anything
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise ValueError(f'{path}: cannot be read: {reason}') from error


def _to_mask(image: Image.Image) -> np.ndarray:
  _refuse_float(image)
  if image.mode == 'LA':
    image = image.convert('L')
  elif image.mode not in ('1', 'L', *_GRAY16):
    image = image.convert('RGB')
  lossy = image.format in ('JPEG', 'MPO')
  defect = np.asarray(image) > (127 if lossy else 0)
  if defect.ndim == 3:
    defect = defect.any(axis=-1)
  return np.where(defect, np.uint8(255), np.uint8(0))


def _refuse_float(image: Image.Image) -> None:
  if image.mode == 'F':
    raise ValueError('its pixels are floats, expected 8 or 16 bit integers')
