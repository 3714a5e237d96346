"""What a detector can be given to look at."""

import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simplenet_jax.data import decoding, files, images, loading
from simplenet_jax.data.frame import Frame
from simplenet_jax.data.images import EmbeddedImage, File
from simplenet_jax.detection import appearance
from simplenet_jax.detection.card import Card


@dataclasses.dataclass(frozen=True)
class Ready:
  """An image, ready for the network.

  Attributes:
    source: Its path or record, or its place among the images given, from 0.
    frame: Relates the input's pixels to the image's.
    pixels: uint8 `[*size, 3]`.
    seconds: What reading and resizing took.
    small: From `appearance.thumbnail`.
    picture: The image, reduced; None where it was not asked for.
  """

  source: File | int
  frame: Frame
  pixels: np.ndarray
  seconds: float
  small: np.ndarray
  picture: Image.Image | None


@dataclasses.dataclass(frozen=True)
class Unreadable:
  """An image that cannot be used.

  Attributes:
    source: As of `Ready`.
    error: Why.
  """

  source: File | int
  error: ValueError | OSError


# Told of an image that cannot be used, and why.
OnError = Callable[[File | int, ValueError | OSError], None]


def sources(given: Any) -> Iterator[tuple[File | int, Any]]:
  """Yields each image with its name, nothing of it read.

  Args:
    given: See `Detector.predict`.

  Raises:
    FileNotFoundError: For a folder without images.
    TypeError: For what is no image.
  """
  match given:
    case str() | Path():
      path = Path(given)
      items: Iterable[Any] = _within(path) if path.is_dir() else [path]
    case np.ndarray() if given.ndim == 4:
      items = given
    case np.ndarray() | Image.Image():
      items = [given]
    case Iterable():
      items = given
    case _:
      raise TypeError(
        f'expected images as arrays, paths or a folder, got {type(given)}'
      )
  for index, item in enumerate(items):
    match item:
      case str() | Path():
        yield Path(item), Path(item)
      case EmbeddedImage():
        yield item, item
      case _:
        yield index, item


def _within(folder: Path) -> Sequence[Path]:
  """Returns a folder's images, and warns of those that are left out."""
  found = files.find(folder)
  files.warn(found.left_out, found.root)
  return found.images


def names(given: Sequence[File | int]) -> list[str]:
  """Returns images' names below the folder that all files have in common."""
  paths = [Path(os.path.abspath(one)) for one in given if isinstance(one, Path)]  # noqa: PTH100
  common = os.path.commonpath([path.parent for path in paths]) if paths else ''
  return [
    Path(os.path.abspath(one)).relative_to(common).as_posix()  # noqa: PTH100
    if isinstance(one, Path)
    else str(one.place if isinstance(one, EmbeddedImage) else one)
    for one in given
  ]


@dataclasses.dataclass(frozen=True)
class Pace:
  """How many images are under way at a time.

  Attributes:
    images: Images of a batch, at most.
    batches: Batches that are begun before the first one's results are read.
    ahead: Images that are read meanwhile.
  """

  images: int
  batches: int
  ahead: int

  @classmethod
  def within(cls, lookahead: int | None, batch_size: int) -> 'Pace':
    """Returns a pace at which no more images are asked for than is allowed.

    Before the verdict on an image is given, no more than `batches * images +
    ahead` images were taken from its batch's first one on, and that is at most
    `lookahead + 1`.

    Args:
      lookahead: How many more images may be asked for before that; None: as
        many as keep a device busy.
      batch_size: Images of a batch that the device takes, at most.

    Raises:
      ValueError: If `lookahead` is negative.
    """
    held = 4 * batch_size + 2 if lookahead is None else lookahead + 1
    if held < 1:
      raise ValueError(f'lookahead is {lookahead}, expected at least 0')
    images = min(batch_size, max(1, held // 4))
    batches = 2 if held > 2 * images else 1
    return cls(images, batches, min(held - batches * images, 2 * images + 2))

  def in_order(
    self, function: Callable[[Any], Any], items: Iterable[Any]
  ) -> Generator[Any, None, None]:
    """Maps in order, in threads where something may be read ahead."""
    if self.ahead:
      return loading.in_order(function, items, self.ahead)
    return (function(item) for item in items)


def is_counted(given: Any) -> bool:
  """Returns whether it is known how many images something is."""
  return isinstance(given, str | Path | Image.Image) or hasattr(
    given, '__len__'
  )


def prepare(
  card: Card,
  source: File | int,
  item: Any,
  *,
  channels: str = 'rgb',
  thumbnail: int = 0,
) -> Ready | Unreadable:
  """Reads an image and brings it to the network's input.

  Args:
    card: Of the detector.
    source: The image's name.
    item: A path or record, an array as `decoding.from_array` takes it, or a
      PIL image.
    channels: The order of its channels, 'rgb' or 'bgr'.
    thumbnail: The longer side of its `picture`, at most; 0: none is kept.
  """
  start = time.perf_counter()
  try:
    image = _to_image(item, card.bits, channels)
    frame = card.frame((image.height, image.width))
    pixels = frame.image_to_input(image)
  except (ValueError, OSError) as error:
    return Unreadable(source, error)
  small = appearance.thumbnail(pixels)
  picture = None
  if thumbnail:
    picture = image
    picture.thumbnail((thumbnail, thumbnail), Image.Resampling.BOX)
  seconds = time.perf_counter() - start
  return Ready(source, frame, pixels, seconds, small, picture)


def batches(
  prepared: Iterable[Ready | Unreadable], size: int, on_error: OnError | None
) -> Iterator[list[Ready]]:
  """Groups the images that can be used.

  Args:
    prepared: From `prepare`.
    size: Of a group; the last one may be smaller.
    on_error: Called for the others; without it their error is raised.
  """

  def usable():
    for one in prepared:
      if isinstance(one, Ready):
        yield one
      elif on_error:
        on_error(one.source, one.error)
      else:
        raise one.error

  ready = usable()
  while batch := list(itertools.islice(ready, size)):
    yield batch


def _to_image(item: Any, bits: int, channels: str) -> Image.Image:
  match item:
    case Path() | EmbeddedImage():
      image = images.read_image(item, bits)
    case Image.Image():
      try:
        image = decoding.to_rgb(item, bits)
      except MemoryError:
        raise
      except Exception as error:  # PIL's decoders raise almost anything.
        raise ValueError(f'cannot be read: {error}') from error
    case np.ndarray():
      return decoding.from_array(item, bits, channels)
    case _:
      raise ValueError(f'expected an image, got {type(item).__name__}')
  if channels == 'bgr':
    return Image.merge('RGB', image.split()[::-1])
  return image
