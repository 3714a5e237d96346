"""StableHLO: any number of images, on every platform."""

import jax
import numpy as np
import pytest

from simplenet_jax.detection import bundle, stablehlo
from tests.detection import detectors

SIZE = (32, 40)


@pytest.fixture(scope='module')
def model(two_heads):
  return stablehlo.build(two_heads)


def test_it_agrees_with_the_detector(model, assert_agrees):
  assert_agrees(stablehlo.runner(model))


def test_its_signature(model):
  exported = jax.export.deserialize(bytearray(model))
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
  (pixels,) = exported.in_avals
  maps, scores = exported.out_avals
  images = pixels.shape[0]
  assert not isinstance(images, int)  # Any number of them.
  assert pixels.shape == (images, *SIZE, 3)
  assert pixels.dtype == np.uint8
  assert maps.shape == (images, *SIZE)
  assert scores.shape == (images,)
  assert maps.dtype == scores.dtype == np.float32


def test_wrong_pixels_are_refused(model):
  call = jax.export.deserialize(bytearray(model)).call
  for shape, dtype in (
    ((1, *SIZE[::-1], 3), np.uint8),
    ((1, *SIZE, 3), np.float32),
  ):
    with pytest.raises(ValueError, match='mismatch'):
      call(np.zeros(shape, dtype))


@pytest.mark.slow
@pytest.mark.parametrize('crop', [0, 48])
@pytest.mark.parametrize('padding', ['zeros', 'reflect'])
@pytest.mark.parametrize(
  ('adaptor', 'heads'), [('linear', 1), ('mlp', 3), ('identity', 2)]
)
def test_every_kind_agrees_with_its_detector(
  tmp_path, crop, padding, adaptor, heads
):
  detector = detectors.make(
    crop=crop, padding=padding, adaptor=adaptor, heads=heads
  )
  assert bundle.export(detector, 'stablehlo', tmp_path) <= bundle.TOLERANCE
