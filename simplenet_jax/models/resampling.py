"""Resizing and smoothing of grids as small fixed matrices.

Both are linear and separable: a grid `s` becomes `A s B^T`.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage


@functools.lru_cache(maxsize=64)
def bilinear_matrix(inputs: int, outputs: int) -> np.ndarray:
  """Returns the matrix of a one-dimensional bilinear resize.

  Half-pixel centres, clamped at the borders and without antialiasing: torch's
  `interpolate(mode='bilinear', align_corners=False)`.

  Returns:
    float64 `[outputs, inputs]`; every row sums to 1.
  """
  centres = (np.arange(outputs) + 0.5) * inputs / outputs - 0.5
  centres = np.clip(centres, 0, inputs - 1)
  distance = np.abs(centres[:, None] - np.arange(inputs)[None, :])
  return np.maximum(0.0, 1.0 - distance)


@functools.lru_cache(maxsize=64)
def upsampling_matrix(inputs: int, outputs: int, sigma: float) -> np.ndarray:
  """Returns the matrix of a bilinear resize followed by a Gaussian filter.

  The Gaussian is truncated at 4 sigma, edges are mirrored about the pixels'
  borders, as `scipy.ndimage.gaussian_filter` does by default.

  Args:
    inputs: Length before.
    outputs: Length after.
    sigma: Standard deviation in positions of the output; 0: no filter.

  Returns:
    float64 `[outputs, inputs]`; every row sums to 1.
  """
  resize = bilinear_matrix(inputs, outputs)
  if not sigma:
    return resize
  gaussian = ndimage.gaussian_filter1d(np.eye(outputs), sigma, axis=0)
  return gaussian @ resize


def separable(grid: jax.Array, rows: np.ndarray, cols: np.ndarray) -> jax.Array:
  """Multiplies a grid `[height, width, ...]` along its height and its width.

  It is computed at full precision whatever the default of matrix products is:
  the matrices are tiny and their errors would be seen in every score.
  """
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


def taps(inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the two inputs that each output of `bilinear_matrix` mixes.

  Returns:
    Their indices, int `[2, outputs]`, and the weight of the second one, float64
    `[outputs]`; at the borders it is 0.
  """
  matrix = bilinear_matrix(inputs, outputs)
  first = np.argmax(matrix > 0, axis=1)
  second = 1 - np.take_along_axis(matrix, first[:, None], 1)[:, 0]
  return np.stack([first, np.minimum(first + 1, inputs - 1)]), second
