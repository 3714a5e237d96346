"""Thresholds: what is promised holds, and no less than that is promised."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simplenet_jax.data.frame import Frame
from simplenet_jax.detection import calibration, thresholds
from simplenet_jax.detection.inputs import Look
from simplenet_jax.detection.thresholds import (
  GoodImage,
  Prediction,
  Thresholds,
)

# Few different values: many ties.
TIED = st.integers(-3, 3).map(float)
VALUES = st.floats(-1e6, 1e6, allow_subnormal=False) | TIED
RATES = st.integers(2, 400).flatmap(
  lambda q: st.integers(1, q - 1).map(lambda p: Fraction(p, q))
)


def calibrate(scores, rate, peaks=None):
  names = [f'{i}.png' for i in range(len(scores))]
  peaks = scores if peaks is None else peaks
  held_out = list(map(GoodImage, names, scores, peaks))
  return calibration.calibrate(held_out, float(rate))


def rank_by_definition(count, rate):
  """The smallest rank that keeps the promise, in exact fractions."""
  for rank in range(1, count + 1):
    if Fraction(count + 1 - rank, count + 1) <= rate:
      return rank
  return count


@given(st.lists(VALUES, min_size=1, max_size=50), RATES)
@example([float(i) for i in range(19)], Fraction(1, 20))
@example([float(i) for i in range(99)], Fraction(1, 100))
# (1 - 1/3) * 9 is a little above 6 in floats.
@example([float(i) for i in range(8)], Fraction(1, 3))
@example([float(i) for i in range(9)], Fraction(7, 10))
@example([5.0], Fraction(1, 2))
def test_the_threshold_is_the_score_of_that_rank(scores, rate):
  found = calibrate(scores, rate)
  count, rank = len(scores), rank_by_definition(len(scores), rate)
  assert found.image == sorted(scores)[rank - 1]
  assert found.guaranteed_rate == pytest.approx(
    (count + 1 - rank) / (count + 1), abs=1e-12
  )
  assert found.images == count
  assert found.median == np.median(scores)
  assert found.target_rate == float(rate)


@given(st.lists(VALUES, min_size=2, max_size=30), RATES)
def test_the_promise_holds_for_every_multiset_of_scores(scores, rate):
  # The theorem's own argument: whichever of the images comes last, all are
  # equally likely, so the share of those that would be flagged is the rate.
  flagged, promised = 0, []
  for index, new in enumerate(scores):
    found = calibrate(scores[:index] + scores[index + 1 :], rate)
    flagged += new > found.image
    promised.append(found.guaranteed_rate)
  assert flagged <= len(scores) * promised[0] + 1e-9
  if len(set(scores)) == len(scores):
    assert flagged == round(len(scores) * promised[0])


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=30), RATES)
def test_drivers_are_those_at_or_above_a_threshold(pairs, rate):
  scores, peaks = map(list, zip(*pairs, strict=True))
  found = calibrate(scores, rate, peaks)
  assert found.pixel == calibrate(peaks, rate).image
  expected = {
    (f'{i}.png', score)
    for i, (score, peak) in enumerate(pairs)
    if score >= found.image or peak >= found.pixel
  }
  assert set(found.limiting_images) == expected
  assert len(found.limiting_images) == len(expected)
  listed = [score for _, score in found.limiting_images]
  assert listed == sorted(listed, reverse=True)


@given(st.lists(VALUES, min_size=1, max_size=30))
def test_p_values_are_at_most_as_small_as_they_are_likely(scores):
  # Whichever of the images comes last, all are equally likely.
  found = []
  for index, new in enumerate(scores):
    others = scores[:index] + scores[index + 1 :]
    if others:
      held = calibrate(others, 0.5)
      found.append(held.p_value(new))
      assert found[-1] == (1 + sum(x >= new for x in others)) / len(scores)
  for level in np.arange(1, len(found) + 1) / len(scores):
    assert np.mean(np.array(found) <= level + 1e-9) <= level + 1e-9


def test_an_image_counts_once_however_a_runtime_rounds_its_score():
  looks = [Look(float(i), 0.0, 0.0, 0.0) for i in range(3)]
  known = [GoodImage('a', 1.0 + i, 2.0, look) for i, look in enumerate(looks)]
  again = [one._replace(name='b', score=one.score + 1e-6) for one in known[1:]]
  again.append(GoodImage('c', 2.0, 2.0, Look(9.0, 0.0, 0.0, 0.0)))
  limits = Thresholds(images=3, good=tuple(known), precision='float32')
  found = calibration.joined(limits, again, 'float32')
  assert [one.name for one in found] == ['a', 'a', 'a', 'c']


def test_without_good_images_there_is_no_p_value():
  assert Thresholds(1.0).p_value(2.0) is None
  assert make(found=Thresholds(1.0)).p_value is None
  assert make(3.5, found=calibrate([1.0, 2.0, 3.0], 0.5)).p_value == 0.25


@pytest.mark.parametrize('median', [None, 1.0, 2.0])
def test_scores_without_a_scale_are_not_normalised(median):
  for image in (None, 1.0):
    with pytest.raises(ValueError, match='only by a detector calibrated'):
      Thresholds(image=image, median=median).normalised(1.0)


def test_a_threshold_set_by_hand_promises_nothing():
  found = calibrate([1.0, 2.0, 3.0], 0.5, [4.0, 5.0, 6.0])
  by_hand = found.replace(image=7.0)
  assert (by_hand.image, by_hand.manual) == (7.0, ('image',))
  assert (by_hand.guaranteed_rate, by_hand.bound) == (None, None)
  assert by_hand.replace(image=None).manual == ()
  assert by_hand.replace(image=None).image is None
  assert found.replace(pixel=0.0).pixel == 0.0
  assert found.replace(pixel=0.0).image == found.image
  assert found.guaranteed_rate == 0.5  # It is left as it was.
  assert thresholds.describe(by_hand) == ['image threshold 7, set by hand']
  one = found.replace(pixel=0.25)  # The other one still promises.
  assert 'at most 50.0%' in thresholds.describe(one)[2]
  assert thresholds.describe(one)[-1] == 'pixel threshold 0.25, set by hand'
  alone = Thresholds().replace(pixel=2.0)
  assert thresholds.describe(alone) == [
    'no threshold: scores only',
    'pixel threshold 2, set by hand',
  ]
  for wrong in ('2', np.nan, [2.0]):
    with pytest.raises(ValueError, match='expected a finite number or None'):
      found.replace(image=wrong)


@pytest.mark.parametrize(
  ('score', 'limit', 'expected'),
  [
    (5.006, 2.4381, 'NOT OK 5.01 (limit 2.44)'),
    (2.4401, 2.4381, 'NOT OK 2.440 (limit 2.438)'),
    (-1.0, 2.0, 'OK -1.00 (limit 2.00)'),
    (2.0, 2.0, 'OK 2.00 (limit 2.00)'),
    (1.5, None, 'Score 1.50'),
  ],
)
def test_a_prediction_says_what_it_found(score, limit, expected):
  frame = Frame.of((8, 8), 4, 0, (4, 4))
  grid = np.eye(4, dtype=np.float32)
  held = Thresholds(limit, 0.5)
  found = Prediction(Path('a/7.png'), score, held, frame, grid, 0.1)
  assert found.summary == expected
  assert repr(found) == f'<Prediction 7.png: {expected}, 1 region>'
  bare = Prediction(3, score, Thresholds(limit), frame, grid, 0.1)
  assert repr(bare) == f'<Prediction image 3: {expected}>'


@pytest.mark.parametrize(
  ('count', 'rate', 'limit', 'drivers', 'average', 'bound'),
  [
    (99, 0.01, 98, '97 without 98.png', '1.0%', '3.0%'),
    (20, 0.01, 19, '18 without 19.png', '4.8%', '13.9%'),
    (9, 0.5, 4, '3 without 8.png, 7.png, 6.png and 2 more', '50.0%', '74.9%'),
  ],
)
def test_what_is_promised_is_told(count, rate, limit, drivers, average, bound):
  told = thresholds.describe(calibrate(np.arange(count), rate))
  more = ' (1.0% takes 99 images)' if count == 20 else ''
  assert told == [
    f'threshold {limit} for images, {limit} for pixels, from {count} good '
    'images that were not trained on',
    f'it would be {drivers}',
    f'on average at most {average} of good images are called NOT OK{more}',
    f'with 95% confidence at most {bound} are called NOT OK',
  ]


def test_an_image_that_sets_the_limit_far_from_others_is_told():
  scores = np.arange(20.0)
  assert 'far' not in ' '.join(thresholds.describe(calibrate(scores, 0.01)))
  scores[-1] = 25
  told = thresholds.describe(calibrate(scores, 0.01))[1]
  assert told.startswith('it would be 18 without 19.png, far from the others: ')


@pytest.mark.parametrize(('count', 'rate'), [(20, 0.05), (99, 0.1), (9, 0.5)])
def test_the_bound_is_kept_in_95_of_100_draws(count, rate):
  rng = np.random.default_rng(0)
  kept, draws = 0, 4000
  bound = calibrate(list(range(count)), rate).bound
  for _ in range(draws):
    # Of uniform scores the share beyond a threshold is one less it.
    kept += 1 - calibrate(rng.random(count), rate).image <= bound
  assert kept / draws == pytest.approx(0.95, abs=0.014)


@pytest.mark.parametrize(
  ('count', 'told'), [(1, '1 good image is'), (3, '3 good images is'), (10, '')]
)
def test_few_images_are_told(count, told, caplog):
  calibrate([float(i) for i in range(count)], 0.01)
  assert (f'{told} not reliable' in caplog.text) == bool(told)


@pytest.mark.parametrize('rate', [0, 1, -0.1, 1.5, float('nan')])
def test_rates_beyond_their_range_and_no_images_are_refused(rate):
  with pytest.raises(ValueError, match=r'rate of false alarms is .* 0 to 1'):
    calibrate([1.0], rate)
  with pytest.raises(ValueError, match='no normal images'):
    calibrate([], 0.1)


LIMITS = Thresholds(image=2.0, pixel=1.0, median=1.0)


def make(score=1.5, frame=None, found=LIMITS):
  frame = frame or Frame((6, 8), (3, 4), (3, 4))
  grid = np.arange(np.prod(frame.input), dtype=np.float32)
  return Prediction(7, score, found, frame, grid.reshape(frame.input), 0.1)


def test_the_threshold_itself_is_normal_and_without_one_there_is_no_verdict():
  above = float(np.nextafter(2.0, 3.0))
  verdicts = [make(score).anomalous for score in (1.9, 2.0, above)]
  assert verdicts == [False, False, True]
  assert make(1.5).normalised == 0.5
  bare = make(found=Thresholds())
  assert (bare.anomalous, bare.mask) == (None, None)
  zero = make(found=Thresholds(image=0.0))
  assert (zero.anomalous, zero.mask) == (True, None)


def test_maps_and_masks_are_in_the_images_own_pixels():
  found = make()
  assert found.map.shape == found.mask.shape == (6, 8)
  np.testing.assert_array_equal(found.mask, found.map > 1.0)
  cropped = make(frame=Frame.of((40, 80), 40, 32))
  unseen = np.isnan(cropped.map)
  top, left, bottom, right = cropped.frame.scored
  assert unseen.sum() == 40 * 80 - (bottom - top) * (right - left) > 0
  assert not cropped.mask[unseen].any()
