"""Random outlines of objects, as signed distances.

A shape is a function `(x, y) -> distance`, positions relative to its centre in
units of its radius; the distance (roughly Euclidean, same unit) is negative
inside.
"""

from collections.abc import Callable

import numpy as np

Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _box(x: np.ndarray, y: np.ndarray, w: float, h: float) -> np.ndarray:
  dx, dy = np.abs(x) - w, np.abs(y) - h
  outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
  return outside + np.minimum(np.maximum(dx, dy), 0)


def _segment(x, y, a, b) -> np.ndarray:
  """The distance to the line from `a` to `b`."""
  ux, uy = b[0] - a[0], b[1] - a[1]
  t = ((x - a[0]) * ux + (y - a[1]) * uy) / (ux * ux + uy * uy + 1e-9)
  t = np.clip(t, 0, 1)
  return np.hypot(x - a[0] - t * ux, y - a[1] - t * uy)


def _polygon(rng: np.random.Generator) -> Shape:
  count = int(rng.integers(3, 9))
  turn, rounding = rng.uniform(0, 2 * np.pi), rng.choice([0, 0.15])
  angles = turn + np.arange(count) * 2 * np.pi / count
  limits = (
    rng.uniform(0.55, 1, count) if rng.random() < 0.4 else 0.85 + 0 * angles
  )
  normals = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)

  def distance(x, y):
    sides = [
      n[0] * x + n[1] * y - limit + rounding
      for n, limit in zip(normals, limits, strict=True)
    ]
    if not rounding:
      return np.max(sides, axis=0)
    return (
      np.sum(np.maximum(sides, 0) ** 2, axis=0) ** 0.5
      - rounding
      + (np.minimum(np.max(sides, axis=0), 0))
    )

  return distance


def _ellipse(rng: np.random.Generator) -> Shape:
  aspect, power = rng.uniform(0.4, 1), rng.choice([2, 2, 2, 4])

  def distance(x, y):
    r = (np.abs(x) ** power + np.abs(y / aspect) ** power) ** (1 / power)
    return (r - 1) * aspect

  return distance


def _ring(rng: np.random.Generator) -> Shape:
  width, gap = rng.uniform(0.08, 0.3), rng.choice([0, 0, rng.uniform(0.3, 1.5)])

  def distance(x, y):
    d = np.abs(np.hypot(x, y) - 1 + width) - width
    return np.maximum(d, gap - np.abs(np.arctan2(y, x))) if gap else d

  return distance


def _gear(rng: np.random.Generator) -> Shape:
  teeth, depth = int(rng.integers(3, 18)), rng.uniform(0.06, 0.3)
  gain, hole = rng.uniform(0.8, 4), rng.choice([0, rng.uniform(0.15, 0.5)])

  def distance(x, y):
    r, t = np.hypot(x, y), np.arctan2(y, x)
    d = (r - 1 + depth - depth * np.tanh(gain * np.cos(teeth * t))) * 0.8
    return np.maximum(d, hole - r)

  return distance


def _blob(rng: np.random.Generator) -> Shape:
  orders = np.arange(2, 7)
  weights = rng.normal(0, 0.3, 5) / orders
  phases = rng.uniform(0, 2 * np.pi, 5)

  def distance(x, y):
    r, t = np.hypot(x, y), np.arctan2(y, x)
    limit = 0.75 + sum(
      w * np.cos(k * t + p)
      for k, w, p in zip(orders, weights, phases, strict=True)
    )
    return (r - limit) * 0.8

  return distance


def _bar(rng: np.random.Generator) -> Shape:
  aspect, rounding = rng.uniform(0.1, 0.9), rng.uniform(0, 1)
  rounding = rounding * aspect * rng.choice([0, 1])
  return lambda x, y: _box(x, y, 1 - rounding, aspect - rounding) - rounding


def _cross(rng: np.random.Generator) -> Shape:
  width = rng.uniform(0.12, 0.4)
  both = rng.random() < 0.7
  end = rng.uniform(-0.8, 0.8)

  def distance(x, y):
    bar = _box(x, y, 1, width)
    stem = _box(x - (0 if both else end), y, width, 1)
    return np.minimum(bar, stem)

  return distance


def _glyph(rng: np.random.Generator) -> Shape:
  # Strokes between the points of a 3 x 3 grid, like letters of no alphabet.
  count, width = int(rng.integers(2, 6)), rng.uniform(0.08, 0.2)
  points = rng.integers(-1, 2, (count + 1, 2)) * np.array([0.6, 0.85])
  pairs = [(points[k], points[k + 1]) for k in range(count)]

  def distance(x, y):
    return np.min([_segment(x, y, *pair) for pair in pairs], axis=0) - width

  return distance


def _bolt(rng: np.random.Generator) -> Shape:
  # A head, a shank and a thread along it, seen from the side.
  head, shank = rng.uniform(0.25, 0.5), rng.uniform(0.1, 0.22)
  length, pitch = rng.uniform(0.15, 0.35), rng.uniform(0.06, 0.16)
  depth, taper = rng.uniform(0, 0.06), rng.uniform(0, 0.12)

  def distance(x, y):
    thread = depth * np.sin(2 * np.pi * (x + 0.15 * np.sign(y) * pitch) / pitch)
    rod = np.maximum(
      np.abs(y) - shank - thread + taper * np.maximum(x, 0), np.abs(x) - 1
    )
    cap = _box(x + 1 - length / 2, y, length / 2, head)
    return np.minimum(rod, cap)

  return distance


def _vessel(rng: np.random.Generator) -> Shape:
  # A turned body: its width is a smooth function of the height.
  knots = rng.uniform(0.15, 0.7, 6)
  heights = np.linspace(-1, 1, 6)
  fine = np.linspace(-1, 1, 64)
  smooth = np.convolve(
    np.pad(np.interp(fine, heights, knots), 5, 'edge'),
    np.ones(11) / 11,
    'valid',
  )

  def distance(x, y):
    width = np.interp(x, fine, smooth).astype(np.float32)
    return np.maximum((np.abs(y) - width) * 0.9, np.abs(x) - 0.95)

  return distance


def _crescent(rng: np.random.Generator) -> Shape:
  shift, radius = rng.uniform(0.3, 0.9), rng.uniform(0.5, 1)

  def distance(x, y):
    return np.maximum(
      np.hypot(x, y) - 0.95, radius - np.hypot(x - shift - 0.3, y)
    )

  return distance


_DRAWS = (
  _polygon,
  _ellipse,
  _ring,
  _gear,
  _blob,
  _bar,
  _cross,
  _glyph,
  _bolt,
  _vessel,
  _crescent,
)


def draw(rng: np.random.Generator) -> Shape:
  """Draws a shape of any kind."""
  return _DRAWS[rng.integers(len(_DRAWS))](rng)
