"""The image generator: seeded, bounded, and honest about what it disturbed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_jax.pretraining import (
  disturbances,
  fields,
  pool,
  scenes,
  shapes,
  textures,
)

SIZE = 64


def test_noise_is_standardised_and_follows_its_band():
  rng = np.random.default_rng(0)
  tile = fields.noise(rng, fields.spectrum(0, 9, 11))
  power = np.abs(np.fft.rfft2(tile)) ** 2
  fx, fy = np.fft.rfftfreq(128, 1 / 128), np.fft.fftfreq(128, 1 / 128)
  radius = np.hypot(fx[None], fy[:, None])
  inside = (radius > 7) & (radius < 14)
  assert abs(tile.mean()) < 1e-5
  assert tile.std() == pytest.approx(1, abs=1e-5)
  assert power[inside].sum() > 0.95 * power.sum()


def test_sample_interpolates_and_wraps():
  tile = np.arange(12, dtype=np.float32).reshape(3, 4)
  x = np.array([0.0, 0.5, 3.5, -1.0], np.float32)
  y = np.array([1.0, 0.0, 0.0, 0.0], np.float32)
  np.testing.assert_allclose(fields.sample(tile, x, y), [4, 0.5, 1.5, 3])


def test_voronoi_without_jitter_is_the_distance_to_cell_centres():
  table = fields.tables(np.random.default_rng(0), 3)
  x, y = np.float32([[0.5, 0.75]]), np.float32([[0.5, 0.5]])
  first, second, _ = fields.voronoi(x, y, 0.0, table)
  np.testing.assert_allclose(first, [[0, 0.25]], atol=1e-6)
  np.testing.assert_allclose(second, [[1, 0.75]], atol=1e-6)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_textures_and_shapes_are_finite(seed):
  rng = np.random.default_rng(seed)
  x, y = scenes.grid(SIZE)
  field = textures.draw(rng)(x, y, rng)
  assert field.shape == (SIZE, SIZE)
  assert np.isfinite(field).all()
  assert -0.5 < field.min() <= field.max() < 2
  distance = shapes.draw(rng)(x / 16, y / 16)
  assert np.isfinite(distance).all()
  # No shape reaches far beyond its radius.
  assert (distance[np.hypot(x, y) > 30] > 0).all()


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_scenes_are_reproducible_and_kinds_are_in_range(index):
  recipe = pool.recipe(1, index)
  clean, covered = scenes.render(recipe, [1, index], SIZE)
  again, _ = scenes.render(recipe, [1, index], SIZE)
  np.testing.assert_array_equal(clean, again)
  odd, kinds = disturbances.apply(recipe, [1, index], SIZE, clean, covered)
  assert kinds.shape == (SIZE // disturbances.BLOCK,) * 2
  assert kinds.max() < len(disturbances.KINDS)
  if not kinds.any():
    np.testing.assert_array_equal(odd, clean)


@pytest.fixture
def small(tmp_path):
  return pool.make(tmp_path / 'pool', 0, 2, 2, processes=1)


@pytest.mark.slow
def test_pool_is_reproducible_and_refuses_another(small, tmp_path):
  images, kinds = pool.render_class(0, 1, 2)
  np.testing.assert_array_equal(small.images[2:], images)
  np.testing.assert_array_equal(small.kinds[2:], kinds)
  np.testing.assert_array_equal(small.classes, [0, 0, 1, 1])
  again = pool.make(tmp_path / 'pool', 0, 2, 2)
  assert again.seconds == small.seconds
  with pytest.raises(ValueError, match='another --output'):
    pool.make(tmp_path / 'pool', 1, 2, 2)
