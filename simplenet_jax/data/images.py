"""Images as files, or inside a data set's files; anomaly maps as files."""

import contextlib
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from simplenet_jax.data import decoding
from simplenet_jax.data.frame import Size
from simplenet_jax.files import atomic_write

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_SPLITS = ('train', 'validation', 'test', 'ground_truth')
_ORIENTATION = 0x0112  # EXIF's tag.

_T = TypeVar('_T')


@dataclasses.dataclass(frozen=True)
class EmbeddedImage:
  """An image, or a mask, inside a file that holds many."""

  place: PurePosixPath  # In MVTec's layout: 'bottle/test/good/003.png'.
  origin: str = dataclasses.field(repr=False)  # The data set, for messages.
  # Returns it as an image file's content.
  read_bytes: Callable[[], bytes] = dataclasses.field(repr=False)
  bytes: int  # That it takes where it lies.
  size: Size

  def __str__(self) -> str:
    return f'{self.origin}: {self.place}'


# Where an image, or a mask, can be read from.
File: TypeAlias = Path | EmbeddedImage


class Checked(NamedTuple):
  """What is known of an image without reading it as RGB."""

  size: Size  # As a viewer shows it.
  turned: bool  # By EXIF data.
  gray_bits: int = 0  # That the values of 16-bit gray take.
  colour_bits: int = 0  # Or of 16-bit colour; Pillow keeps the upper eight.


def place(file: File) -> PurePosixPath:
  """Returns where an image lies within its data set, for names and tables."""
  if isinstance(file, EmbeddedImage):
    return file.place
  in_layout = file.parts[-3:-2] and file.parts[-3] in _SPLITS
  return PurePosixPath(*file.parts[-4 if in_layout else -2 :])


def weight(file: File) -> int:
  """Returns how many bytes an image takes as it is stored."""
  return file.bytes if isinstance(file, EmbeddedImage) else file.stat().st_size


def decode(file: File | str, convert: Callable[[Image.Image], _T]) -> _T:
  """Opens an image and converts it; see `decoding.decode`."""
  embedded = isinstance(file, EmbeddedImage)
  source = io.BytesIO(file.read_bytes()) if embedded else Path(file)
  return decoding.decode(source, convert, file)


def read_image(file: File | str, bits: int = 16) -> Image.Image:
  """Reads an image as 8-bit RGB, as a viewer shows it.

  `bits` are the camera's: how many 16-bit gray images make use of, 8 to 16.
  """
  return decode(file, lambda image: decoding.to_rgb(image, bits))


def check(file: File | str, bits: int = 16, *, whole: bool = True) -> Checked:
  """Raises what `read_image` would, sooner; if not `whole`, by the header."""
  if isinstance(file, EmbeddedImage):
    return Checked(file.size, False)

  def look(image: Any) -> Checked:
    gray = image.mode in decoding.GRAY16
    # The mode is that of 8-bit colour; until pixels are read, tiles tell more.
    wide = image.mode in ('RGB', 'RGBA') and ';16' in str(image.tile)
    size, turned, *_ = viewed(image)
    if not whole:
      return Checked(size, turned)
    if gray:
      decoding.to_rgb(image, bits)  # Its values may be too large.
    elif isinstance(image, PngImageFile) and image.tile and not wide:
      # Its chunks have checksums; a search for EXIF data has not decoded it.
      image.verify()
      return Checked(size, turned)
    else:
      # A JPEG can be decoded at an eighth of its size.
      image.draft(None, (image.width // 8, image.height // 8))
      image.load()
    peak = int(np.asarray(image).max()).bit_length() if gray or wide else 0
    return Checked(size, turned, gray * peak, wide * (8 + peak))

  return decode(file, look)


def viewed(image: Any) -> Checked:
  """Returns how a viewer shows an opened image, by its header alone."""
  turn, size = 1, (image.height, image.width)
  with contextlib.suppress(Exception):  # Viewers ignore damaged EXIF data, too.
    found = image.format != 'PNG' or 'exif' in image.info
    if not found:
      # Pillow would decode the image to look for EXIF data behind its pixels.
      position = image.fp.tell()
      image.fp.seek(0)
      found = b'eXIf' in image.fp.read()
      image.fp.seek(position)
    turn = image.getexif().get(_ORIENTATION, 1) if found else 1
  # From 5 on sides are exchanged; Pillow has done so with a TIFF's already.
  if image.format != 'TIFF' and turn in range(5, 9):
    size = size[::-1]
  return Checked(size, turn in range(2, 9))


# [256, 3] float32: the normalised value of each 8-bit value in each channel.
# A table is exact on every device; XLA may turn `/ std` into `* (1 / std)`.
NORMALIZED = (
  np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
  - np.array(IMAGENET_MEAN, np.float32)
) / np.array(IMAGENET_STD, np.float32)
NORMALIZED.setflags(write=False)


def normalize(pixels: Any, table: Any = NORMALIZED) -> Any:
  """ImageNet-normalises uint8 `[..., 3]` RGB to float32, -2.12 to 2.64.

  That is `(pixels / 255 - mean) / std`, bit for bit as torchvision's ToTensor
  and Normalize compute it. For JAX arrays, `table` is a JAX array too.
  """
  channels = np.arange(3).reshape((1,) * (pixels.ndim - 1) + (3,))
  return table[pixels, channels]


def encoded(pixels: np.ndarray) -> bytes:
  """Returns uint8 pixels as a PNG file's content."""
  file = io.BytesIO()
  Image.fromarray(np.ascontiguousarray(pixels)).save(file, 'png')
  return file.getvalue()


def write_map(path: Path, heat: np.ndarray, lowest: float) -> None:
  """Writes an anomaly map as compressed float32 TIFF.

  Where it is NaN the file holds the `lowest` score: the MVTec AD evaluator,
  which sorts all pixels, knows no NaN.
  """
  whole = Image.fromarray(np.nan_to_num(heat, nan=lowest))
  with atomic_write(path) as aside:
    whole.save(aside, compression='tiff_adobe_deflate')
