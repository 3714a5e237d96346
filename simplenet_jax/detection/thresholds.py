"""Verdicts, and what the thresholds behind them promise: see `calibration`."""

import bisect
import dataclasses
import functools
import math
import numbers
import statistics
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image

from simplenet_jax import pictures
from simplenet_jax.console import counted
from simplenet_jax.data.frame import Frame
from simplenet_jax.data.images import File, place
from simplenet_jax.detection import regions
from simplenet_jax.detection.inputs import Look
from simplenet_jax.pictures import Scale, View

_CONFIDENCE = 0.95
# A limit lies far from the scores below it: by more than this share of what the
# highest of them lies above the middle one.
_FAR = 0.5


class GoodImage(NamedTuple):
  """What is known of an image that thresholds come from."""

  name: str
  score: float
  peak: float  # The highest value of its map.
  look: Look | None = None


@dataclasses.dataclass(frozen=True)
class Thresholds:
  """Beyond which an image, or a pixel, is called anomalous."""

  image: float | None = None  # For image scores; None: no verdict.
  # For anomaly maps. A normal image has a pixel beyond it as seldom as its
  # score is beyond `image`.
  pixel: float | None = None
  target_rate: float | None = None  # Of false alarms, as it was asked for.
  # The rate that each threshold keeps, on average over draws of held-out
  # images; None where nothing is guaranteed.
  guaranteed_rate: float | None = None
  images: int = 0  # How many held-out images they come from.
  folds: int = 0  # Parts of them left out in turn; 0: no head saw any.
  median: float | None = None  # Of the held-out images' scores.
  # Names and scores of the images at or above either threshold, without which
  # it would be lower; highest first.
  limiting_images: tuple[tuple[str, float], ...] = ()
  manual: tuple[str, ...] = ()  # Which of `image` and `pixel` were set by hand.
  precision: str | None = None  # In which the scores were computed.
  # All held-out images, by score; empty of detectors of earlier versions.
  good: tuple[GoodImage, ...] = ()
  served: bool = False  # Whether the detector judged some of them good itself.

  @property
  def bound(self) -> float | None:
    """The rate of false alarms that is kept with 95 % confidence, or None."""
    if self.guaranteed_rate is None or self.images < 1 or self.served:
      return None
    rank = round((1 - self.guaranteed_rate) * (self.images + 1))
    rank = min(max(rank, 1), self.images)
    from scipy import special  # Slow to import.

    return float(special.betaincinv(self.images + 1 - rank, rank, _CONFIDENCE))

  def summary(self) -> dict[str, Any]:
    """Returns what `results.json` has of them, in numbers and in words."""
    told = {'bound': self.bound, 'told': describe(self)}
    return {**dataclasses.asdict(self), **told, 'good': len(self.good)}

  def p_value(self, score: float) -> float | None:
    """Returns the share of good images that score as high, with this one.

    A new good image has one of at most `p`, in (0, 1], with a probability of at
    most `p`, on average over draws of the held-out images: it is conformal.
    With `folds` it is approximate. None: no scores of good images are known.
    """
    if not self.good:
      return None
    below = bisect.bisect_left(self.good, score, key=lambda one: one.score)
    return (1 + len(self.good) - below) / (1 + len(self.good))

  def normalised(self, score: float) -> float:
    """Puts a score on an unbounded scale: 0 is usual, 1 is the threshold."""
    if self.image is None or self.median is None or self.image <= self.median:
      raise ValueError(
        'scores can be normalised only by a detector calibrated with normal '
        'images (simplenet calibrate), whose threshold is above '
        f'their median; they are {self.image} and {self.median}'
      )
    return (score - self.median) / (self.image - self.median)

  def replace(self, **by_hand: float | None) -> 'Thresholds':
    """Returns them with `image` or `pixel` set by hand; None takes one away.

    Nothing is guaranteed then. Raises a ValueError for what is not finite.
    """
    new: dict[str, Any] = dict(by_hand)
    for name, value in by_hand.items():
      if isinstance(value, numbers.Real) and math.isfinite(value):
        new[name] = float(value)
      elif value is not None:
        told = f'the {name} threshold is {value!r}'
        raise ValueError(f'{told}, expected a finite number or None')
    given = {name for name, value in new.items() if value is not None}
    manual = tuple(sorted({*self.manual} - {*new} | given))
    if 'image' in new:
      new |= {'target_rate': None, 'guaranteed_rate': None}
    return dataclasses.replace(self, **new, manual=manual)


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What a detector says of one image."""

  source: File | int  # A path or record, or the place among those given.
  score: float  # Unbounded; the highest of the image's patches.
  thresholds: Thresholds  # The detector's.
  frame: Frame  # Where the input's pixels lie in the image.
  input_map: np.ndarray  # In the input's pixels, float32 `[*input]`.
  # What reading took, and a share of the time that the device held up the host.
  seconds: float
  thumbnail: Image.Image | None = None  # RGB, where `predict` was to keep it.
  # Reads the image once more; arrays are kept by reference.
  photograph: Callable[[], Image.Image] | None = None
  scale: Scale | None = None  # Colours of pictures.
  look: Look | None = None  # What `drift` watches beside the score.
  roi: np.ndarray | None = None  # Where it was looked at, bool `[*input]`.

  @property
  def name(self) -> str:
    """The image's name, or its place among those given."""
    source = self.source
    return f'image {source}' if isinstance(source, int) else place(source).name

  @property
  def anomalous(self) -> bool | None:
    """The verdict; None where the detector has no threshold."""
    limit = self.thresholds.image
    return None if limit is None else self.score > limit

  @property
  def p_value(self) -> float | None:
    """As of `Thresholds.p_value`: small for what good images hardly score."""
    return self.thresholds.p_value(self.score)

  @property
  def normalised(self) -> float:
    """The score on the scale of `Thresholds.normalised`."""
    return self.thresholds.normalised(self.score)

  @property
  def map(self) -> np.ndarray:
    """Anomaly map `[height, width]` of the image's own pixels, made anew.

    It is float32, and NaN outside the crop.
    """
    return self.frame.map_to_original(self.input_map)

  @property
  def mask(self) -> np.ndarray | None:
    """Pixels beyond the threshold, bool `[height, width]`; None without one."""
    limit = self.thresholds.pixel
    return None if limit is None else self.map > limit

  @functools.cached_property
  def regions(self) -> list[regions.Region] | None:
    """Connected pixels beyond the threshold; None without one.

    The verdict comes from `score`: an anomalous image need not have any.
    """
    limit, grid = self.thresholds.pixel, self.input_map
    return None if limit is None else regions.find(grid, self.frame, limit)

  @property
  def summary(self) -> str:
    """Score and verdict in words, such as 'NOT OK 5.01 (limit 2.44)'."""
    return pictures.verdict(self.score, self.thresholds.image)[1]

  def __repr__(self) -> str:
    found = self.regions
    told = '' if found is None else f', {counted(len(found), "region")}'
    return f'<Prediction {self.name}: {self.summary}{told}>'

  def picture(self, *, normalise: bool = False) -> Image.Image:
    """Draws the photograph, the heat map with its scale, and the verdict: RGB.

    The photograph is the thumbnail or, without it, read again where it came
    from, and brought to a longer side of 512 to 1024 pixels. Scores are written
    as `normalised` if that is asked for. Raises an OSError or a ValueError if
    the photograph is gone, or another one by now.
    """
    if not (self.thumbnail or self.photograph):
      raise ValueError(f'{self.name}: no photograph is known')
    image = self.thumbnail or cast(Any, self.photograph)()
    longest = min(max(*image.size, pictures.SMALL), pictures.SIDE)
    if longest != max(image.size):
      image = pictures.resized(image, longest, Image.Resampling.BICUBIC)
    # Straight from the input's pixels to the picture's: they are the fewest.
    heat = self.frame.map_to_picture(self.input_map, image, self.roi)
    limits = self.thresholds
    low, high = float(self.input_map.min()), float(self.input_map.max())
    scale = self.scale or Scale.of(low, high, limits.pixel)
    score, limit = self.score, limits.image
    if normalise:
      to: Any = limits.normalised
      heat, score, limit = to(heat), to(score), 1.0
      low, high, most = scale
      scale = Scale(to(low), to(high), None if most is None else to(most))
    name = self.name  # With its folder, as many are called 000.png.
    if not isinstance(self.source, int):
      name = str(PurePosixPath(*place(self.source).parts[-2:]))
    return View(image, heat, scale, name, score, limit).picture()

  def save(self, path: str | Path, *, normalise: bool = False) -> None:
    """Writes `picture` to a file, such as a .png or a .jpg."""
    pictures.write(Path(path), self.picture(normalise=normalise))

  def show(self) -> None:
    """Opens `picture` in a window."""
    self.picture().show()


def describe(found: Thresholds) -> list[str]:
  """Says where thresholds come from and what they guarantee, in short lines."""
  manual = [
    f'{name} threshold {getattr(found, name):.4g}, set by hand'
    for name in found.manual
  ]
  if found.images and not found.good:
    manual.append('no p-values until it is calibrated (simplenet calibrate)')
  if 'image' in found.manual:
    return manual
  if found.image is None:
    return ['no threshold: scores only', *manual]
  rate, bound = found.guaranteed_rate, found.bound
  limits = f'threshold {found.image:.4g}'
  if found.pixel is not None and 'pixel' not in found.manual:
    limits += f' for images, {found.pixel:.4g} for pixels'
  head = f'{limits}, from {counted(found.images, "good image")}'
  shown = ', '.join(name for name, _ in found.limiting_images[:3])
  if (rest := len(found.limiting_images) - 3) > 0:
    shown += f' and {rest} more'
  below = [one.score for one in found.good if one.score < found.image]
  lower = f'{max(below):.4g}' if below else 'lower'
  set_by = f'it would be {lower} without {shown}'
  most, middle = max(below, default=0.0), statistics.median(below or [0.0])
  if len(below) >= 10 and found.image - most > _FAR * (most - middle):
    set_by += (
      ', far from the others: look there; take a bad part away, add images '
      'like a good one, and train again, as so high a limit hides defects'
    )
  if found.folds:
    head += ', each scored by a head that has not seen it'
    expected = max(1 / (found.images + 1), found.target_rate or 0)
    promise = f'expect about {expected:.1%} of good images to be called NOT OK'
    more = 'a promise takes images that are not trained on, in validation/good'
    promised = [f'{promise}; {more}']
  elif found.served:
    kept = 'nothing is promised, as the threshold before promised nothing'
    if rate is not None:
      kept = f'at most {rate:.1%} of good images are called NOT OK, if the '
      kept += 'threshold before kept its promise'
    chosen = 'the detector judged them good itself: good parts that it called '
    promised = [f'{chosen}NOT OK are not among them', kept]
  elif rate is None or bound is None:
    return [limits, *manual]
  else:
    head, target = f'{head} that were not trained on', found.target_rate or rate
    needed = math.ceil(round(1 / target, 9)) - 1
    few = f' ({target:.1%} takes {needed} images)' * (rate > target + 1e-9)
    promised = [
      f'on average at most {rate:.1%} of good images are called NOT OK{few}',
      f'with 95% confidence at most {bound:.1%} are called NOT OK',
    ]
  return [head, set_by, *promised, *manual]
