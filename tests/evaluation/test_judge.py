"""What heads' scores are worth on a test set."""

import numpy as np
import pytest

from simplenet_jax.evaluation.judge import BLOCK, Judge
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
