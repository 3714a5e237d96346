"""What heads' scores are worth on a test set."""

import dataclasses

import numpy as np
import pytest

from simplenet_jax.evaluation.judge import BLOCK, KIND_METRICS, Judge
from simplenet_jax.models import scoring

RNG = np.random.default_rng(0)


def make_judge():
  return Judge(
    labels=np.array([0, 1]),
    kinds=np.array(['good', 'spot']),
    known=np.array([0, 1]),
    masks=None,
    size=(24, 32),
    smoothing=2.0,
  )


@pytest.mark.parametrize('images', [1, BLOCK, BLOCK + 3])
def test_maps_in_blocks_are_those_of_all_images_at_once(images):
  scores = RNG.normal(size=(images, 5, 7)).astype(np.float32)
  found = make_judge().maps(scores)
  assert found.shape == (images, 24, 32)
  expected = np.asarray(scoring.anomaly_maps(scores, (24, 32), 2.0))
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_one_program_makes_the_maps_of_any_number_of_images():
  judge = make_judge()
  judge.maps(np.zeros((1, 5, 7), np.float32))
  compiled = scoring._anomaly_maps._cache_size()
  for images in (2, 31, 65):
    judge.maps(np.zeros((images, 5, 7), np.float32))
  assert scoring._anomaly_maps._cache_size() == compiled


def make_kinds():
  """Two good images, two of a kind with masks, one of a kind without."""
  masks = np.zeros((4, 8, 8), bool)
  masks[2:, :4, :4] = True
  judge = Judge(
    labels=np.array([0, 0, 1, 1, 1]),
    kinds=np.array(['good', 'good', 'cut', 'cut', 'stain']),
    known=np.array([0, 1, 2, 3]),
    masks=masks,
    size=(8, 8),
    smoothing=0.0,
  )
  scores = np.zeros((5, 8, 8), np.float32)
  scores[2:, :4, :4] = [[[3]], [[1]], [[-1]]]
  scores[0, 7, 7] = 2
  scores[4] -= 1
  return judge, scores


def test_kinds_of_defects_are_measured_against_the_good_images():
  judge, scores = make_kinds()
  found = judge.by_kind(scores)
  assert list(found) == ['cut', 'stain']
  # Of four pairs 3 > 2, 3 > 0, 1 < 2, 1 > 0; all four of the other are lost.
  assert found['cut']['images'] == 2
  assert found['cut']['image_auroc'] == 3 / 4
  assert found['stain']['images'] == 1
  assert found['stain']['image_auroc'] == 0
  # One false alarm of 2 * 64 + 2 * 48 normal pixels lies between the regions.
  assert found['cut']['pixel_auroc'] == 1 - 0.5 / 224
  assert found['cut']['aupro_30'] == pytest.approx(1 - 0.5 / 224 / 0.3)
  assert np.isnan(found['stain']['pixel_auroc'])
  assert np.isnan(found['stain']['aupro_30'])


def test_one_kind_has_the_figures_of_the_whole():
  judge, scores = make_kinds()
  judge = dataclasses.replace(judge, labels=np.array([0, 0, 1, 1, 0]))
  whole = judge.evaluate(scores)
  assert judge.by_kind(scores) == {
    'cut': {'images': 2, **{name: whole[name] for name in KIND_METRICS}}
  }
