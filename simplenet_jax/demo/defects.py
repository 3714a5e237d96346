"""Damage that can lie on any surface: scratches, cracks, stains, threads.

Each public function alters a `Surface` in place, at a place drawn on the part.
"""

import numpy as np

from simplenet_jax.demo import canvas as c
from simplenet_jax.demo.canvas import Array, Grid, Rng, Surface


def _place(rng: Rng, grid: Grid, surface: Surface, margin: float) -> Array:
  """Draws a point (x, y) at least a margin inside the part's edge."""
  margin = min(margin, -0.9 * float(surface.inside.min()))
  rows, columns = np.nonzero(surface.inside < -margin)
  i = int(rng.random() * len(rows))
  at = rows[i], columns[i]
  return np.array([grid.x[at], grid.y[at]], np.float32)


def _on_part(surface: Surface) -> Array:
  return c.cover(surface.inside + np.float32(0.004), 0.008)


def _blob(rng: Rng, grid: Grid, at: Array, radius: float) -> Array:
  """Returns the signed distance, about, to an irregular round spot."""
  x, y = c.turn(grid.x - at[0], grid.y - at[1], rng.uniform(0, np.pi))
  stretch = rng.uniform(1, 1.4)
  ragged = 1 + 0.16 * c.noise(rng, grid, 14)
  return np.hypot(x / stretch, y * stretch) * ragged - radius


def _curve(
  rng: Rng, start: Array, length: float, pieces: int, wobble: float
) -> Array:
  """Returns a wandering path about a point, [pieces + 1, 2]."""
  heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, wobble, pieces))
  steps = np.stack([np.cos(heading), np.sin(heading)], -1) * length / pieces
  path = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
  return (path - path.mean(0) + start).astype(np.float32)


def scratch(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Scores a slightly curved groove down to brighter material."""
  at = _place(rng, grid, surface, 0.06)
  path = _curve(rng, at, rng.uniform(0.28, 0.42), 6, 0.08)
  distance, place = c.along(grid, path)
  width = rng.uniform(0.013, 0.016) * (0.5 + 0.5 * np.sin(np.pi * place))
  groove = c.cover(distance - width, 0.006) * _on_part(surface)
  bare = surface.albedo[surface.inside < 0].mean(0) + np.float32(0.34)
  c.paint(surface, np.minimum(bare, 1), 0.95 * groove)
  surface.height -= 0.006 * groove


def crack(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Opens a jagged dark line with a branch."""
  at = _place(rng, grid, surface, 0.06)
  length = rng.uniform(0.2, 0.32)
  trunk = _curve(rng, at, length, 9, 0.55)
  branch = _curve(rng, at, 0.5 * length, 5, 0.5)
  branch += trunk[4] - branch[0]
  distance, place = c.along(grid, trunk)
  width = rng.uniform(0.007, 0.01) * (1.05 - 0.6 * place)
  side, place = c.along(grid, branch)
  gap = np.minimum(distance - width, side - 0.006 * (1 - 0.7 * place))
  gap = c.cover(gap, 0.005) * _on_part(surface)
  c.paint(surface, (0.1, 0.08, 0.08), 0.92 * gap)
  surface.height -= 0.006 * gap
  surface.gloss *= 1 - gap


def cut(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Slits the part: a dark lens with lifted lips."""
  at = _place(rng, grid, surface, 0.07)
  x, y = c.turn(grid.x - at[0], grid.y - at[1], rng.uniform(0, np.pi))
  half = rng.uniform(0.08, 0.13)
  opening = rng.uniform(0.02, 0.028) * (1 - (x / half) ** 2)
  distance = np.where(np.abs(x) < half, np.abs(y) - opening, np.abs(y) + 0.02)
  on = _on_part(surface)
  slit = c.cover(distance, 0.006) * on
  surface.height += 0.008 * (c.cover(distance - 0.008, 0.008) * on)
  c.paint(surface, (0.06, 0.06, 0.07), 0.95 * slit)
  surface.gloss *= 1 - slit


def hole(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Punches an irregular hole through the part."""
  radius = rng.uniform(0.022, 0.034)
  distance = _blob(rng, grid, _place(rng, grid, surface, 0.08), radius)
  through = c.cover(distance, 0.01) * _on_part(surface)
  surface.height -= 0.02 * c.cover(distance - 0.006, 0.02)
  c.paint(surface, (0.11, 0.09, 0.08), 0.95 * through)
  surface.gloss *= 1 - through


def stain(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Soaks a spot with a dark liquid that dries to a rim."""
  radius = rng.uniform(0.055, 0.085)
  distance = _blob(rng, grid, _place(rng, grid, surface, 0.08), radius)
  wet = c.cover(distance, 0.016) * _on_part(surface)
  rim = np.exp(-((distance + 0.006) ** 2) / 0.005**2)
  tint = np.array([0.46, 0.37, 0.29], np.float32) * rng.uniform(0.85, 1.1)
  keep = 1 - wet[..., None] * (1 - tint) * (0.85 + 0.3 * rim[..., None])
  surface.albedo *= keep.astype(np.float32)


_PAINTS = np.array(
  [
    [0.85, 0.15, 0.2],
    [0.12, 0.35, 0.8],
    [0.95, 0.75, 0.1],
    [0.1, 0.6, 0.3],
    [0.6, 0.2, 0.6],
  ]
)


def colour(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Drops paint of a foreign colour on the part."""
  mean = surface.albedo[surface.inside < 0].mean(0)
  # Not a colour that the part has already.
  far = _PAINTS[np.argsort(-np.linalg.norm(_PAINTS - mean, axis=1))[:3]]
  at = _place(rng, grid, surface, 0.05)
  distance = _blob(rng, grid, at, rng.uniform(0.028, 0.045))
  drop = c.cover(distance, 0.008) * _on_part(surface)
  c.paint(surface, far[int(rng.integers(3))], 0.85 * drop)
  surface.height += 0.01 * np.sqrt(np.clip(-distance / 0.03, 0, 1)) * drop
  surface.gloss += (0.6 - surface.gloss) * drop


def thread(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Leaves a loose thread lying on the part, with its shadow."""
  at = _place(rng, grid, surface, 0.08)
  path = _curve(rng, at, rng.uniform(0.3, 0.5), 12, 0.3)
  distance, place = c.along(grid, path)
  radius = rng.uniform(0.01, 0.013)
  shade, _ = c.along(grid, path + np.array([0.008, 0.01], np.float32))
  surface.albedo *= 1 - 0.4 * c.cover(shade - radius, 0.02)[..., None]
  tones = [(0.95, 0.9, 0.3), (0.8, 0.14, 0.12), (0.09, 0.09, 0.1)]
  yarn = np.array(tones[int(rng.integers(3))], np.float32)
  twist = 0.85 + 0.15 * np.sin(np.float32(150) * place)
  c.paint(surface, yarn * twist[..., None], c.cover(distance - radius, 0.004))
  surface.height += np.sqrt(np.maximum(radius**2 - distance**2, 0))
