import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simplenet_jax.models import resampling
from simplenet_jax.training import noise, sampling

KEY = np.array([3, 4], np.uint32)


def levels(*sizes, images=5):
  rng = np.random.default_rng(0)
  return [
    jnp.asarray(rng.normal(size=(images, *size, 3)), jnp.float32)
    for size in sizes
  ]


def places(rows, count, grid):
  drawn = noise.integers(KEY, (len(rows), count), grid[0] * grid[1])
  return np.divmod(np.asarray(drawn), grid[1])


@pytest.mark.parametrize('coarse', [(3, 4), (2, 5), (6, 7), (1, 1), (5, 2)])
def test_patches_are_those_of_resized_images(coarse):
  bank, rows = levels((6, 7), coarse), jnp.array([4, 0, 0])
  fine, other = sampling.draw(bank, rows, KEY, 50)
  y, x = places(rows, 50, (6, 7))
  whole = jax.vmap(lambda grid: resampling.resize(grid, (6, 7)))(bank[1])
  at = np.asarray(rows)[:, None], y, x
  np.testing.assert_array_equal(fine[:, :, 0], bank[0][at])
  np.testing.assert_allclose(other[:, :, 0], whole[at], atol=1e-6)


def test_every_position_is_as_likely():
  bank = [jnp.arange(12.0).reshape(1, 3, 4, 1)]
  (drawn,) = sampling.draw(bank, jnp.zeros(1, jnp.int32), KEY, 120_000)
  counts = np.bincount(np.asarray(drawn, int).ravel(), minlength=12)
  assert counts.shape == (12,)
  # Five standard deviations of a multinomial's count.
  np.testing.assert_allclose(counts, 10_000, atol=480)


def test_steps_and_images_draw_other_positions():
  bank = [jnp.arange(10_000.0).reshape(1, 100, 100, 1)]
  rows = jnp.zeros(2, jnp.int32)
  one, other = (
    np.asarray(sampling.draw(bank, rows, noise.fold_in(KEY, i), 20)[0])
    for i in (0, 1)
  )
  assert np.unique(np.concatenate([one, other])).size > 75


def test_integers_are_independent_of_normals_of_the_same_key():
  places = np.asarray(noise.integers(KEY, (100_000,), 1000))
  normals = np.asarray(noise.normal(KEY, (100_000,)))
  assert abs(np.corrcoef(places, normals)[0, 1]) < 0.02
  assert (places.min(), places.max()) == (0, 999)
