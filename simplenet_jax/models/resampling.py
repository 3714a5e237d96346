"""Resizing and smoothing of grids: small fixed matrices, `A s B^T`."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage


@functools.lru_cache(maxsize=64)
def bilinear_matrix(inputs: int, outputs: int) -> np.ndarray:
  """Returns torch's bilinear `interpolate` of a row, `[outputs, inputs]`."""
  centres = (np.arange(outputs) + 0.5) * inputs / outputs - 0.5
  centres = np.clip(centres, 0, inputs - 1)
  distance = np.abs(centres[:, None] - np.arange(inputs)[None, :])
  return np.maximum(0.0, 1.0 - distance)


@functools.lru_cache(maxsize=64)
def upsampling_matrix(inputs: int, outputs: int, sigma: float) -> np.ndarray:
  """Returns the matrix of a bilinear resize and scipy's Gaussian filter."""
  resize = bilinear_matrix(inputs, outputs)
  if not sigma:
    return resize
  gaussian = ndimage.gaussian_filter1d(np.eye(outputs), sigma, axis=0)
  return gaussian @ resize


def separable(grid: jax.Array, rows: np.ndarray, cols: np.ndarray) -> jax.Array:
  """Multiplies a grid `[height, width, ...]` along its height and width."""
  # The matrices are tiny, their errors seen in every score.
  highest = jax.lax.Precision.HIGHEST
  a, b = (jnp.asarray(m, grid.dtype) for m in (rows, cols))
  grid = jnp.einsum('ih,hw...->iw...', a, grid, precision=highest)
  return jnp.einsum('jw,iw...->ij...', b, grid, precision=highest)


def resize(grid: jax.Array, size: Sequence[int]) -> jax.Array:
  """Resizes a grid `[height, width, ...]` bilinearly to `[*size, ...]`."""
  if grid.shape[:2] == tuple(size):
    return grid
  rows = bilinear_matrix(grid.shape[0], size[0])
  return separable(grid, rows, bilinear_matrix(grid.shape[1], size[1]))


def gather(
  level: jax.Array,
  rows: jax.Array,
  y: jax.Array,
  x: jax.Array,
  grid: tuple[int, ...],
) -> jax.Array:
  """Returns positions of images `[rows, h, w, channels]`, resized to `grid`."""
  # The four positions around each are gathered: no image is resized as a whole.
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
  """Returns the two inputs that outputs mix, and the weight of the second."""
  matrix = bilinear_matrix(inputs, outputs)
  first = np.argmax(matrix > 0, axis=1)
  second = 1 - np.take_along_axis(matrix, first[:, None], 1)[:, 0]
  ends = jnp.asarray(np.stack([first, np.minimum(first + 1, inputs - 1)]))
  one, other = ends[:, at]
  return one, other, jnp.asarray(second, jnp.float32)[at, None]
