"""Scalar fields on the plane: the raw material of the textures.

Fields are float32 arrays over pixel positions `x`, `y` (float32 `[n, n]`, in
pixels). Positions may be rotated, scaled and warped before; a field follows.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft

TILE = 128  # Side of a periodic noise tile, in pixels.
TABLE = 32  # Side of a periodic table of per-cell random numbers.

# See `textures`.
Texture = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
  """Draws a number whose logarithm is uniform."""
  return float(np.exp(rng.uniform(np.log(low), np.log(high))))


@functools.cache
def _frequencies() -> tuple[np.ndarray, np.ndarray]:
  """Returns the frequencies of a tile's real FFT, in cycles per tile."""
  fy = scipy.fft.fftfreq(TILE, 1 / TILE).astype(np.float32)
  fx = scipy.fft.rfftfreq(TILE, 1 / TILE).astype(np.float32)
  return fx[None, :], fy[:, None]


def spectrum(
  slope: float,
  low: float,
  high: float,
  angle: float = 0.0,
  stretch: float = 1.0,
) -> np.ndarray:
  """Designs the amplitude spectrum of a noise.

  Args:
    slope: Amplitudes fall with the frequency to this power.
    low: Lowest frequency kept, in cycles per tile.
    high: Highest frequency kept, in cycles per tile.
    angle: Direction along which the noise is drawn out, in radians.
    stretch: How far it is drawn out; 1 for an isotropic noise.

  Returns:
    Amplitudes `[TILE, TILE // 2 + 1]`, float32, for `noise`.
  """
  fx, fy = _frequencies()
  along = (np.cos(angle) * fx + np.sin(angle) * fy) * stretch
  across = np.cos(angle) * fy - np.sin(angle) * fx
  f = np.maximum(np.hypot(along, across), 0.5)
  band = np.exp(-((low / f) ** 4) - (f / high) ** 4)
  amplitude = (f**-slope * band).astype(np.float32)
  amplitude[0, 0] = 0
  return amplitude


def noise(rng: np.random.Generator, amplitude: np.ndarray) -> np.ndarray:
  """Draws a periodic noise tile with the given spectrum.

  Args:
    rng: Source of the phases.
    amplitude: From `spectrum`.

  Returns:
    `[TILE, TILE]`, float32, mean 0, standard deviation 1.
  """
  white = rng.standard_normal((TILE, TILE), dtype=np.float32)
  tile: Any = scipy.fft.irfft2(scipy.fft.rfft2(white) * amplitude, (TILE, TILE))
  return tile / max(float(tile.std()), 1e-12)


def sample(tile: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Reads a periodic tile at positions between its pixels, bilinearly."""
  fx, fy = np.floor(x), np.floor(y)
  rows, columns = tile.shape
  j, i = fx.astype(np.int32) % columns, fy.astype(np.int32) % rows
  j1, i1 = (j + 1) % columns, (i + 1) % rows
  u, v = x - fx, y - fy
  flat = tile.ravel()
  top = flat[i * columns + j] * (1 - u) + flat[i * columns + j1] * u
  bottom = flat[i1 * columns + j] * (1 - u) + flat[i1 * columns + j1] * u
  return top * (1 - v) + bottom * v


def per_cell(table: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
  """Looks up a periodic `[TABLE, TABLE]` table at integer cells."""
  return table[i.astype(np.int32) % TABLE, j.astype(np.int32) % TABLE]


def squash(x: np.ndarray, gain: float = 1.0) -> np.ndarray:
  """Maps the reals into (0, 1), steeply for a large gain."""
  return 0.5 + 0.5 * np.tanh(gain * x)


def rotate(
  x: np.ndarray, y: np.ndarray, angle: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the coordinates in a frame turned by `angle` (radians)."""
  c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
  if isinstance(angle, np.ndarray):
    c, s = np.cos(angle), np.sin(angle)
  return c * x + s * y, c * y - s * x


def profile(t: np.ndarray, kind: int, gain: float) -> np.ndarray:
  """A periodic wave of period 1 and range [0, 1].

  Args:
    t: Phase in periods.
    kind: 0 for a wave between a sine and a square, 1 for a saw tooth, 2 for
      narrow bright lines, 3 for round ridges.
    gain: Steepness, at least 1.
  """
  t = t - np.floor(t)
  if kind == 0:
    return squash(np.sin(2 * np.pi * t), gain)
  if kind == 1:
    return np.minimum(t, (1 - t) * 2 * gain)
  if kind == 2:
    return np.exp(-((gain * 4 * (t - 0.5)) ** 2))
  return np.sqrt(np.maximum(1 - (2 * t - 1) ** 2, 0))


def voronoi(
  x: np.ndarray, y: np.ndarray, jitter: float, table: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Cells around the jittered points of a unit lattice.

  Args:
    x: Positions in units of the lattice.
    y: Likewise.
    jitter: 0 for a regular lattice, 1 for full disorder.
    table: Uniform numbers `[3, TABLE, TABLE]`.

  Returns:
    The distance to the nearest point, to the second nearest, and a number in
    [0, 1) that is constant over each cell.
  """
  i, j = np.floor(y).astype(np.int32), np.floor(x).astype(np.int32)
  first = np.full(x.shape, 9, np.float32)
  second, shade = first.copy(), np.zeros_like(first)
  for di in (-1, 0, 1):
    for dj in (-1, 0, 1):
      index = (i + di) % TABLE * TABLE + (j + dj) % TABLE
      px = j + dj + 0.5 + jitter * (table[0].ravel()[index] - 0.5)
      py = i + di + 0.5 + jitter * (table[1].ravel()[index] - 0.5)
      d = np.sqrt((px - x) ** 2 + (py - y) ** 2)
      nearer = d < first
      second = np.where(nearer, first, np.minimum(second, d))
      shade = np.where(nearer, table[2].ravel()[index], shade)
      first = np.minimum(first, d)
  return first, second, shade


def tables(rng: np.random.Generator, count: int) -> np.ndarray:
  """Draws `count` tables of uniform numbers for `per_cell` and `voronoi`."""
  return rng.random((count, TABLE, TABLE), dtype=np.float32)
