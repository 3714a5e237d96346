"""What a detector can be given to look at."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simplenet_jax.data import files, images
from simplenet_jax.data.frame import Frame
from simplenet_jax.data.record import File, Record
from simplenet_jax.inference.card import Card


@dataclasses.dataclass(frozen=True)
class Ready:
  """An image, ready for the network.

  Attributes:
    source: Its path or record, or its place among the images given, from 0.
    frame: Relates the input's pixels to the image's.
    pixels: uint8 `[*size, 3]`.
    seconds: What reading and resizing took.
  """

  source: File | int
  frame: Frame
  pixels: np.ndarray
  seconds: float


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
      items: Iterable[Any] = files.find(path) if path.is_dir() else [path]
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
      case Record():
        yield item, item
      case _:
        yield index, item


def prepare(card: Card, source: File | int, item: Any) -> Ready | Unreadable:
  """Reads an image and brings it to the network's input.

  Args:
    card: Of the detector.
    source: The image's name.
    item: A path or record, an array `[height, width, 3]` uint8 or a PIL image.
  """
  start = time.perf_counter()
  try:
    image = _to_image(item, card.bits)
    frame = card.frame((image.height, image.width))
    pixels = frame.image_to_input(image)
  except (ValueError, OSError) as error:
    return Unreadable(source, error)
  return Ready(source, frame, pixels, time.perf_counter() - start)


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


def _to_image(item: Any, bits: int) -> Image.Image:
  match item:
    case Path() | Record():
      return images.read_image(item, bits)
    case Image.Image():
      try:
        item.load()  # It may have been opened only.
      except MemoryError:
        raise
      except Exception as error:  # PIL's decoders raise almost anything.
        raise ValueError(f'cannot be read: {error}') from error
      return images.to_rgb(item, bits)
    case np.ndarray(dtype=np.uint8, ndim=3) if item.shape[2] == 3:
      return Image.fromarray(item)
    case np.ndarray():
      raise ValueError(
        f'an array is {item.dtype}{list(item.shape)}, expected RGB: uint8'
        '[height, width, 3]'
      )
  raise ValueError(f'expected an image, got {type(item).__name__}')
