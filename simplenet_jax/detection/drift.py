"""A running test that good images still look like the calibration's.

Each image that is judged good is ranked among the calibration's images below
the threshold and the good ones since: draws of one distribution, cut off there.
If all come from one line in no particular order, ranks with ties broken at
random are independent and uniform (Vovk et al., "Algorithmic Learning in a
Random World", 2005), however few they are. Many missed defects are a change.

From each image on, bets are laid that ranks are high, or low (Shiryaev's and
Roberts's procedure with conformal bets; Vovk et al., "Retrain or not retrain",
2021). Without a change what is won grows by 1 an image on average, so an alarm
within `n` images has a probability of at most `n / LIMIT` for each of six bets.
"""

import bisect
import collections
import random
import shlex
from collections.abc import Iterable

from simplenet_jax.console import numbers
from simplenet_jax.detection.inputs import Look
from simplenet_jax.detection.thresholds import Prediction, Thresholds

LIMIT = 1.2e6  # Six of them: at most 1 % false alarms in 2,000 images.
_MOST = 10_000  # Images to rank among; then random ones are forgotten.
# What is said where a value is higher, or lower, than it was.
_SAID = {
  'score': ('their scores are higher', 'their scores are lower'),
  'level': ('they are brighter', 'they are darker'),
  'x': ('they show things further right', 'they show things further left'),
  'y': ('they show things further down', 'they show things further up'),
  'sharpness': ('they are sharper or noisier', 'they are less sharp'),
}


class Drift:
  """Tells, once, when images that are judged good have changed.

  >>> drift = detector.watch()
  >>> for found in detector.predict(camera):
  ...   if told := drift.update(found):
  ...     print(told)

  Brightness, place, sharpness and scores are compared with the calibration's;
  scores with earlier images alone where thresholds are from folds, whose heads
  score otherwise. More than a fifth beyond the threshold are a change, too.
  `changed` is 'score', a field of `Look`, or 'verdict'; `alarm` says it.
  """

  def __init__(
    self, thresholds: Thresholds, name: object = 'DETECTOR', seed: int = 0
  ):
    """Starts anew; a ValueError without a threshold. `seed` breaks ties."""
    if thresholds.image is None:
      told = 'no threshold, so nothing is judged good; see simplenet calibrate'
      raise ValueError(told)
    self.images, self.changed, self.alarm = 0, '', ''
    self._limit, self._name = thresholds.image, name
    rng = random.Random(seed)  # noqa: S311
    below = [one for one in thresholds.good if one.score < self._limit]
    scores = [] if thresholds.folds else [one.score for one in below]
    looks = zip(*[one.look for one in below if one.look], strict=True)
    known = dict(zip(Look._fields, looks, strict=False), score=scores)
    self._ranks = {what: _Ranks(known.get(what, ()), rng) for what in _SAID}
    self._won_by_bad = 0.0

  def update(self, found: Prediction) -> str:
    """Takes the next image; returns what has changed, the first time only."""
    if self.alarm:
      return ''
    self.images += 1
    # On average a factor of 1 where a fifth is beyond the limit.
    factor = 2.6 if found.score > self._limit else 0.6
    self._won_by_bad = (1 + self._won_by_bad) * factor
    won = {'verdict': self._won_by_bad}
    if found.score < self._limit:  # What equals it is the image it comes from.
      values = {'score': found.score}
      values |= found.look._asdict() if found.look else {}
      won |= {what: self._ranks[what].update(x) for what, x in values.items()}
    if max(won.values()) < LIMIT:
      return ''
    self.changed = max(won, key=won.__getitem__)
    noticed = f'noticed after {self.images} images: '
    if self.changed in _SAID:
      now, before = self._ranks[self.changed].medians()
      told, usual = numbers(now, before)
      said = _SAID[self.changed][now < before]
      said = f'of images judged good, {said} ({told}, before {usual})'
      said = f'the line has changed, {noticed}{said}'
    else:
      said = f'the parts are bad or the line has changed, {noticed}'
      said += 'more than a fifth of the images are NOT OK'
    self.alarm = (
      f'{said}; if the parts are good, recalibrate: simplenet calibrate '
      f'--detector={shlex.quote(str(self._name))} --input=GOOD_IMAGES'
    )
    return self.alarm


class _Ranks:
  """Bets that a value's ranks are higher, or lower, than before."""

  def __init__(self, known: Iterable[float], rng: random.Random):
    self._known, self._rng, self._won = sorted(known), rng, [0.0] * 4
    self._last = collections.deque[float](maxlen=20)  # Since little was won.
    self._usual = 0.0

  def update(self, value: float) -> float:
    """Takes the next value; returns what was won, all bets' mean."""
    known, low = self._known, bisect.bisect_left(self._known, value)
    ties = bisect.bisect_right(known, value) - low
    rank = (low + self._rng.random() * (ties + 1)) / (len(known) + 1)
    up, down = max(rank, 1e-9), max(1 - rank, 1e-9)
    # Densities on [0, 1]: many somewhat high or low ranks win, or few extremes.
    bets = 3 * up**2, 3 * down**2, up**-0.75 / 4, down**-0.75 / 4
    self._won = [(1 + x) * y for x, y in zip(self._won, bets, strict=True)]
    mean = sum(self._won) / len(bets)
    known.insert(low, value)
    if len(known) > _MOST:
      del known[self._rng.randrange(len(known))]
    if mean < 100:
      self._last.clear()
      self._usual = known[len(known) // 2]
    self._last.append(value)
    return mean

  def medians(self) -> tuple[float, float]:
    """Returns those of the values since little was won, and before."""
    return sorted(self._last)[len(self._last) // 2], self._usual
