"""What a detector can be given to look at, and what it should look like.

A detector scores whatever it is shown. Where a camera gives blue before red, is
mounted the other way round or stands in the dark, its scores mean nothing, and
every part is bad. So a detector keeps a few statistics of its training images,
and warns when what it is shown fits them far better after such a change.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from simplenet_jax.data import decoding, files, images
from simplenet_jax.data.frame import ASPECT_TOLERANCE, Frame, Size, text
from simplenet_jax.data.loading import in_order

Source = images.File | int  # A path or record, or the place among those given.
# Called with the source of an image that cannot be used, and why.
OnError = Callable[[Source, ValueError | OSError], None]

LOOKED_AT = 64  # Training images that the statistics come from, at most.
_SIDE = 8  # Of a thumbnail, in pixels.
_NOISE = 8.0  # Gray levels that a thumbnail's pixel may always be off by.
_LEVELS = 20  # Gray levels by which an image must be darker or brighter.
_COLOUR = 20  # Levels between channels, on average over images: not gray.
# A change must make an image this many times more like the training images,
# and take this much off its distance. Measured on real parts and on generated
# ones: good and defective images stay below half of the first number.
_CHANNELS, _TURN = (2.0, 0.25), (5.0, 0.5)
# By quarters of a turn.
_TURNS = ('90 degrees anticlockwise', '180 degrees', '90 degrees clockwise')


def sources(given: Any) -> Iterator[tuple[Source, Any]]:
  """Yields the images in what `Detector.predict` takes; reads none of them."""
  items: Any = given
  if isinstance(given, str | Path) and Path(given).is_dir():
    found = files.find(Path(given))
    found.tell('image')
    items = found.images
  elif isinstance(given, np.ndarray):
    items = given if given.ndim == 4 else [given]
  elif isinstance(given, str | Path | Image.Image):
    items = [given]
  elif not isinstance(given, Iterable):
    raise TypeError(
      f'expected images as arrays, paths or a folder, got {type(given)}'
    )
  for index, item in enumerate(items):
    image = Path(item) if isinstance(item, str) else item
    yield (image if isinstance(image, images.File) else index), image


@dataclasses.dataclass(frozen=True)
class Ready:
  """An image, ready for the network."""

  source: Source
  frame: Frame
  pixels: np.ndarray  # uint8 `[*size, 3]`.
  seconds: float  # What reading and resizing took.
  small: np.ndarray  # From `thumbnail`.
  picture: Image.Image | None  # Reduced, where that was asked for.
  # Reads it once more, as RGB; a ValueError where it is another one by now.
  photograph: Callable[[], Image.Image]


def ready(
  given: Any,
  bits: int,
  frame_of: Callable[[Size], Frame],
  ahead: int = 0,
  channels: str = 'rgb',
  side: int = 0,
  on_error: OnError | None = None,
) -> Generator[Ready]:
  """Reads what `Detector.predict` takes and brings it to the network's input.

  So many images are read `ahead`; a `picture` is of at most `side` pixels.
  """

  def opened(item: Any) -> Image.Image:
    if isinstance(item, images.EmbeddedImage):
      item = images.read_image(item, bits)
    return decoding.to_image(item, bits, channels)

  def read(one: tuple[Source, Any]) -> Ready | tuple[Source, Any]:
    source, item = one
    start = time.perf_counter()
    try:
      image = opened(item)
      frame = frame_of((image.height, image.width))
      pixels = frame.image_to_input(image)
    except (ValueError, OSError) as error:
      return source, error
    small = thumbnail(pixels)

    def photograph() -> Image.Image:
      image = opened(item)
      # Files are replaced, and cameras fill their buffers again.
      same = (image.height, image.width) == frame.original
      if same and (thumbnail(frame.image_to_input(image)) == small).all():
        return image
      raise ValueError(
        f'{source}: it is another image now than the one that was scored; '
        'thumbnail=1024 keeps each for its picture'
      )

    if side:
      image.thumbnail((side, side), Image.Resampling.BOX)
    picture = image if side else None
    seconds = time.perf_counter() - start
    return Ready(source, frame, pixels, seconds, small, picture, photograph)

  items = sources(given)
  # Where nothing may be read ahead, threads would be of no use.
  found = in_order(read, items, ahead) if ahead else (read(x) for x in items)
  with contextlib.closing(found):
    for one in found:
      if isinstance(one, Ready):
        yield one
      elif on_error:
        on_error(*one)
      else:
        raise one[1]


@dataclasses.dataclass(frozen=True)
class Appearance:
  """Statistics of training images, so that other ones are noticed."""

  mean: tuple[float, ...]  # Of their thumbnails `[8, 8, 3]`, flat; 0 to 255.
  std: tuple[float, ...]  # Of their thumbnails over images, flat.
  farthest: float  # The largest distance of one of the thumbnails from `mean`.
  gray: tuple[float, float]  # The lowest and highest mean level of an image.
  # The lowest and highest width : height of files, not of the network's input.
  aspect: tuple[float, float]

  @classmethod
  def of(
    cls, thumbnails: Sequence[np.ndarray], sizes: Sequence[Size]
  ) -> 'Appearance':
    """Computes the statistics of some images' thumbnails and all sizes."""
    stack = np.stack(thumbnails).astype(np.float64)
    mean, std = stack.mean(0), stack.std(0)
    gray = stack.mean((1, 2, 3))
    ratios = [width / height for height, width in sizes]
    return cls(
      mean=tuple(mean.round(2).ravel().tolist()),
      std=tuple(std.round(2).ravel().tolist()),
      farthest=float(_distances(stack, mean, std).max()),
      gray=(float(gray.min()), float(gray.max())),
      aspect=(min(ratios), max(ratios)),
    )

  def makes_sense(self) -> bool:
    """Returns whether the values are such as `of` computes."""
    values = (*self.mean, *self.std, self.farthest, *self.gray)
    whole = len(self.mean) == len(self.std) == 3 * _SIDE**2
    return whole and min(values) >= 0 and min(self.aspect) > 0

  def other_aspect(self, size: Size) -> str:
    """Returns what to say of a (height, width) unlike theirs; else ''."""
    ratio, (low, high) = size[1] / size[0], self.aspect
    if low / ASPECT_TOLERANCE <= ratio <= high * ASPECT_TOLERANCE:
      return ''
    trained = ' to '.join(dict.fromkeys(f'{end:.2f}' for end in self.aspect))
    return (
      f'{text(size)} (height x width) has another aspect ({ratio:.2f}) than '
      f'the training images ({trained}) and is squashed or cut to the input as '
      'none of them was'
    )

  def changes(
    self, small: np.ndarray, size: Size, channels: str
  ) -> Iterator[tuple[str, str]]:
    """Yields how the image of a thumbnail has changed, by kind."""
    if aspect := self.other_aspect(size):
      yield 'aspect', aspect
    gray, (low, high) = float(small.mean()), self.gray
    change = ''
    if gray < low - _LEVELS and (gray < low / 2 or gray < 2 * low - 255):
      change = 'darker'
    elif gray > high + _LEVELS and (gray > 2 * high or gray > (255 + high) / 2):
      change = 'brighter'
    if change:
      yield (
        change,
        f'is far {change} (mean level {gray:.0f} of 255) than the training '
        f'images ({low:.0f} to {high:.0f}); look at the light and the exposure',
      )
    mean, std = (
      np.array(values, np.float32).reshape(small.shape)
      for values in (self.mean, self.std)
    )
    if not np.ptp(small, -1).any() and np.ptp(mean, -1).max() > _COLOUR:
      yield 'gray', 'is gray, but the training images have colours'
    # All in one go, as it is done for each image.
    turns = [np.rot90(small, quarters) for quarters in (1, 2, 3)]
    changed = (small, small[..., ::-1], *turns)
    now, swapped, *turned = _distances(np.stack(changed), mean, std).tolist()
    other = 'rgb' if channels == 'bgr' else 'bgr'
    how = (
      f"with red and blue exchanged; channels='{other}' (--channels={other})"
    )
    better = [('channels', swapped, _CHANNELS, f'{how} exchanges them')]
    for turn, then in zip(_TURNS, turned, strict=True):
      how = f'when turned by {turn}; look at how the camera is mounted'
      better.append(('turn', then, _TURN, how))
    for kind, then, (times, less), how in better:
      # Only what then looks like a training image was one.
      usual = then <= 2 * self.farthest + 0.2
      if usual and now > times * then and now - then > less:
        yield kind, f'fits the training images far better {how}'


class Look(NamedTuple):
  """What a line changes slowly, beside the score."""

  level: float  # The mean gray level, 0 to 255.
  x: float  # How far right things are, as a share of the width; else 0...
  y: float  # ... and down, of the height.
  sharpness: float  # The mean step between pixels, as a share of the level.

  @classmethod
  def of(
    cls, pixels: np.ndarray, small: np.ndarray, usual: Appearance | None
  ) -> 'Look':
    """Measures an input, uint8 `[height, width, 3]`, and its thumbnail."""
    gray, x, y = small.mean(-1), 0.0, 0.0
    if usual:
      mean = np.reshape(usual.mean, small.shape).mean(-1)
      down, right = np.gradient(mean)
      # Least squares of gray = scale * mean - x * right - y * down + offset.
      terms = np.stack([mean, np.ones_like(mean), right, down], -1)
      found = np.linalg.lstsq(terms.reshape(-1, 4), gray.ravel(), rcond=0.01)
      x, y = found[0][2:] / -_SIDE
    step = np.abs(np.diff(pixels[::8, :, 1].astype(np.int16))).mean()
    values = gray.mean(), x, y, step / (gray.mean() + 1)
    return cls(*(round(float(one), 5) for one in values))


def thumbnail(pixels: np.ndarray) -> np.ndarray:
  """Returns pixels `[height, width, 3]` as float32 `[8, 8, 3]`, 0 to 255."""
  small = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX)
  return np.asarray(small, np.float32)


def _distances(
  small: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> np.ndarray:
  """Returns how far thumbnails are from the mean, in variances, `[images]`."""
  return ((small - mean) ** 2 / (std**2 + _NOISE**2)).mean((1, 2, 3))
