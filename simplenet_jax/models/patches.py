"""Patch aggregation: from feature maps to one feature vector per position.

Each level's `p x p` neighbourhoods, flattened in the order (channel, row,
column), are average-pooled adaptively to `pretrain_dim`; coarser levels are
resized to the first one's grid; the levels are stacked and pooled again to
`target_dim` (paper, 3.1; the released `PatchMaker` to `Aggregator`). Where
`pretrain_dim` is 0, each level keeps its channels, averaged over a
neighbourhood; where `target_dim` is 0, the stacked levels are not pooled again.

Here the two poolings are one sparse matrix per level, which repeats itself
along the channels: an output is a weighted sum of a few shifted views of the
feature map. Pooling commutes with the resize: a level is pooled at its own
resolution.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from simplenet_jax.models import resampling

# Above this many entries in the repeating block the sum of shifted views
# compiles slowly and runs no faster than a convolution.
_MAX_TAPS = 256


def adaptive_pooling(inputs: int, outputs: int) -> sparse.csc_array:
  """Returns torch's `adaptive_avg_pool1d` as a matrix `[inputs, outputs]`."""
  # Output `i` of `n` averages inputs `floor(i L / n)` to `ceil((i+1) L / n)`.
  index = np.arange(outputs)
  start = index * inputs // outputs
  counts = -(-(index + 1) * inputs // outputs) - start
  columns = np.repeat(index, counts)
  within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
  rows = start[columns] + within
  return sparse.csc_array(
    (1 / counts[columns], (rows, columns)), shape=(inputs, outputs)
  )


# Equal only to itself: arrays are not compared.
@dataclasses.dataclass(frozen=True, eq=False)
class LevelPooling:
  """How one level contributes to a patch."""

  start: int  # The first dimension; two levels may share one at a boundary.
  groups: int
  # float64 [channels / groups, p, p, dimensions / groups], for each group.
  block: np.ndarray = dataclasses.field(repr=False)

  @property
  def kernel(self) -> np.ndarray:
    """The grouped convolution's, `[p, p, channels / groups, dimensions]`."""
    return np.tile(np.moveaxis(self.block, 0, 2), (1, 1, 1, self.groups))


@functools.lru_cache(maxsize=64)
def pooling_for(
  channels: tuple[int, ...], patch_size: int, pretrain_dim: int, target_dim: int
) -> tuple[LevelPooling, ...]:
  """Composes the two poolings into one sparse, repeating map per level."""
  widths = [pretrain_dim or count for count in channels]
  second = adaptive_pooling(sum(widths), target_dim or sum(widths))
  levels, row = [], 0
  for count, width in zip(channels, widths, strict=True):
    first = adaptive_pooling(count * patch_size**2, width)
    weights = sparse.csc_array(first @ second[row : row + width])
    row += width
    used = np.flatnonzero(np.diff(weights.indptr))
    start, stop = int(used[0]), int(used[-1]) + 1
    groups, block = _repeating_block(weights[:, start:stop], count)
    block = block.reshape(count // groups, patch_size, patch_size, -1)
    levels.append(LevelPooling(start, groups, block))
  return tuple(levels)


def _repeating_block(
  weights: sparse.csc_array, channels: int
) -> tuple[int, np.ndarray]:
  """Finds the smallest block that, repeated diagonally, makes `weights`."""
  inputs, outputs = weights.shape  # pyright: ignore[reportGeneralTypeIssues]
  for groups in range(np.gcd(channels, outputs), 1, -1):
    if channels % groups or outputs % groups:
      continue
    block = weights[: inputs // groups, : outputs // groups]
    tiled = sparse.block_diag([block] * groups, format='csc')
    if abs(tiled - weights).max() < 1e-12:
      return groups, block.toarray()
  return 1, weights.toarray()


def pool_level(features: jax.Array, pooling: LevelPooling) -> jax.Array:
  """Pools the neighbourhoods of a level `[height, width, channels]`."""
  # Even patch sizes leave one row and column less, as in the released code.
  # Weights such as 1/6, rounded to bfloat16, would no longer sum to 1.
  dtype = features.dtype
  features = features.astype(jnp.promote_types(dtype, jnp.float32))
  p = pooling.block.shape[1]
  pad = (p - 1) // 2
  if np.count_nonzero(pooling.block) > _MAX_TAPS:
    pooled = jax.lax.conv_general_dilated(
      features[None],
      jnp.asarray(pooling.kernel, features.dtype),
      window_strides=(1, 1),
      padding=((pad, pad), (pad, pad)),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=pooling.groups,
      precision=jax.lax.Precision.HIGHEST,
    )
    return pooled[0].astype(dtype)
  padded = jnp.pad(features, ((pad, pad), (pad, pad), (0, 0)))
  height, width = (size - p + 1 for size in padded.shape[:2])
  padded = padded.reshape(*padded.shape[:2], pooling.groups, -1)
  outputs = []
  for weights in np.moveaxis(pooling.block, -1, 0):
    taps = [
      weights[c, r, s].astype(features.dtype)
      * padded[r : r + height, s : s + width, :, c]
      for c, r, s in np.argwhere(weights)
    ]
    outputs.append(functools.reduce(jnp.add, taps))
  pooled = jnp.stack(outputs, axis=-1).astype(dtype)
  return pooled.reshape(height, width, -1)


def merge(
  pooled: Sequence[jax.Array], level_offsets: Sequence[int], target_dim: int
) -> jax.Array:
  """Joins an image's levels in the first one's grid, `[h, w, target_dim]`."""
  joined = jnp.zeros((*pooled[0].shape[:2], target_dim), pooled[0].dtype)
  for level, offset in zip(pooled, level_offsets, strict=True):
    resized = resampling.resize(level, joined.shape[:2])
    # Two levels may share a dimension.
    joined = joined.at[..., offset : offset + level.shape[-1]].add(resized)
  return joined
