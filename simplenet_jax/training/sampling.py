"""Patches drawn from images of the bank, in place of whole images.

Neighbouring patches are alike, so a step learns more from patches of many
images than from as many of a few. Of a coarse level, the four positions around
a patch are gathered and weighted: images are never resized as a whole.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from simplenet_jax.models import resampling
from simplenet_jax.training import noise


def draw(
  levels: Sequence[jax.Array], rows: jax.Array, key: jax.Array, count: int
) -> list[jax.Array]:
  """Draws patches, each position of the finest grid as likely as any other.

  Args:
    levels: Of the bank, `[rows, h, w, channels]` of each level, finest first.
    rows: Images of a step, int32 `[batch]`.
    key: The step's, uint32 `[2]`; it decides on the positions.
    count: Patches of each image, drawn with replacement.

  Returns:
    `[batch, count, 1, channels]` of each level: grids of one column that need
    no resize.
  """
  height, width = levels[0].shape[1:3]
  places = noise.integers(key, (len(rows), count), height * width)
  y, x = places // width, places % width
  return [
    _at(level, rows[:, None], y, x, (height, width))[:, :, None]
    for level in levels
  ]


def _at(level, rows, y, x, grid) -> jax.Array:
  """Gathers positions of `grid` from a level, resized there if need be."""
  if level.shape[1:3] == grid:
    return level[rows, y, x]
  top, bottom, down = _neighbours(level.shape[1], grid[0], y)
  left, right, across = _neighbours(level.shape[2], grid[1], x)
  above, below = (
    (1 - across) * level[rows, at, left] + across * level[rows, at, right]
    for at in (top, bottom)
  )
  return (1 - down) * above + down * below


def _neighbours(inputs, outputs, at) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns both neighbours along an axis, and the weight of the second."""
  ends, second = resampling.taps(inputs, outputs)
  first, other = jnp.asarray(ends)[:, at]
  return first, other, jnp.asarray(second, jnp.float32)[at, None]
