"""The features of images on a device, as training and scoring read them."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from simplenet_jax.models import resampling

_UNROLLED = 64  # More images are read in a loop, which compiles sooner.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Levels:
  """Pooled features of images that have a row each, level by level.

  The positions of an image follow one another: TPUs would copy the whole of an
  array with more axes, at each step, into a layout that suits its readers.
  """

  values: tuple[jax.Array, ...]  # `[rows * h * w, channels]`, by level.
  # Their height and width, the finest first.
  grids: tuple[tuple[int, int], ...] = dataclasses.field(
    metadata={'static': True}
  )

  @classmethod
  def of(cls, levels: Sequence[jax.Array]) -> Self:
    """Returns those of images in turn, from `[rows, h, w, channels]` each."""
    values = [jnp.reshape(one, (-1, one.shape[-1])) for one in levels]
    grids = [(one.shape[1], one.shape[2]) for one in levels]
    return cls(tuple(values), tuple(grids))

  @classmethod
  def empty(
    cls, shapes: Sequence[jax.ShapeDtypeStruct], rows: int, device: Any
  ) -> Self:
    """Returns so many rows of zeros; shapes are `[h, w, channels]`."""
    values = [
      jnp.zeros((rows * h * w, count), one.dtype, device=device)
      for one in shapes
      for h, w, count in [one.shape]
    ]
    grids = [(one.shape[0], one.shape[1]) for one in shapes]
    return cls(tuple(values), tuple(grids))

  def images(self, rows: jax.Array) -> list[jax.Array]:
    """Returns images by their rows, `[images, h, w, channels]` each."""
    rows, found = jnp.asarray(rows), []
    for values, grid in zip(self.values, self.grids, strict=True):
      size = math.prod(grid)

      def read(row, values=values, size=size):
        return lax.dynamic_slice_in_dim(values, row * size, size)

      # Slices, not one gather: TPUs would make that of the whole array.
      some = len(rows) <= _UNROLLED
      images = jnp.stack([*map(read, rows)]) if some else lax.map(read, rows)
      found.append(images.reshape(-1, *grid, values.shape[-1]))
    return found

  def patches(
    self, rows: jax.Array, y: jax.Array, x: jax.Array
  ) -> list[jax.Array]:
    """Returns places of the finest grid, `[*places, channels]` of each level.

    Rows and places are broadcast. No image is resized as a whole: the four
    positions of a coarser level around each place are read.
    """
    return [
      resampling.gather(values, rows, y, x, grid, self.grids[0])
      for values, grid in zip(self.values, self.grids, strict=True)
    ]

  def put(self, images: Sequence[jax.Array], rows: np.ndarray) -> Self:
    """Writes images `[images, h, w, channels]` to rows, in place.

    Where there are fewer rows, the images beyond them are padding. These levels
    are donated to those that are returned.
    """
    missing = len(images[0]) - len(rows)
    return _put(self, tuple(images), np.pad(rows, (0, missing), mode='edge'))


@functools.partial(jax.jit, donate_argnames='levels')
def _put(levels: Levels, images: Sequence[jax.Array], rows: jax.Array) -> Any:
  found = []
  for values, batch in zip(levels.values, images, strict=True):
    flat = batch.reshape(len(batch), -1, batch.shape[-1]).astype(values.dtype)

    def write(i, values, flat=flat):
      # The last first: padding, which has the last row that counts, goes under.
      at = len(flat) - 1 - i
      start = rows[at] * flat.shape[1]
      return lax.dynamic_update_slice_in_dim(values, flat[at], start, 0)

    found.append(lax.fori_loop(0, len(batch), write, values))
  return dataclasses.replace(levels, values=tuple(found))
