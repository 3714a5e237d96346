"""What tests of the formats have in common."""

import numpy as np
import pytest

from tests.detection import detectors

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 40, 3), np.uint8)


@pytest.fixture(scope='session')
def two_heads():
  """A detector whose second layers are groups of one convolution."""
  # Which compiles in a quarter of the time that a CPU's own way takes.
  return detectors.as_on_accelerators(detectors.make(heads=2, adaptor='mlp'))


@pytest.fixture(scope='session')
def assert_agrees(two_heads):
  """Returns a check of what a format makes of them, alone and in company."""
  maps, scores = two_heads.infer(PIXELS)

  def check(run):
    for count in (1, 2, 3):
      found = run(PIXELS[:count])
      for value, truth in zip(found, (maps, scores), strict=True):
        assert value.dtype == np.float32
        np.testing.assert_allclose(
          value, truth[:count], rtol=0, atol=1e-4 * np.ptp(maps)
        )

  return check
