"""Draws from a key and a counter: their bits, distribution, independence."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from simplenet_jax.training import lanes

KEY = jnp.array([7, 0xDEADBEEF], jnp.uint32)


def test_threefry_matches_its_authors_known_answers():
  # Random123, kat_vectors, threefry2x32 20.
  pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
  counter, key = (np.array(words, np.uint32) for words in (pi[:2], pi[2:]))
  words = lanes.threefry(jnp.asarray(key), *jnp.asarray(counter))
  assert [hex(int(word)) for word in words] == ['0xc4923a9c', '0x483df7a0']


def test_draws_are_standard_normal():
  drawn = np.asarray(lanes.normal(KEY, (1_000_001,)))
  assert drawn.dtype == np.float32
  assert stats.kstest(drawn, 'norm').pvalue > 0.01
  assert abs(drawn.mean()) < 4e-3
  assert abs(stats.kurtosis(drawn)) < 0.02
  # The two halves come from the two words of the same counters.
  half = len(drawn) // 2
  assert abs(np.corrcoef(drawn[:half], drawn[half : 2 * half])[0, 1]) < 6e-3
  low, high = np.asarray(lanes._normal(jnp.array([0, 2**32 - 1], jnp.uint32)))
  assert low == -high
  assert 5 < high < 5.5


def test_keys_make_draws_independent_and_a_lane_its_own():
  keys = jnp.stack([lanes.fold_in(KEY, number) for number in range(3)])
  assert len({tuple(key) for key in np.asarray(keys).tolist()}) == 3
  draw = jax.jit(lambda key: lanes.normal(key, (1000,)))
  together = jax.jit(jax.vmap(draw))(keys)
  for key, lane in zip(keys, together, strict=True):
    np.testing.assert_array_equal(draw(key), lane)
  assert np.abs(np.corrcoef(together) - np.eye(3)).max() < 0.15


def test_integers_are_independent_of_normals_of_the_same_key():
  places = np.asarray(lanes.integers(KEY, (100_000,), 1000))
  normals = np.asarray(lanes.normal(KEY, (100_000,)))
  assert abs(np.corrcoef(places, normals)[0, 1]) < 0.02
  assert (places.min(), places.max()) == (0, 999)
