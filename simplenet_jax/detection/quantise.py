"""A detector in int8 or float16: made, given thresholds anew, and proven.

Rounding to int8 is harmless to most layers, and ruins a few. Each layer's harm
is measured alone, and the worst stay in float32 until the others' is small
beside what good images differ by. Good images then set the thresholds of the
rounded model, and its verdicts are compared with the detector's.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from simplenet_jax.data.images import File
from simplenet_jax.detection import (
  calibration,
  engines,
  inputs,
  onnx_network,
  rounding,
)
from simplenet_jax.detection.onnx_graph import Plan
from simplenet_jax.detection.predictor import Predictor
from simplenet_jax.detection.rounding import Build
from simplenet_jax.detection.thresholds import GoodImage, Thresholds
from simplenet_jax.detector import Detector

_CALIBRATING = 48  # Images that ranges come from, at most.
# What rounding may add, as a share of the deviation of good images' scores:
# the first that leaves verdicts as they were is taken.
_NOISE = (0.2, 0.1, 0.05)
_RATE = 0.01  # Of false alarms, where a detector knows none.
_ROUNDS = 9  # Of timing.
# What of thresholds the report has.
_TOLD = 'image', 'pixel', 'guaranteed_rate', 'target_rate', 'images', 'folds'


class Images(NamedTuple):
  """What a rounded model is made of and judged by."""

  # Good images to set thresholds by, and the detector that has not seen them.
  good: Sequence[tuple[Detector, Sequence[File]]]
  origin: str  # Where these come from, in words.
  # Other good images, that int8 takes ranges from; else the lowest of `good`.
  others: Sequence[File] = ()
  folds: int = 0  # Parts that heads left out in turn; 0: none saw any.
  test: Sequence[File] = ()
  # What test images' scores `[images]` and maps `[images, *size]` are worth.
  figures: Callable[[np.ndarray, np.ndarray], dict[str, float]] | None = None


class Rounded(NamedTuple):
  """A plan that has passed, and what is to be told of it."""

  plan: Plan
  thresholds: Thresholds
  # Of good images, then of test images, before and after, float `[images, 2]`.
  scores: np.ndarray
  report: dict[str, Any]


def find(
  detector: Detector,
  precision: str,
  images: Images,
  build: Build,
  allowed: float,
  rows: bool,
) -> Rounded:
  """Finds a rounded model whose verdicts are the detector's.

  `build` makes a model of a plan, in a form that suits `rows` or not. A
  ValueError if more than a share `allowed` of verdicts, or one, are others.
  """
  before = _good_scores(images, lambda one: one)
  if len(before) < 4:
    told = f'{images.origin}: {len(before)} good images; four are needed'
    raise ValueError(f'{told} at least, fifty are a good start')
  seen = sum(one.look in detector.card.seen for one in before)
  if seen and not images.folds:
    told = f'{seen} of {len(before)} images are among those that the detector'
    raise ValueError(f'{images.origin}: {told} was trained on; give others')
  old = _thresholds(detector, before, images, detector.precision)
  tested = _test(detector, images)
  files = [file for _, some in images.good for file in some]
  used = images.others or _lowest(files, before)
  used = used if precision == 'int8' else ()
  evenly = np.linspace(0, len(used) - 1, min(len(used), _CALIBRATING))
  used = [used[i] for i in np.unique(np.rint(evenly).astype(int))]
  card = detector.card
  pixels = [one.pixels for one in inputs.ready(used, card.bits, card.frame)]
  plan, harm = Plan(rows, half=precision == 'float16'), {}
  # The layers that can be int8: not pooling, resizing, and the head's end.
  work = onnx_network.build(card.network, detector.weights).work
  if precision == 'int8':
    plan = plan._replace(ranges=rounding.ranges(detector, rows, pixels))
    harm = rounding.harm_of(work, detector, plan, build, pixels)
  # Only these are judged: the others took part in making the model.
  sets = np.array([file not in used for file in files])
  judged = np.append(sets, np.ones(len(images.test), bool))
  spread, why = float(np.std(_scores(before))), ''
  for share in _NOISE if harm else _NOISE[:1]:
    plan = plan._replace(layers=rounding.choose(harm, work, share * spread))

    def exported(one: Detector, plan: Plan = plan) -> Predictor:
      return engines.Exported(one.card, build(one, plan), one.roi)

    after = _good_scores(images, exported)
    new = _thresholds(detector, after, images, precision)
    found = _test(exported(detector), images)
    pairs = (_scores(before), _scores(after)), (tested[0], found[0])
    scores = np.concatenate([np.stack(pair, 1) for pair in pairs])
    moved = scores[:, 1] - scores[:, 0]
    flagged = scores > [float(one.image or 0.0) for one in (old, new)]
    changed = int((flagged[:, 0] != flagged[:, 1])[judged].sum())
    total = int(judged.sum())
    limiting = {name for name, _ in new.limiting_images}
    own = {one.name for one, free in zip(after, sets, strict=True) if not free}
    why = f'{changed} of {total} verdicts change, {allowed:.1%} may'
    if limiting & own:
      why = 'an image that calibrated the rounding would set the limit'
    elif changed <= max(1, math.floor(allowed * total)):
      report = {
        'precision': precision,
        'images': {
          'origin': images.origin,
          'calibrate_the_rounding': len(used),
          'set_the_thresholds': int(sets.sum()),
          'test': len(images.test),
        },
        'verdicts': {'compared': total, 'changed': changed, 'allowed': allowed},
        'by_hand': list(new.manual),
        # Before and after are both set anew on these images.
        'thresholds': {
          when: {name: getattr(one, name) for name in _TOLD}
          for when, one in (('before', old), ('after', new))
        }
        | {'own': [detector.threshold, detector.pixel_threshold]},
        # In the scores' units, beside the deviation of good images' scores.
        'mean_change': float(moved.mean()),
        'deviation_of_change': float(moved.std()),
        'largest_change': float(np.abs(moved).max()),
        'deviation_of_good_images': spread,
        'layers': {
          'int8': sorted(plan.layers),
          'float32': sorted({*harm} - plan.layers),
          'work_in_int8': sum(work[x] for x in plan.layers)
          / sum(work.values()),
          # Beside the deviation of good images' scores.
          'harm': {n: round(x / (spread or 1), 4) for n, x in harm.items()},
        },
        'milliseconds': _timed(
          build(detector, Plan(rows)), build(detector, plan), detector.size
        ),
      }
      if worth := images.figures:
        report['test'] = {'before': worth(*tested), 'after': worth(*found)}
      return Rounded(plan, new, scores, report)
  told = f'{card.name} cannot be exported in {precision}: {why}; nothing is'
  remedy = 'take --precision=float32, a larger --allow_changed or more images'
  raise ValueError(f'{told} written; {remedy}')


def _good_scores(
  images: Images, judge: Callable[[Detector], Predictor]
) -> list[GoodImage]:
  """Returns what is known of all good images, in order."""
  pairs = [(judge(one), list(files)) for one, files in images.good]
  return [good for one, files in pairs for good in one.score_good(files)]


def _scores(good: Sequence[GoodImage]) -> list[float]:
  return [one.score for one in good]


def _thresholds(
  detector: Detector, good: Sequence[GoodImage], images: Images, precision: str
) -> Thresholds:
  """Returns thresholds by good images; what was set by hand stays."""
  known = detector.thresholds
  made = calibration.calibrate(good, known.target_rate or _RATE, images.folds)
  made = dataclasses.replace(made, precision=precision)
  by_hand = {name: getattr(known, name) for name in known.manual}
  return made.replace(**by_hand) if by_hand else made


def _lowest(files: Sequence[File], good: Sequence[GoodImage]) -> Sequence[File]:
  """Returns the good images that can set no limit, at most half of them.

  What takes part in making the model must not set its limits. These hold all
  the same: they are the highest of all images, and stay so.
  """
  values = np.array([(one.score, one.peak) for one in good])
  ranks = values.argsort(0).argsort(0).max(1)
  count = min(len(files) // 2, _CALIBRATING)
  return [files[i] for i in np.sort(np.argsort(ranks, kind='stable')[:count])]


def _test(judge: Predictor, images: Images) -> tuple[np.ndarray, np.ndarray]:
  """Returns scores `[images]` and maps `[images, *size]` of test images."""
  found = [*judge.predict(list(images.test))] if images.test else []
  maps = [np.asarray(one.input_map) for one in found]
  return np.array([one.score for one in found]), np.array(maps)


def _timed(
  one: engines.Model, other: engines.Model, size: tuple[int, int]
) -> dict[str, float]:
  """Returns medians of single images, measured here, in turns."""
  pixels = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
  seconds: dict[str, list[float]] = {'float32': [], 'rounded': []}
  for _ in range(_ROUNDS):
    for name, model in zip(seconds, (one, other), strict=True):
      start = time.perf_counter()
      model.run(pixels)
      seconds[name].append(1e3 * (time.perf_counter() - start))
  return {name: round(statistics.median(x), 2) for name, x in seconds.items()}
