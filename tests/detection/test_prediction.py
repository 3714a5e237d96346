"""Verdicts, maps and masks of one image."""

import numpy as np
import pytest

from simplenet_jax.data.frame import Frame
from simplenet_jax.detection.prediction import Prediction
from simplenet_jax.detection.thresholds import NONE, Thresholds

LIMITS = Thresholds(image=2.0, pixel=1.0, median=1.0)


def make(score=1.5, frame=None, thresholds=LIMITS):
  frame = frame or Frame.whole((6, 8), (3, 4))
  grid = np.arange(np.prod(frame.input), dtype=np.float32)
  return Prediction(7, score, thresholds, frame, grid.reshape(frame.input), 0.1)


def test_the_threshold_itself_is_normal():
  above = float(np.nextafter(2.0, 3.0))
  assert [make(score).anomalous for score in (1.9, 2.0, above)] == [
    False,
    False,
    True,
  ]


def test_without_thresholds_there_is_no_verdict():
  found = make(thresholds=NONE)
  assert found.anomalous is None
  assert found.mask is None
  with pytest.raises(ValueError, match='calibrate'):
    found.normalised  # noqa: B018
  assert make(thresholds=Thresholds(image=0.0)).anomalous
  assert make(thresholds=Thresholds(image=0.0)).mask is None


def test_scores_are_normalised_by_the_thresholds():
  assert make(1.5).normalised == 0.5


def test_maps_and_masks_are_in_the_images_own_pixels():
  found = make()
  assert found.map.shape == found.mask.shape == (6, 8)
  np.testing.assert_array_equal(
    found.map, found.frame.map_to_original(found.input_map)
  )
  np.testing.assert_array_equal(found.mask, found.map > 1.0)
  assert found.mask.any()
  assert not found.mask.all()


def test_what_was_not_looked_at_is_not_a_number_and_never_in_a_mask():
  found = make(frame=Frame.protocol((40, 80), 40, 32))
  unseen = np.isnan(found.map)
  top, left, bottom, right = found.frame.scored
  assert unseen.sum() == 40 * 80 - (bottom - top) * (right - left) > 0
  assert not found.mask[unseen].any()
