"""The network with channels first, in JAX: it finds what the other one does."""

import functools

import jax
import numpy as np
import pytest

from simplenet_jax.models import channels_first, simplenet
from tests.detection import detectors

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 40, 3), np.uint8)


@pytest.mark.parametrize(
  ('padding', 'adaptor', 'heads'),
  [
    ('zeros', 'mlp', 3),
    pytest.param('reflect', 'linear', 2, marks=pytest.mark.slow),
    pytest.param('zeros', 'linear', 1, marks=pytest.mark.slow),
    pytest.param('reflect', 'mlp', 1, marks=pytest.mark.slow),
    pytest.param('reflect', 'identity', 1, marks=pytest.mark.slow),
  ],
)
def test_every_kind_agrees_with_the_detector(padding, adaptor, heads):
  detector = detectors.make(padding=padding, adaptor=adaptor, heads=heads)
  structure, weights = detector.card.network, detector.weights
  found = jax.jit(functools.partial(channels_first.detect, structure, weights))
  expected = jax.jit(simplenet.plain(structure, weights))
  maps, scores = map(np.asarray, expected(PIXELS))
  assert np.ptp(scores) > 0.01
  for value, truth in zip(found(PIXELS), (maps, scores), strict=True):
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, truth, rtol=0, atol=1e-5 * np.ptp(maps))
