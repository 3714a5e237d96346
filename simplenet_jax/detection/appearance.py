"""What training images look like, so that other ones are noticed.

A detector scores whatever it is shown. Where a camera gives blue before red, is
mounted the other way round or stands in the dark, its scores mean nothing, and
every part is bad. So a detector keeps a few statistics of its training images,
and warns when what it is shown fits them far better after such a change.
"""

import dataclasses
import threading
from collections.abc import Sequence

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax.data.frame import ASPECT_TOLERANCE, Size, text

LOOKED_AT = 64  # Training images that the statistics come from, at most.
_SIDE = 8  # Of a thumbnail, in pixels.
_NOISE = 8.0  # Gray levels that a thumbnail's pixel may always be off by.
_LEVELS = 20  # Gray levels by which an image must be darker or brighter.
_COLOUR = 20  # Levels between channels, on average over images: not gray.
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
  """Statistics of training images."""

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
    count = 3 * _SIDE**2
    return (
      (len(self.mean), len(self.std)) == (count, count)
      and min(values) >= 0
      and min(self.aspect) > 0
    )

  def has_aspect_of(self, size: Size) -> bool:
    """Returns whether an image of (height, width) is shaped as they were."""
    ratio, (low, high) = size[1] / size[0], self.aspect
    return low / ASPECT_TOLERANCE <= ratio <= high * ASPECT_TOLERANCE


def thumbnail(pixels: np.ndarray) -> np.ndarray:
  """Returns pixels `[height, width, 3]` as float32 `[8, 8, 3]`, 0 to 255."""
  small = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX)
  return np.asarray(small, np.float32)


class Watch:
  """Warns of a detector's cautions, and of images that look changed, once."""

  def __init__(self, appearance: Appearance | None, cautions: Sequence[str]):
    """Prepares; of old detectors nobody knows what images should look like."""
    self._known, self._cautions = appearance, cautions
    if appearance:
      self._mean, self._std = (
        np.array(values, np.float32).reshape(_SIDE, _SIDE, 3)
        for values in (appearance.mean, appearance.std)
      )
    self._told: set[str] = set()
    self._lock = threading.Lock()

  def caution(self) -> None:
    """Warns of what was found wrong when the detector was trained."""
    for caution in self._cautions:
      self._tell(caution, f'this detector: {caution}')

  def look(
    self, name: object, small: np.ndarray, size: Size, channels: str
  ) -> None:
    """Warns if an image, of which `small` is the thumbnail, looks changed."""
    known = self._known
    if known is None:
      return
    name = f'image {name}' if isinstance(name, int) else name
    if not known.has_aspect_of(size):
      self._tell('aspect', f'{name}: {other_aspect(known, size)}')
    if change := _level(known, gray := float(small.mean())):
      low, high = known.gray
      self._tell(
        change,
        f'{name}: is far {change} (mean level {gray:.0f} of 255) than the '
        f'training images ({low:.0f} to {high:.0f}); look at the light and the '
        'exposure',
      )
    if not np.ptp(small, -1).any() and np.ptp(self._mean, -1).max() > _COLOUR:
      self._tell(
        'gray', f'{name}: is gray, but the training images have colours'
      )
    # All in one go, as it is done for each image.
    changed = (small, small[..., ::-1], *(turn(small) for turn, _ in _TURNED))
    now, swapped, *turned = _distances(
      np.stack(changed), self._mean, self._std
    ).tolist()
    fits = f'{name}: fits the training images far better'

    def is_better(then: float, times: float, less: float) -> bool:
      # Only what then looks like a training image was one.
      usual = then <= 2 * known.farthest + 0.2
      return usual and now > times * then and now - then > less

    if is_better(swapped, *_CHANNELS):
      other = 'rgb' if channels == 'bgr' else 'bgr'
      self._tell(
        'channels',
        f"{fits} with red and blue exchanged; channels='{other}' "
        f'(--channels={other}) exchanges them',
      )
    for (_, turn), then in zip(_TURNED, turned, strict=True):
      if is_better(then, *_TURN):
        self._tell(
          'turn',
          f'{fits} when turned by {turn}; look at how the camera is mounted',
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
  small: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> np.ndarray:
  """Returns how far thumbnails are from the mean, in variances, `[images]`."""
  return ((small - mean) ** 2 / (std**2 + _NOISE**2)).mean((1, 2, 3))


def _level(known: Appearance, gray: float) -> str:
  """Returns whether an image is far 'darker' or 'brighter', or ''."""
  low, high = known.gray
  if low - gray > _LEVELS and (gray < low / 2 or 255 - gray > 2 * (255 - low)):
    return 'darker'
  if gray - high > _LEVELS and (
    gray > 2 * high or 255 - gray < (255 - high) / 2
  ):
    return 'brighter'
  return ''
