import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from simplenet_jax.models import resampling, scoring


def test_anomaly_maps_match_released_code(shared):
  golden = np.load(shared('golden/anomaly_maps.npz'))
  maps = scoring.anomaly_maps(golden['patch_scores'], golden['target_size'])
  np.testing.assert_allclose(maps, golden['anomaly_maps'], atol=1e-5)
  scores = scoring.image_scores(golden['patch_scores'])
  np.testing.assert_array_equal(scores, golden['image_scores'])


@pytest.mark.parametrize(
  ('grid', 'size', 'sigma'),
  [((9, 9), (72, 72), 4.0), ((5, 8), (41, 67), 4.0), ((6, 6), (20, 9), 1.5)],
)
def test_anomaly_maps_match_torch_and_scipy(grid, size, sigma):
  scores = np.random.default_rng(0).normal(size=(3, *grid)).astype(np.float32)
  upsampled = torch.nn.functional.interpolate(
    torch.from_numpy(scores)[:, None].double(),
    size,
    mode='bilinear',
    align_corners=False,
  )[:, 0].numpy()
  expected = [ndimage.gaussian_filter(one, sigma) for one in upsampled]
  maps = scoring.anomaly_maps(scores, size, sigma)
  np.testing.assert_allclose(maps, np.stack(expected), atol=1e-5)


def test_no_smoothing_keeps_the_upsampled_scores():
  scores = np.random.default_rng(0).normal(size=(1, 4, 4)).astype(np.float32)
  maps = np.asarray(scoring.anomaly_maps(scores, (4, 4), sigma=0))
  np.testing.assert_allclose(maps, scores, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(inputs=st.integers(1, 60), outputs=st.integers(1, 120))
def test_bilinear_matrix_matches_torch(inputs, outputs):
  identity = torch.eye(inputs, dtype=torch.float64)[None]
  expected = torch.nn.functional.interpolate(
    identity, outputs, mode='linear', align_corners=False
  )[0].T
  matrix = resampling.bilinear_matrix(inputs, outputs)
  np.testing.assert_allclose(matrix, expected.numpy(), atol=1e-12)
  ends, second = resampling.taps(inputs, outputs)
  taps = np.zeros_like(matrix)
  np.add.at(taps, (np.arange(outputs), ends[0]), 1 - second)
  np.add.at(taps, (np.arange(outputs), ends[1]), second)
  np.testing.assert_allclose(taps, matrix, atol=1e-12)


def test_image_score_is_the_largest_patch():
  scores = np.zeros((2, 3, 4), np.float32)
  scores[0, 1, 2], scores[1] = 5, -1
  np.testing.assert_array_equal(scoring.image_scores(scores), [5, -1])
