"""The feature bank: every image passes the frozen backbone once.

The backbone is frozen and images are not augmented, so features never change.
They are aggregated, kept on the device, coarse levels at their own resolution,
and read by every head, epoch and evaluation.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simplenet_jax.data import images
from simplenet_jax.models import patches, resnet


@dataclasses.dataclass(frozen=True)
class Extractor:
  """The way from pixels to pooled features; static, without the weights.

  Attributes:
    graph: The backbone's structure, from `resnet.abstract`.
    pooling: One entry per level, from `patches.plan`.
  """

  graph: nnx.GraphDef
  pooling: tuple[patches.LevelPooling, ...]

  @property
  def starts(self) -> tuple[int, ...]:
    """The first patch dimension of each level."""
    return tuple(level.start for level in self.pooling)

  def __call__(self, weights: Any, pixels: jax.Array) -> tuple[jax.Array, ...]:
    """Computes pooled features.

    Args:
      weights: The backbone's state.
      pixels: RGB `[batch, height, width, 3]`, uint8.

    Returns:
      float32 `[batch, h, w, channels]` of each level.
    """
    normalised = images.normalize(pixels, jnp.asarray(images.NORMALIZED))
    features = resnet.apply(self.graph, weights, normalised)

    def pool(levels):
      return tuple(map(patches.pool_level, levels, self.pooling))

    return jax.vmap(pool)(features)


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=['levels'],
  meta_fields=['count'],
)
@dataclasses.dataclass(frozen=True)
class Bank:
  """The pooled features of one category's images, in their order.

  Attributes:
    levels: float `[capacity, h, w, channels]` of each level; rows from `count`
      on hold nothing of meaning.
    count: Number of images.
  """

  levels: tuple[jax.Array, ...]
  count: int

  @property
  def grid(self) -> tuple[int, int]:
    """Height and width of the patch grid, that of the first level."""
    return self.levels[0].shape[1], self.levels[0].shape[2]


@functools.partial(
  jax.jit, static_argnames='extractor', donate_argnames='levels'
)
def _write(extractor, weights, levels, pixels, start):
  new = extractor(weights, pixels)
  return tuple(
    jax.lax.dynamic_update_slice_in_dim(level, part, start, axis=0)
    for level, part in zip(levels, new, strict=True)
  )


def fill(
  extractor: Extractor,
  weights: Any,
  batches: Iterable[tuple[int, np.ndarray]],
  *,
  count: int,
  batch_size: int,
  on_batch: Callable[[int], object] = lambda done: None,
) -> Bank:
  """Extracts the features of a category's images.

  The device computes while the host decodes the next batch. Short batches are
  padded, so that one program serves all.

  Args:
    extractor: From pixels to features.
    weights: The backbone's state.
    batches: Pairs of the first image's index and uint8 pixels
      `[batch, height, width, 3]`.
    count: Number of images in all, at least 1.
    batch_size: The size to which batches are padded.
    on_batch: Called with the number of images handed to the device so far.

  Returns:
    The bank.
  """
  capacity = -(-count // batch_size) * batch_size
  levels = None
  for start, pixels in batches:
    done = start + len(pixels)
    missing = batch_size - len(pixels)
    pixels = np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0)))
    if levels is None:
      shapes = jax.eval_shape(extractor, weights, pixels)
      levels = tuple(
        jnp.zeros((capacity, *shape.shape[1:]), shape.dtype) for shape in shapes
      )
    levels = _write(extractor, weights, levels, pixels, start)
    on_batch(done)
  if levels is None:
    raise ValueError('a bank needs at least one image')
  return Bank(levels, count)
