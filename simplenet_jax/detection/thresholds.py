"""Thresholds from normal images that were not trained on.

Split conformal prediction: a new normal image and the `n` held-out ones come in
any order with the same probability, so the new one exceeds the `k`-th smallest
held-out score with a probability of at most `1 - k / (n + 1)`, whatever the
scores' distribution (Vovk et al., "Algorithmic Learning in a Random World",
2005). Less than `1 / (n + 1)` cannot be promised. That is an average over draws
of the `n` images. For one draw the share of normal images beyond the threshold
is at most Beta(n + 1 - k, k) distributed, of which `bound` is a quantile.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from absl import logging
from scipy import special

_CONFIDENCE = 0.95
_FEW = 10  # Images with fewer than which a threshold is worth little.


@dataclasses.dataclass(frozen=True)
class Thresholds:
  """Beyond which an image, or a pixel, is called anomalous.

  Attributes:
    image: For image scores; None: no verdict on images.
    pixel: For anomaly maps; None: no verdict on pixels. A normal image has a
      pixel beyond it as seldom as its score is beyond `image`.
    asked: Rate of false alarms that was asked for, in (0, 1).
    promised: Bound of that rate for each threshold; None where there is none.
    images: How many held-out images they come from.
    median: Of their scores.
    drivers: Those at or above either threshold, without which it would be
      lower, and their scores; highest first.
    by_hand: Which of `image` and `pixel` were set by hand, and promise nothing.
    precision: In which the scores were computed.
  """

  image: float | None = None
  pixel: float | None = None
  asked: float | None = None
  promised: float | None = None
  images: int = 0
  median: float | None = None
  drivers: tuple[tuple[str, float], ...] = ()
  by_hand: tuple[str, ...] = ()
  precision: str | None = None

  @property
  def bound(self) -> float | None:
    """The rate of false alarms that is kept with 95 % confidence, or None."""
    if self.promised is None or self.images < 1:
      return None
    rank = round((1 - self.promised) * (self.images + 1))
    rank = min(max(rank, 1), self.images)
    return float(special.betaincinv(self.images + 1 - rank, rank, _CONFIDENCE))

  def normalised(self, score: float) -> float:
    """Puts a score on a scale where 0 is usual and 1 is the threshold.

    The scale has no ends, so no two scores become one.

    Raises:
      ValueError: If there is nothing to measure by.
    """
    if self.image is None or self.median is None:
      raise ValueError(
        'scores can be normalised only by a detector calibrated with normal '
        'images (python -m simplenet_jax.calibrate)'
      )
    if not self.image > self.median:
      raise ValueError(
        f'scores cannot be normalised: the threshold, {self.image:g}, is not '
        f'above the median of normal images, {self.median:g}'
      )
    return (score - self.median) / (self.image - self.median)

  def replace(
    self, image: float | None = None, pixel: float | None = None
  ) -> 'Thresholds':
    """Returns thresholds with some set by hand, which promise nothing."""
    given = {'image': image, 'pixel': pixel}
    new = {name: value for name, value in given.items() if value is not None}
    by_hand = tuple(dict.fromkeys((*self.by_hand, *new)))
    return dataclasses.replace(self, **new, by_hand=by_hand)


NONE = Thresholds()


def calibrate(
  names: Sequence[str],
  scores: Sequence[float],
  peaks: Sequence[float],
  rate: float,
) -> Thresholds:
  """Sets thresholds by normal images that were not trained on.

  Args:
    names: Of the images.
    scores: Image scores.
    peaks: The highest value of each one's anomaly map.
    rate: Of false alarms, in (0, 1). Where the images are too few for it, the
      thresholds are the highest of their scores.

  Raises:
    ValueError: If there are no images, or the rate is out of range.
  """
  if not 0 < rate < 1:
    raise ValueError(f'the rate of false alarms is {rate}, expected 0 to 1')
  if not len(scores):
    raise ValueError('no normal images to set a threshold by')
  count = len(scores)
  # Rounded first: (1 - 1 / 3) * 9 is a little above 6.
  rank = math.ceil(round((1 - rate) * (count + 1), 9))
  rank = min(max(rank, 1), count)
  image, pixel = (float(np.sort(v)[rank - 1]) for v in (scores, peaks))
  drivers = [
    (name, float(score))
    for name, score, peak in zip(names, scores, peaks, strict=True)
    if score >= image or peak >= pixel
  ]
  made = Thresholds(
    image=image,
    pixel=pixel,
    asked=float(rate),
    promised=1 - rank / (count + 1),
    images=count,
    median=float(np.median(scores)),
    drivers=tuple(sorted(drivers, key=lambda driver: -driver[1])),
  )
  if count < _FEW and made.bound is not None:
    logging.warning(
      'a threshold from %d good image%s is worth little: with 95 %% confidence '
      'up to %.0f %% of good images may be flagged; calibrate with more',
      count,
      '' if count == 1 else 's',
      100 * made.bound,
    )
  return made


def needed(rate: float) -> int:
  """Returns how many images a promised rate takes."""
  return math.ceil(round(1 / rate, 9)) - 1


def describe(thresholds: Thresholds) -> list[str]:
  """Tells where thresholds come from and what they promise, in short lines."""
  by_hand = [
    f'{name} threshold {getattr(thresholds, name):.4g}, set by hand'
    for name in thresholds.by_hand
  ]
  if 'image' in thresholds.by_hand:
    return by_hand
  if thresholds.image is None:
    return ['no threshold: scores only', *by_hand]
  if thresholds.promised is None or thresholds.bound is None:
    return [f'threshold {thresholds.image:.4g}', *by_hand]
  count = thresholds.images
  asked = thresholds.asked or thresholds.promised
  more = ''
  if thresholds.promised > asked + 1e-9:
    more = f' ({asked:.1%} takes {needed(asked)} images)'
  shown = ', '.join(name for name, _ in thresholds.drivers[:3])
  rest = len(thresholds.drivers) - 3
  and_more = f' and {rest} more' if rest > 0 else ''
  plural = '' if count == 1 else 's'
  return [
    f'threshold {thresholds.image:.4g} from {count} good image{plural}',
    f'set by {shown}{and_more}',
    f'on average over draws of {count} good image{plural} not trained on, at '
    f'most {thresholds.promised:.1%} of good images are flagged{more}',
    f'with 95 % confidence at most {thresholds.bound:.1%} of good images are '
    'flagged',
    *by_hand,
  ]
