"""What a detector can be given to look at."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simplenet_jax.data import decoding, files, images
from simplenet_jax.data.frame import Frame
from simplenet_jax.data.images import EmbeddedImage, File
from simplenet_jax.detection import appearance
from simplenet_jax.detection.card import Card

Source = File | int  # A path or record, or the place among those given.
# Called with the source of an image that cannot be used, and why.
OnError = Callable[[Source, ValueError | OSError], None]


@dataclasses.dataclass(frozen=True)
class Ready:
  """An image, ready for the network."""

  source: Source
  frame: Frame
  pixels: np.ndarray  # uint8 `[*size, 3]`.
  seconds: float  # What reading and resizing took.
  small: np.ndarray  # From `appearance.thumbnail`.
  picture: Image.Image | None  # Reduced, where that was asked for.


@dataclasses.dataclass(frozen=True)
class Unusable:
  """An image that cannot be used, and why."""

  source: Source
  error: ValueError | OSError


def sources(given: Any) -> Iterator[tuple[Source, Any]]:
  """Yields the images in what `Detector.predict` takes; reads none of them."""
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
  found.tell('image')
  return found.images


def is_counted(given: Any) -> bool:
  """Returns whether it is known how many images something is."""
  return isinstance(given, str | Path | Image.Image) or hasattr(
    given, '__len__'
  )


def names(given: Sequence[Source]) -> list[str]:
  """Returns images' names below the folder that all files have in common."""
  paths = [Path(os.path.abspath(one)) for one in given if isinstance(one, Path)]  # noqa: PTH100
  common = os.path.commonpath([path.parent for path in paths]) if paths else ''
  below = (path.relative_to(common).as_posix() for path in paths)
  return [
    next(below)
    if isinstance(one, Path)
    else str(one.place if isinstance(one, EmbeddedImage) else one)
    for one in given
  ]


def pace(lookahead: int | None, batch_size: int) -> tuple[int, int, int]:
  """Returns a pace at which no more images are asked for than is allowed.

  Before the verdict on an image is given, no more than `batches * images +
  ahead` images were taken from its batch's first one on, and that is at most
  `lookahead + 1`. Without a lookahead they are as many as keep a device busy.

  Returns:
    `images` of a batch, `batches` that are begun before the first one's results
    are read, and images that are read `ahead` meanwhile.
  """
  held = 4 * batch_size + 2 if lookahead is None else lookahead + 1
  if held < 1:
    raise ValueError(f'lookahead is {lookahead}, expected at least 0')
  images = min(batch_size, max(1, held // 4))
  batches = 2 if held > 2 * images else 1
  return images, batches, min(held - batches * images, 2 * images + 2)


def prepare(
  card: Card, source: Source, item: Any, channels: str = 'rgb', side: int = 0
) -> Ready | Unusable:
  """Reads an item of `sources` and brings it to the network's input.

  Its `picture` has a longer side of at most `side`; of 0, none is kept.
  """
  start = time.perf_counter()
  try:
    image = _to_image(item, card.bits, channels)
    frame = card.frame((image.height, image.width))
    pixels = frame.image_to_input(image)
  except (ValueError, OSError) as error:
    return Unusable(source, error)
  small = appearance.thumbnail(pixels)
  if side:
    image.thumbnail((side, side), Image.Resampling.BOX)
  seconds = time.perf_counter() - start
  return Ready(source, frame, pixels, seconds, small, image if side else None)


def usable(
  prepared: Iterable[Ready | Unusable], on_error: OnError | None
) -> Iterator[Ready]:
  """Yields what can be used; tells the rest, or raises where nobody listens."""
  for one in prepared:
    if isinstance(one, Ready):
      yield one
    elif on_error:
      on_error(one.source, one.error)
    else:
      raise one.error


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
