"""What patch scores are worth on a test set."""

import dataclasses
import math
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet_jax.evaluation import metrics, testset
from simplenet_jax.models import simplenet

RNG = np.random.default_rng(0)


def make_test_set(size=(8, 8), smoothing=0.0):
  """Two good images, two of a kind with masks, one of a kind without."""
  masks = np.zeros((4, *size), bool)
  masks[2:, :4, :4] = True
  return testset.TestSet(
    labels=np.array([0, 0, 1, 1, 1]),
    defects=np.array(['good', 'good', 'cut', 'cut', 'stain']),
    has_truth=np.array([True, True, True, True, False]),
    masks=masks,
    size=size,
    smoothing=smoothing,
  )


def make_scores():
  scores = np.zeros((5, 8, 8), np.float32)
  scores[2:, :4, :4] = [[[3]], [[1]], [[-1]]]
  scores[0, 7, 7] = 2
  scores[4] -= 1
  return scores


def test_maps_in_blocks_are_those_of_all_images_at_once():
  scores = RNG.normal(size=(testset.BLOCK + 3, 5, 7)).astype(np.float32)
  found = make_test_set((24, 32), 2.0).maps(scores)
  expected = np.asarray(simplenet.anomaly_maps(scores, (24, 32), 2.0))
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_images_can_be_scored_by_their_maps():
  test = make_test_set((24, 32), 2.0)
  scores = RNG.normal(size=(testset.BLOCK + 3, 5, 7)).astype(np.float32)
  by_patch = test.image_scores(scores)
  np.testing.assert_array_equal(by_patch, scores.max((1, 2)))
  by_map = dataclasses.replace(test, score='map').image_scores(scores)
  np.testing.assert_array_equal(by_map, test.maps(scores).max((1, 2)))
  assert (by_map < by_patch).all()


def test_kinds_of_defects_are_measured_against_the_good_images():
  found = make_test_set().evaluate_defects(make_scores())
  assert list(found) == ['cut', 'stain']
  # Of four pairs 3 > 2, 3 > 0, 1 < 2, 1 > 0; all four of the other are lost.
  # One false alarm of 2 * 64 + 2 * 48 normal pixels lies between the regions.
  cut = [2, 3 / 4, 1 - 0.5 / 224, 1 - 0.5 / 224 / 0.3]
  assert [*found['cut'].values()] == pytest.approx(cut)
  stain = [1, 0, math.nan, math.nan]
  assert [*found['stain'].values()] == pytest.approx(stain, nan_ok=True)


def test_limits_are_worth_what_lies_beyond_them():
  scored = testset.Scored.of(cast(Any, None), make_test_set(), make_scores())
  found = scored.verdicts(1.0, 0.5)
  assert (found['found'], found['defective']) == (1, 3)  # 1 is not beyond 1.
  assert (found['false_alarms'], found['good']) == (1, 2)
  kinds = found['kinds']
  assert kinds['cut'] == {'found': 1, 'images': 2}
  assert kinds['stain'] == {'found': 0, 'images': 1}
  # Both masks whole, and one pixel of a good image.
  assert found['pixel_iou'] == pytest.approx(32 / 33)
  assert found['pixel_f1'] == pytest.approx(64 / 65)
  # A limit that is set by hand is not rounded to the scores' precision.
  assert scored.verdicts(3 - 1e-9, None)['found'] == 1
  assert scored.verdicts(None, None) == {'image': None, 'pixel': None}
  test = dataclasses.replace(scored.test, masks=None)
  unknown = dataclasses.replace(scored, test=test).verdicts(1.0, 0.5)
  assert 'pixel_f1' not in unknown


def test_seeds_have_the_figures_of_their_last_and_best_epoch():
  test, worse = make_test_set(), make_scores()
  better = worse + test.labels[:, None, None] * np.float32(9)
  given_up = {}

  def rank(scores):
    return metrics.auroc(test.labels, test.image_scores(scores))

  of_seeds = [{2: better, 4: worse}, {4: better}, given_up]
  found = testset.evaluate(test, of_seeds, rank)
  assert found['last']['image_auroc']['seeds'] == [0.5, 1, None]
  assert found['selected_on_test']['epochs'] == [2, 4, None]
  assert found['selected_on_test']['image_auroc']['seeds'] == [1, 1, None]
  assert found['kinds']['cut']['image_auroc'] == (3 / 4 + 1) / 2
  assert 'ensemble' not in found
  both = testset.evaluate(test, [{4: worse}, {4: better}])
  assert both['ensemble'] == test.evaluate((worse + better) / 2)
  assert 'selected_on_test' not in both


@given(st.lists(st.tuples(*[st.sampled_from([0.1, 0.5, 1])] * 2), min_size=1))
def test_the_best_epoch_is_the_first_of_the_highest_pairs(aurocs):
  images = dict(enumerate(image for image, _ in aurocs))
  asked = []

  def pixel_auroc(epoch):
    asked.append(epoch)
    return aurocs[epoch][1]

  found = testset.select_best(images, pixel_auroc)
  assert found == aurocs.index(max(aurocs))
  # Without masks.
  first = min(epoch for epoch in images if images[epoch] == images[found])
  assert testset.select_best(images, lambda _: math.nan) == first
  # Pixels are ranked only where images tie.
  tied = [epoch for epoch, auroc in images.items() if auroc == images[found]]
  assert asked == (tied if len(tied) > 1 else [])
