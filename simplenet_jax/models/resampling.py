"""Resizing and smoothing of grids: small fixed matrices, `A s B^T`."""

import functools
from collections.abc import Sequence
from typing import Any

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


@functools.lru_cache(maxsize=64)
def _taps(inputs: int, outputs: int, back: bool) -> list[tuple[Any, Any]]:
  """Returns what an output mixes, and with what weights, in few pairs."""
  matrix = bilinear_matrix(inputs, outputs)
  matrix = matrix.T if back else matrix
  most = np.count_nonzero(matrix, axis=1).max()
  places = np.argsort(matrix == 0, axis=1, kind='stable')[:, :most]
  weights = np.take_along_axis(matrix, places, 1)
  return list(zip(places.T, weights.T, strict=True))


def _mix(grid: jax.Array, axis: int, taps: Sequence[tuple[Any, Any]]) -> Any:
  shape = [-1 if i == axis else 1 for i in range(grid.ndim)]
  parts = [
    jnp.take(grid, places, axis=axis, mode='clip')
    * jnp.asarray(weights.reshape(shape), grid.dtype)
    for places, weights in taps
  ]
  return functools.reduce(jnp.add, parts)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def resize(grid: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Resizes a grid `[height, width, ...]` bilinearly to `[*size, ...]`.

  Forwards and backwards it is a sum of a few weighted copies, which fuses with
  what comes before and after; products with matrices so small do not.
  """
  for axis, (old, new) in enumerate(zip(grid.shape[:2], size, strict=True)):
    if old != new:
      grid = _mix(grid, axis, _taps(old, new, False))
  return grid


def _resize_forward(grid, size):
  return resize(grid, size), grid.shape[:2]


def _resize_backward(size, old, gradient):
  for axis in (1, 0):
    if old[axis] != size[axis]:
      taps = _taps(old[axis], size[axis], True)
      gradient = _mix(gradient, axis, taps)
  return (gradient,)


resize.defvjp(_resize_forward, _resize_backward)


def gather(
  values: jax.Array,
  rows: jax.Array,
  y: jax.Array,
  x: jax.Array,
  old: tuple[int, int],
  new: tuple[int, int],
) -> jax.Array:
  """Returns positions of images, as if these were resized.

  Values, `[rows * height * width, channels]`, are grids `old`; rows and
  positions `y`, `x` in a grid `new` are broadcast.
  """

  def at(i, j):
    return values[(rows * old[0] + i) * old[1] + j]

  # The four positions around each are gathered: no image is resized as a whole.
  if old == new:
    return at(y, x)
  top, bottom, down = _neighbours(old[0], new[0], y)
  left, right, across = _neighbours(old[1], new[1], x)
  above, below = (
    (1 - across) * at(i, left) + across * at(i, right) for i in (top, bottom)
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
