"""What training images look like, so that other ones are noticed.

A detector scores whatever it is shown. Where a camera gives blue before red, is
mounted the other way round or stands in the dark, its scores mean nothing, and
every part is bad. So a detector keeps a few statistics of its training images,
and warns when what it is shown fits them far better after such a change.
"""

import dataclasses
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax.data.frame import Size, text

LOOKED_AT = 64  # Training images that the statistics come from, at most.
_SIDE = 8  # Of a thumbnail, in pixels.
_NOISE = 8.0  # Gray levels that a thumbnail's pixel may always be off by.
_ASPECT = 1.05  # Beyond this ratio of aspects an image is visibly squashed.
_LEVELS = 20  # Gray levels by which an image must be darker or brighter.
# A change must make an image this many times more like the training images,
# and take this much off its distance. Measured on real parts and on generated
# ones: good and defective images stay below half of the first number.
_CHANNELS, _TURN = (2.0, 0.25), (5.0, 0.5)
_TURNED = (
  (lambda small: small.transpose(1, 0, 2)[::-1], '90 degrees anticlockwise'),
  (lambda small: small[::-1, ::-1], '180 degrees'),
  (lambda small: small.transpose(1, 0, 2)[:, ::-1], '90 degrees clockwise'),
)


@dataclasses.dataclass(frozen=True)
class Appearance:
  """Statistics of training images.

  Attributes:
    mean: Mean of their thumbnails `[8, 8, 3]`, flat; 0 to 255.
    std: Standard deviation of their thumbnails over images, flat.
    farthest: The largest distance of one of their thumbnails from the mean.
    gray: The lowest and the highest mean gray level of an image.
    aspect: The lowest and the highest width : height of an image, as the file
      is, not as the network's input is.
  """

  mean: tuple[float, ...]
  std: tuple[float, ...]
  farthest: float
  gray: tuple[float, float]
  aspect: tuple[float, float]

  @classmethod
  def of(
    cls, thumbnails: Sequence[np.ndarray], sizes: Sequence[Size]
  ) -> 'Appearance':
    """Computes the statistics.

    Args:
      thumbnails: From `thumbnail`, at least one.
      sizes: (height, width) of images, at least one.
    """
    stack = np.stack(thumbnails).astype(np.float64)
    mean, std = stack.mean(0), stack.std(0)
    distances = _distances(stack, mean, 1 / (std**2 + _NOISE**2))
    gray = stack.mean((1, 2, 3))
    ratios = [width / height for height, width in sizes]
    return cls(
      mean=tuple(mean.round(2).ravel().tolist()),
      std=tuple(std.round(2).ravel().tolist()),
      farthest=float(distances.max()),
      gray=(float(gray.min()), float(gray.max())),
      aspect=(min(ratios), max(ratios)),
    )

  @classmethod
  def from_fields(cls, fields: dict[str, Any]) -> 'Appearance':
    """Returns what `dataclasses.asdict` and JSON made of one.

    Raises:
      ValueError: If the values make no sense.
      TypeError: If they are of another type.
    """
    lists = {name: v for name, v in fields.items() if isinstance(v, list)}
    found = cls(**{**fields, **{name: tuple(v) for name, v in lists.items()}})
    several = found.mean, found.std, found.gray, found.aspect
    numbers = [*(one for values in several for one in values), found.farthest]
    if not (
      all(isinstance(one, float) and math.isfinite(one) for one in numbers)
      and [len(values) for values in several] == [3 * _SIDE**2] * 2 + [2, 2]
      and min(numbers) >= 0
      and found.aspect[0] > 0
    ):
      raise ValueError('its description holds values that make no sense')
    return found

  def has_aspect_of(self, size: Size) -> bool:
    """Returns whether an image of (height, width) is shaped as they were."""
    ratio, (low, high) = size[1] / size[0], self.aspect
    return low / _ASPECT <= ratio <= high * _ASPECT


def thumbnail(pixels: np.ndarray) -> np.ndarray:
  """Returns an image's thumbnail, float32 `[8, 8, 3]`, 0 to 255.

  Args:
    pixels: uint8 `[height, width, 3]`.
  """
  small = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX)
  return np.asarray(small, np.float32)


_COLOUR = 20  # Levels between channels, on average over images: not gray.


class Watch:
  """Warns of a detector's cautions, and of images that look changed, once."""

  def __init__(self, appearance: Appearance | None, cautions: Sequence[str]):
    """Prepares.

    Args:
      appearance: What images should look like; None: nobody knows.
      cautions: What was found wrong when the detector was trained.
    """
    self._known, self._cautions = appearance, cautions
    if appearance:
      shape = (_SIDE, _SIDE, 3)
      self._mean = np.array(appearance.mean, np.float32).reshape(shape)
      std = np.array(appearance.std, np.float32).reshape(shape)
      self._weight = 1 / (std**2 + _NOISE**2)
    self._told: set[str] = set()
    self._lock = threading.Lock()

  def caution(self) -> None:
    """Warns of what was found wrong when the detector was trained."""
    for caution in self._cautions:
      self._tell(caution, f'this detector: {caution}')

  def look(
    self, name: object, small: np.ndarray, size: Size, channels: str
  ) -> None:
    """Warns if an image looks changed.

    Args:
      name: The image's, for messages.
      small: Its `thumbnail`.
      size: Its own (height, width).
      channels: The order in which its channels were said to be.
    """
    known = self._known
    if known is None:
      return
    name = f'image {name}' if isinstance(name, int) else name
    other = 'rgb' if channels == 'bgr' else 'bgr'
    if not known.has_aspect_of(size):
      self._tell('aspect', f'{name}: {other_aspect(known, size)}')
    if change := _level(known, float(small.mean())):
      self._tell(
        'darker' if small.mean() < known.gray[0] else 'brighter',
        f'{name}: {change}; look at the light and the exposure',
      )
    if not np.ptp(small, -1).any() and np.ptp(self._mean, -1).max() > _COLOUR:
      self._tell(
        'gray', f'{name}: is gray, but the training images have colours'
      )
    # All in one go, as it is done for each image.
    changed = (small, small[..., ::-1], *(turn(small) for turn, _ in _TURNED))
    now, swapped, *turned = _distances(
      np.stack(changed), self._mean, self._weight
    ).tolist()
    # Only what then looks like a training image was one.
    usual = 2 * known.farthest + 0.2
    if _is_better(now, swapped, usual, *_CHANNELS):
      self._tell(
        'channels',
        f'{name}: fits the training images far better with red and blue '
        f"exchanged; channels='{other}' (--channels={other}) exchanges them",
      )
    for (_, turn), then in zip(_TURNED, turned, strict=True):
      if _is_better(now, then, usual, *_TURN):
        self._tell(
          'turn',
          f'{name}: fits the training images far better when turned by {turn}; '
          'look at how the camera is mounted',
        )

  def _tell(self, kind: str, message: str) -> None:
    with self._lock:
      if kind in self._told:
        return
      self._told.add(kind)
    logging.warning('%s', message)


def other_aspect(known: Appearance, size: Size) -> str:
  """Returns what is said of an image of another aspect."""
  low, high = (f'{value:.2f}' for value in known.aspect)
  trained = low if low == high else f'{low} to {high}'
  return (
    f'{text(size)} (height x width) has another aspect '
    f'({size[1] / size[0]:.2f}) than the training images ({trained}) and is '
    'squashed or cut to the input as none of them was'
  )


def _distances(
  small: np.ndarray, mean: np.ndarray, weight: np.ndarray
) -> np.ndarray:
  """Returns how far thumbnails are from the mean, in variances, `[images]`."""
  return ((small - mean) ** 2 * weight).mean((1, 2, 3))


def _is_better(
  now: float, then: float, usual: float, times: float, less: float
) -> bool:
  return then <= usual and now > times * then and now - then > less


def _level(known: Appearance, gray: float) -> str | None:
  """Returns what is said of an image far darker or brighter, or None."""
  low, high = known.gray
  told = (
    f'is far %s (mean level {gray:.0f} of 255) than the training images '
    f'({low:.0f} to {high:.0f})'
  )
  if low - gray > _LEVELS and (gray < low / 2 or 255 - gray > 2 * (255 - low)):
    return told % 'darker'
  if gray - high > _LEVELS and (
    gray > 2 * high or 255 - gray < (255 - high) / 2
  ):
    return told % 'brighter'
  return None
