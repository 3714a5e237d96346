"""From an image file, a Pillow image or an array to 8-bit RGB and its crop.

This file needs NumPy and Pillow alone and imports nothing of the package: an
export writes its text into `preprocess.py`, so that an exported model reads
images exactly as the detector does.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 2**28  # Of an image; 0.8 GB as RGB.
GRAY16 = ('I;16', 'I;16B', 'I;16L', 'I;16N', 'I')
CHANNELS = ('rgb', 'bgr')

_T = TypeVar('_T')

Image.init()
# Naming the decoders keeps Pillow's others (PostScript, for one) off files.
_NAMES = 'AVIF BMP DIB GIF JPEG JPEG2000 PNG PPM TIFF WEBP'
FORMATS = tuple(name for name in _NAMES.split() if name in Image.OPEN)
# Pillow's own bound is about a line camera's image; it is raised to ours, which
# `decode` reports in its own words.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)
if Image.MAX_IMAGE_PIXELS is not None:
  Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)


def decode(
  source: Any, convert: Callable[[Image.Image], _T], name: object = None
) -> _T:
  """Opens an image file and converts it; each error is one line.

  The source is a path or an open file, of which only the header is read.
  """
  name = source if name is None else name
  opened: Any = source
  path = Path(source) if isinstance(source, str | os.PathLike) else None
  try:
    if path and path.exists() and not path.is_file():
      raise ValueError('not a file')  # Reading a pipe may never end.
    with Image.open(source, formats=FORMATS) as image:
      if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
      _refuse_others(image)
      return convert(image)
  except FileNotFoundError:
    raise FileNotFoundError(f'{name}: no such file') from None
  except (PermissionError, MemoryError):
    raise
  except UnidentifiedImageError as error:
    size = path.stat().st_size if path else opened.seek(0, os.SEEK_END)
    expected = f'not a readable image, expected {", ".join(FORMATS)}'
    raise ValueError(
      f'{name}: {expected if size else "empty"}; replace or remove it'
    ) from error
  except (Image.DecompressionBombError, Image.DecompressionBombWarning):
    most = f'{MAX_PIXELS / 1e6:.0f} million pixels'
    raise ValueError(
      f'{name}: holds more than {most}; make it smaller, or cut it into parts'
    ) from None
  except Exception as error:  # Pillow's decoders raise almost anything.
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise ValueError(f'{name}: cannot be read: {reason}') from error


def to_rgb(image: Image.Image, bits: int = 16) -> Image.Image:
  """Converts a Pillow image to 8-bit RGB, turned as its EXIF data say.

  8-bit images become what Pillow's `convert('RGB')` makes of them: alpha is
  dropped, not composited. 16-bit gray keeps the upper eight of its `bits`, 8 to
  16, as Pillow does for 16-bit colour (all 16). Beyond them it is refused.
  """
  _refuse_others(image)
  image.load()
  # A TIFF turns itself when it is loaded, and then forgets its EXIF data.
  image = upright(image)
  if 'transparency' in image.info:
    # Only alpha depends on it, and Pillow warns when it drops it itself.
    image = image.copy()
    del image.info['transparency']
  if image.mode not in GRAY16:
    return image.convert('RGB')
  return Image.fromarray(_upper_eight(np.asarray(image), bits)).convert('RGB')


def to_image(item: Any, bits: int = 16, channels: str = 'rgb') -> Image.Image:
  """Makes an 8-bit RGB image of a path, a Pillow image or a camera's frame.

  Gray is uint8 or uint16 `[height, width]` or `[height, width, 1]`, colour is
  uint8 `[height, width, 3]`, its channels in the order 'rgb' or 'bgr'.
  """
  if channels not in CHANNELS:
    raise ValueError(f"channels is {channels!r}, expected 'rgb' or 'bgr'")
  if isinstance(item, np.ndarray):
    image = _from_array(item, bits)
  elif isinstance(item, str | os.PathLike):
    image = decode(item, lambda opened: to_rgb(opened, bits))
  elif isinstance(item, Image.Image):
    try:
      image = to_rgb(item, bits)
    except MemoryError:
      raise
    except Exception as error:  # Pillow's decoders raise almost anything.
      raise ValueError(f'cannot be read: {error}') from error
  else:
    raise ValueError(f'expected an image, got {type(item).__name__}')
  if channels == 'bgr':
    return Image.merge('RGB', image.split()[::-1])
  return image


def _from_array(array: np.ndarray, bits: int) -> Image.Image:
  pixels = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
  gray = pixels.ndim == 2 and pixels.dtype in (np.uint8, np.uint16)
  colour = pixels.shape[2:] == (3,) and pixels.dtype == np.uint8
  if not pixels.size or not (gray or colour):
    raise ValueError(
      f'an array is {array.dtype}{list(array.shape)}, expected uint8[height, '
      'width, 3], or uint8 or uint16[height, width] for gray'
    )
  if pixels.dtype == np.uint16:
    pixels = _upper_eight(pixels, bits)
  return Image.fromarray(np.ascontiguousarray(pixels)).convert('RGB')


def place_crop(
  size: tuple[int, int], resize: int, crop: int
) -> tuple[tuple[int, int], int, int]:
  """Returns what an image is resized to, and the top and left of its crop.

  That is what torchvision's Resize and CenterCrop compute of (height, width):
  the shorter side becomes `resize`, the longer `int(resize * long / short)`.
  """
  height, width = (int(resize * side / min(size)) for side in size)
  if height * width > MAX_PIXELS:
    raise ValueError(
      f'an image of {size[0]} x {size[1]} is too elongated to be resized to '
      f'{height} x {width} and cropped; use it whole instead'
    )
  # torchvision pads the larger half at the end and rounds halves to even.
  top, left = (
    -((crop - side) // 2) if crop > side else round((side - crop) / 2)
    for side in (height, width)
  )
  return (height, width), top, left


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
  """Resizes an image, or a map, to (height, width)."""
  height, width = size
  return image.resize((width, height), Image.Resampling.BILINEAR)


def upright(image: Image.Image) -> Image.Image:
  """Returns an image turned as its EXIF data say, if they say anything."""
  try:
    return ImageOps.exif_transpose(image)
  except Exception:  # Viewers ignore damaged EXIF data, too.
    return image


def _refuse_others(image: Image.Image) -> None:
  # An MPO is a camera's JPEG with previews after the picture itself.
  frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)
  if frames > 1:
    raise ValueError(f'holds {frames} pictures, expected one per file')
  if 0 in image.size:
    raise ValueError('it has no pixels')
  if image.mode == 'F':
    raise ValueError('its pixels are floats, expected 8 or 16 bit integers')


def _upper_eight(pixels: np.ndarray, bits: int) -> np.ndarray:
  low, high = int(pixels.min()), int(pixels.max())
  if low < 0 or high >> bits:
    raise ValueError(f'values {low} to {high}, expected at most {bits} bits')
  return (pixels >> (bits - 8)).astype(np.uint8)
