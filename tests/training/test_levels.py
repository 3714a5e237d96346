"""Features of images on a device."""

import jax
import numpy as np

from simplenet_jax.training.levels import Levels

SHAPES = ((4, 3, 5), (2, 2, 7))  # Of an image, by level.
RNG = np.random.default_rng(0)


def make_images(count):
  return [RNG.normal(size=(count, *one)).astype('f') for one in SHAPES]


def test_images_are_read_where_they_were_written():
  shapes = [jax.ShapeDtypeStruct(one, np.float32) for one in SHAPES]
  levels = Levels.empty(shapes, 9, jax.devices()[0])
  first, second = make_images(4), make_images(2)
  levels = levels.put(first, np.array([8, 0, 5, 2]))
  # The batch has an image that pads it, of which nothing is left.
  padded = [np.concatenate([one, one[:1] + 99]) for one in second]
  levels = levels.put(padded, np.array([5, 7]))
  found = map(np.asarray, levels.images(np.array([8, 0, 5, 2, 7, 1])))
  for level, one, other in zip(found, first, second, strict=True):
    np.testing.assert_array_equal(level[[0, 1, 3]], one[[0, 1, 3]])
    np.testing.assert_array_equal(level[[2, 4]], other)
    assert not np.any(level[5])
