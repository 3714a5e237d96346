"""Thresholds from normal images that were not trained on.

Split conformal prediction: a new normal image and the `n` held-out ones come in
any order with the same probability, so the new one exceeds the `k`-th smallest
held-out score with a probability of at most `1 - k / (n + 1)`, on average over
draws of the `n` (Vovk et al., "Algorithmic Learning in a Random World", 2005);
less than `1 / (n + 1)` cannot be guaranteed. For one draw the share of normal
images beyond it is at most Beta(n + 1 - k, k) distributed: `Thresholds.bound`.

Where no image is held out, each is scored by a head and beside a bank without
it (cross-conformal prediction), and the same share is an expectation. About
twice the share is proven of verdicts that compare a new image with each part by
its head (Barber et al., "Predictive inference with the jackknife+", 2021).
"""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from simplenet_jax.console import counted
from simplenet_jax.detection.inputs import Look
from simplenet_jax.detection.thresholds import GoodImage, Thresholds
from simplenet_jax.files import naming

_FEW = 10  # A threshold from fewer images is not reliable.
_ROUNDING = 0.02  # Of scores: devices and precisions round otherwise.


def calibrate(
  held_out: Sequence[GoodImage], rate: float, folds: int = 0
) -> Thresholds:
  """Sets thresholds by what is known of normal images.

  Where they are too few for the rate, the thresholds are the highest of them.
  With `folds` they are of parts left out in turn: nothing is guaranteed.
  """
  if not 0 < rate < 1:
    raise ValueError(f'the rate of false alarms is {rate}, expected 0 to 1')
  if not held_out:
    raise ValueError('no normal images to set a threshold by')
  good = sorted(held_out, key=lambda one: one.score)
  count, scores = len(good), [one.score for one in good]
  rank = rank_of(count, rate)
  image, pixel = scores[rank - 1], sorted(one.peak for one in good)[rank - 1]
  made = Thresholds(
    image=float(image),
    pixel=float(pixel),
    target_rate=float(rate),
    guaranteed_rate=None if folds else 1 - rank / (count + 1),
    images=count,
    folds=folds,
    median=float(np.median(scores)),
    limiting_images=tuple(
      (one.name, one.score)
      for one in reversed(good)
      if one.score >= image or one.peak >= pixel
    ),
    good=tuple(good),
  )
  if count < _FEW:
    told = 'a threshold from %s is not reliable; calibrate with more'
    logging.warning(told, counted(count, 'good image'))
  return made


def rank_of(count: int, rate: float) -> int:
  """Returns which of so many scores, from 1 up, is the threshold at a rate."""
  # Rounded first: (1 - 1 / 3) * 9 is a little above 6.
  rank = math.ceil(round((1 - rate) * (count + 1), 9))
  return min(max(rank, 1), count)


def untrained(
  seen: Collection[Look], found: Sequence[GoodImage]
) -> list[GoodImage]:
  """Returns images without those `seen` in training, which score low.

  Raises a ValueError if none is left.
  """
  new = [one for one in found if one.look not in seen]
  if left := len(found) - len(new):
    told = f'{left} of {len(found)} images are among those that the '
    told += 'detector was trained on, which score low'
    if not new:
      raise ValueError(f'{told}; give new good images')
    logging.warning('%s: left out', told)
  return new


def joined(
  known: Thresholds, new: Sequence[GoodImage], precision: str
) -> list[GoodImage]:
  """Returns known and new good images, each once; a ValueError if it cannot."""
  why = ''
  if not known.good:
    why = 'it keeps no scores of good images'
  elif known.folds:
    why = 'its scores are of heads that left these images out'
  elif known.served:
    why = 'it judged some of its images good itself'
  elif known.precision != precision:
    why = f'its scores are not in {precision}'
  if why:
    told = 'nothing can be appended to this detector'
    raise ValueError(f'{told}: {why}; give new good images, without --append')
  # The same image, whatever it is called now; runtimes round its score anew.
  before = {one.look or one[1:] for one in known.good}
  added = [one for one in new if (one.look or one[1:]) not in before]
  if again := len(new) - len(added):
    logging.warning('%d of these images count already; not added', again)
  return [*known.good, *added]


def weakened(made: Thresholds, before: Thresholds) -> Thresholds:
  """Returns new thresholds with what they promise of images served as good.

  Those and new ones that pass the threshold of `before` come in any order. So a
  good image is beyond that one, or passes it and is beyond the new one: the two
  rates add up.
  """
  rate, more = made.guaranteed_rate, before.guaranteed_rate
  total = None if rate is None or more is None else min(rate + more, 1.0)
  return dataclasses.replace(made, guaranteed_rate=total, served=True)


def check_served(served: Sequence[float], found: Sequence[float]) -> None:
  """Raises a ValueError if images have other scores than when served."""
  if np.isclose(served, found, rtol=_ROUNDING, atol=_ROUNDING).mean() < 0.5:
    raise ValueError(
      'most images have other scores than in the table of predictions; give '
      'the --roi, --precision and --channels that they were predicted with'
    )


def read_served(path: Path, limit: float | None) -> list[tuple[Path, float]]:
  """Returns the images, and scores, that a table of predictions calls normal.

  A ValueError unless the threshold `limit` judged them; a FileNotFoundError if
  one is gone.
  """
  remedy = 'give predictions.csv or predictions.jsonl of this detector'
  with naming(path, remedy):
    text = io.StringIO(path.read_text('utf-8', 'surrogateescape'), '')
    table = path.suffix == '.csv'
    rows = csv.DictReader(text) if table else map(json.loads, text)
    passed = [row for row in rows if row.get('verdict') == 'normal']
    limits = {f'{float(row["threshold"]):.7g}' for row in passed}
    images = [(Path(row['path']), float(row['score'])) for row in passed]
  expected = '' if limit is None else f'{limit:.7g}'
  if limits != {expected}:
    raise ValueError(
      f'{path}: its normal images were judged by the threshold '
      f'{" and ".join(sorted(limits)) or "of none"}, the detector has '
      f'{expected or "none"}; {remedy}'
    )
  if gone := [one for one, _ in images if not one.is_file()]:
    raise FileNotFoundError(
      f'{path}: {len(gone)} of its {len(images)} normal images are not there, '
      f'such as {gone[0]}; start the command where they were predicted'
    )
  return images
