"""Features in host memory, of which few are on the device."""

import jax
import numpy as np

from simplenet_jax.training import bank
from simplenet_jax.training.store import Features


class Level:
  """Features on the host that note how many were copied at a time."""

  def __init__(self, values):
    self.values, self.copied = values, []

  def __getitem__(self, images):
    self.copied.append(len(images))
    return self.values[images]


def test_a_window_is_filled_without_a_copy_of_it_on_the_host():
  values = np.arange(200 * 2 * 2 * 3, dtype=np.float32).reshape(200, 2, 2, 3)
  home = bank.Bank([jax.ShapeDtypeStruct(values.shape[1:], np.float32)], 150)
  level = Level(values)
  streamed = Features(home, home.take(150), [level], limit=75)
  wanted = np.random.default_rng(0).permutation(200)[:70].reshape(7, 10)
  rows = streamed.rows(1, wanted)
  assert (rows >= 75).all()
  np.testing.assert_array_equal(home.levels[0][rows], values[wanted])
  assert max(level.copied) <= bank.BLOCK < sum(level.copied) == 70
  streamed.release()
  assert len(home.free) == 150
