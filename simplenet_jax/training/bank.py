"""The feature bank: every image passes the frozen backbone once.

The backbone is frozen and images are not augmented, so features never change.
They are aggregated, kept on the device, coarse levels at their own resolution,
and read by every head, epoch and evaluation. A bank has a fixed number of rows,
one per image, that categories take and give back: programs that read it are
compiled once, however many images a category has.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simplenet_jax.models import simplenet

# Images that are written at a time: one program serves all, and larger blocks
# would pad more.
BLOCK = 32
_ROUNDING = 1e-6  # Of features, relative: what varies less does not.


@dataclasses.dataclass(frozen=True)
class Extractor:
  """The way from pixels to a bank's features; static, without the weights.

  Attributes:
    network: From pixels to pooled features.
    dtype: Of the features: `float32`, `bfloat16` or `float16`.
  """

  network: simplenet.FeatureNetwork
  dtype: str = 'float32'

  @property
  def level_offsets(self) -> tuple[int, ...]:
    """The first patch dimension of each level."""
    return self.network.level_offsets

  def __call__(self, weights: Any, pixels: jax.Array) -> tuple[jax.Array, ...]:
    """Computes pooled features.

    Args:
      weights: The backbone's, folded.
      pixels: RGB `[batch, height, width, 3]`, uint8.

    Returns:
      `[batch, h, w, channels]` of each level, in `dtype`.
    """
    levels = simplenet.features(self.network, weights, pixels)
    return tuple(level.astype(self.dtype) for level in levels)

  def shapes(
    self, weights: Any, size: Sequence[int]
  ) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Returns what it makes of one image, `[h, w, channels]` of each level.

    Args:
      weights: The backbone's, folded.
      size: Height and width of an image, in pixels.
    """
    pixels = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
    return tuple(
      jax.ShapeDtypeStruct(level.shape[1:], level.dtype)
      for level in jax.eval_shape(self, weights, pixels)
    )


def row_bytes(shapes: Sequence[jax.ShapeDtypeStruct]) -> int:
  """Returns the size of one image's features."""
  return sum(shape.size * shape.dtype.itemsize for shape in shapes)


@functools.partial(
  jax.jit, static_argnames='extractor', donate_argnames='levels'
)
def _extract_into(extractor, weights, levels, pixels, rows):
  new = extractor(weights, pixels)
  return _put(levels, new, rows), new[0].ravel()[0]


@functools.partial(jax.jit, donate_argnames='levels')
def _write(levels, values, rows):
  return _put(levels, values, rows)


def _put(levels, values, rows):
  """Sets rows; those beyond the end pad a short batch and are dropped."""
  return tuple(
    level.at[rows].set(value, mode='drop')
    for level, value in zip(levels, values, strict=True)
  )


@functools.partial(jax.jit, static_argnames='extractor')
def extract(
  extractor: Extractor, weights: Any, pixels: jax.Array
) -> tuple[jax.Array, ...]:
  """Runs the extractor, compiled; its arguments and result."""
  return extractor(weights, pixels)


class Bank:
  """Rows of features on one device.

  Attributes:
    levels: `[rows, h, w, channels]` of each level. Every write replaces them
      (the old ones are donated), so they are to be read anew each time.
    rows: How many there are.
    device: Where they are.
  """

  def __init__(
    self,
    shapes: Sequence[jax.ShapeDtypeStruct],
    rows: int,
    device: Any = None,
  ):
    """Allocates.

    Args:
      shapes: Of one row, from `Extractor.shapes`.
      rows: How many.
      device: Where; None for the default device.
    """
    self.device = device or jax.devices()[0]
    self.levels = tuple(
      jnp.zeros((rows, *shape.shape), shape.dtype, device=self.device)
      for shape in shapes
    )
    self.rows = rows
    self._free = list(range(rows))

  @property
  def free(self) -> int:
    """How many rows can be taken."""
    return len(self._free)

  def take(self, count: int) -> np.ndarray:
    """Returns `count` rows that are free, int32, and marks them as taken."""
    if count > self.free:
      raise ValueError(f'{count} rows asked for, {self.free} are free')
    taken, self._free = self._free[:count], self._free[count:]
    return np.array(taken, np.int32)

  def give(self, rows: np.ndarray) -> None:
    """Marks rows as free."""
    self._free = sorted([*self._free, *rows.tolist()])

  def extract(
    self,
    extractor: Extractor,
    weights: Any,
    pixels: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
  ) -> jax.Array:
    """Passes images through the backbone, into rows.

    Args:
      extractor: From pixels to features.
      weights: The backbone's, folded.
      pixels: uint8 `[images, height, width, 3]`.
      rows: int32 `[images]`.
      batch_size: The size to which batches are padded, so that one program
        serves all.

    Returns:
      A number that is there when the images are through.
    """
    pixels, rows = padded(pixels, batch_size), self._padded(rows, batch_size)
    self.levels, through = _extract_into(
      extractor, weights, self.levels, pixels, rows
    )
    return through

  def write(self, values: Sequence[np.ndarray], rows: np.ndarray) -> None:
    """Copies features to rows.

    Args:
      values: `[images, h, w, channels]` of each level.
      rows: int32 `[images]`.
    """
    for start in range(0, len(rows), BLOCK):
      part = slice(start, start + BLOCK)
      chunk = tuple(padded(value[part], BLOCK) for value in values)
      self.levels = _write(self.levels, chunk, self._padded(rows[part], BLOCK))

  def _padded(self, rows: np.ndarray, size: int) -> np.ndarray:
    return np.pad(rows, (0, size - len(rows)), constant_values=self.rows)


@jax.jit
def _moments(levels, rows):
  """Returns each image's mean and variance over its positions, by level."""
  found = []
  for level in levels:
    values = jnp.take(level, rows, axis=0, mode='clip').astype(jnp.float32)
    found.append((values.mean((1, 2)), values.var((1, 2))))
  return found


def spread(home: Bank, parts: Iterable[np.ndarray]) -> float:
  """Measures how wide some images' features spread.

  The noise of a head can be given in units of it, so that weights of another
  scale get as much; the released code's `auto_noise` is of that kind, one value
  per dimension.

  Args:
    home: Where the features are.
    parts: Their rows, int32 `[images]` each, read before the next are asked
      for. How images are divided among them changes nothing.

  Returns:
    The root mean square, over the dimensions of all levels, of the standard
    deviation over all positions of all images; levels at their own resolution.

  Raises:
    ValueError: If features are not finite, or do not vary.
  """
  moments = []
  for rows in parts:
    for start in range(0, len(rows), BLOCK):
      some = rows[start : start + BLOCK]
      found = jax.device_get(_moments(home.levels, padded(some, BLOCK)))
      if not all(np.isfinite(one).all() for pair in found for one in pair):
        raise ValueError(
          'its features are not finite; use --config.bank.dtype=float32'
        )
      moments.append([[one[: len(some)] for one in pair] for pair in found])
  variances, squares = [], []
  for level in zip(*moments, strict=True):
    means, inner = (
      np.concatenate([pair[place] for pair in level]).astype(np.float64)
      for place in (0, 1)
    )
    variances.append(inner.mean(0) + means.var(0))
    squares.append(np.square(means).mean(0))
  variance = float(np.concatenate(variances).mean())
  if variance <= _ROUNDING**2 * float(np.concatenate(squares).mean()):
    raise ValueError(
      'its features do not vary; give other images, or '
      '--config.train.noise=absolute'
    )
  return math.sqrt(variance)


def padded(values: np.ndarray, size: int) -> np.ndarray:
  """Pads the first axis with zeros."""
  missing = size - len(values)
  return np.pad(values, [(0, missing), *[(0, 0)] * (values.ndim - 1)])
