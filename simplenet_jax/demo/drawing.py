"""What every picture is drawn with: noise, shapes, damage, a camera.

Lengths are fractions of the picture's width, so a picture shows the same thing
at every resolution.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import PIL.Image

Array = np.ndarray
Rng = np.random.Generator

_SUPERSAMPLING = 2  # Samples along each side of a pixel.


class Grid:
  """Where a scene is sampled, `x` and `y` [n, n] float32 in (-.5, .5)."""

  def __init__(self, size: int):
    n = size * _SUPERSAMPLING
    axis = ((np.arange(n) + 0.5) / n - 0.5).astype(np.float32)
    self.x, self.y = np.meshgrid(axis, axis)
    self.step = 1 / n
    self.inside = np.maximum(np.abs(self.x), np.abs(self.y)) - np.float32(0.5)

  def turned(self, rng: Rng, at: Array) -> tuple[Array, Array]:
    """Returns the coordinates about a point, in axes turned at random."""
    return turn(self.x - at[0], self.y - at[1], rng.uniform(0, np.pi))

  def noise(self, rng: Rng, rows: int, columns: int = 0) -> Array:
    """Returns smooth noise of about zero mean and unit variance, [n, n]."""
    lattice = rng.standard_normal((rows, columns or rows), dtype=np.float32)
    image = PIL.Image.fromarray((1.2 * lattice).astype(np.float32))
    bicubic = PIL.Image.Resampling.BICUBIC
    return np.asarray(image.resize(self.x.shape, bicubic))

  def fractal(self, rng: Rng, cells: int) -> Array:
    """Returns noise whose amplitude halves as its frequency doubles, twice."""
    total = np.zeros_like(self.x)
    for octave in range(3):
      total += self.noise(rng, cells << octave) / 2**octave
    return total

  def along(self, path: Array) -> tuple[Array, Array]:
    """Returns distances to a path [points, 2] and places on it, 0 to 1."""
    nearest, place = np.full_like(self.x, np.inf), np.zeros_like(self.x)
    for i, (a, b) in enumerate(itertools.pairwise(path)):
      step = (b - a).astype(np.float32)
      px, py = self.x - np.float32(a[0]), self.y - np.float32(a[1])
      t = np.clip((px * step[0] + py * step[1]) / (step @ step), 0, 1)
      distance = np.hypot(px - t * step[0], py - t * step[1])
      closer = distance < nearest
      nearest = np.where(closer, distance, nearest)
      place = np.where(closer, (i + t) / (len(path) - 1), place)
    return nearest, place


@dataclasses.dataclass
class Surface:
  """What the camera looks at, float32."""

  albedo: Array  # [n, n, 3] in [0, 1], display-referred (not linear) RGB.
  height: Array  # [n, n], relief towards the camera.
  gloss: Array  # [n, n], strength of the highlights in [0, 1].
  inside: Array  # [n, n], distance to the part's edge, negative on the part.

  def paint(self, colour: Sequence[float] | Array, coverage: Array) -> None:
    """Covers the surface with a colour, [3] or [n, n, 3]."""
    colour = np.asarray(colour, np.float32)
    self.albedo += (colour - self.albedo) * coverage[..., None]

  def open(self, gap: Array, share: float, dark: Sequence[float]) -> None:
    """Shows what is dark and dull below the surface."""
    self.paint(dark, share * gap)
    self.gloss *= 1 - gap

  def on_part(self) -> Array:
    """Returns the share of each sample that is the part's, [n, n]."""
    return cover(self.inside + np.float32(0.004), 0.008)

  def place(self, rng: Rng, grid: Grid, margin: float) -> Array:
    """Draws a point (x, y) at least a margin inside the part's edge."""
    margin = min(margin, -0.9 * float(self.inside.min()))
    places = np.argwhere(self.inside < -margin)
    at = tuple(places[int(rng.random() * len(places))])
    return np.array([grid.x[at], grid.y[at]], np.float32)


def turn(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
  """Returns the coordinates in axes turned by `angle` radians."""
  c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
  return c * x + s * y, c * y - s * x


def cover(distance: Array, softness: float) -> Array:
  """Returns the share covered, 1 inside (negative) to 0 outside, smooth."""
  t = np.clip(0.5 - distance / softness, 0, 1)
  return t * t * (3 - 2 * t)


def box(x: Array, y: Array, w: float, h: float, round_: float) -> Array:
  """Returns the signed distance to a centred box with rounded corners."""
  dx = np.abs(x) - (w / 2 - round_)
  dy = np.abs(y) - (h / 2 - round_)
  outside = np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2
  return np.sqrt(outside) + np.minimum(np.maximum(dx, dy), 0) - round_


def shadow(distance: Array, softness: float, depth: float, drop=0.008) -> Array:
  """Returns the light left around a part, [n, n, 1], 1 - depth at its edge."""
  shift = round(drop * len(distance))
  cast = np.maximum(np.roll(distance, (shift, shift), (0, 1)), 0)
  return 1 - depth * np.exp(cast * (-1 / softness))[..., None]


def varied(rng: Rng, colour: Sequence[float], spread: float) -> Array:
  """Returns a colour near the one given, [3] float32."""
  return (np.array(colour) + rng.normal(0, spread, 3)).astype(np.float32)


def photograph(rng: Rng, grid: Grid, surface: Surface) -> Array:
  """Lights the scene; returns it without noise, [size, size, 3] in [0, 1]."""
  azimuth = rng.normal(-2.3, 0.35)  # From the upper left.
  tilt = rng.uniform(0.55, 0.75)
  flat = tilt * np.cos(azimuth), tilt * np.sin(azimuth)
  light = np.array([*flat, 1], np.float32)
  light /= np.linalg.norm(light)
  strength = rng.uniform(0.7, 1.14)
  tint = strength * rng.normal(1, 0.012, 3).astype(np.float32)
  slope = rng.uniform(-0.25, 0.25, 2).astype(np.float32)
  half = light + np.array([0, 0, 1], np.float32)
  half /= np.linalg.norm(half)

  rise_y, rise_x = np.gradient(surface.height, np.float32(grid.step))
  scale = 1 / np.sqrt(rise_x**2 + rise_y**2 + 1)
  facing = (light[2] - rise_x * light[0] - rise_y * light[1]) * scale
  diffuse = 0.4 + 0.6 * np.maximum(facing, 0) / light[2]
  mirrored = (half[2] - rise_x * half[0] - rise_y * half[1]) * scale
  eighth = ((np.clip(mirrored, 0, 1) ** 2) ** 2) ** 2
  highlight = surface.gloss * eighth * eighth * eighth
  falloff = 1 + slope[0] * grid.x + slope[1] * grid.y
  falloff -= 0.25 * (grid.x**2 + grid.y**2)
  image = surface.albedo * (diffuse * falloff)[..., None]
  image = (image + 0.5 * (highlight * falloff)[..., None]) * tint
  # A pixel is the mean of its samples.
  image, s = np.clip(image, 0, 1), _SUPERSAMPLING
  samples = [image[i::s, j::s] for i in range(s) for j in range(s)]
  return np.asarray(sum(samples[1:], samples[0]) / np.float32(s * s))


# Damage that can lie on any surface, which it alters, somewhere on the part.


def scratch(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Scores a slightly curved groove down to brighter material."""
  at = surface.place(rng, grid, 0.06)
  path = _curve(rng, at, rng.uniform(0.28, 0.42), 6, 0.08)
  distance, place = grid.along(path)
  width = rng.uniform(0.013, 0.016) * (0.5 + 0.5 * np.sin(np.pi * place))
  groove = cover(distance - width, 0.006) * surface.on_part()
  bare = surface.albedo[surface.inside < 0].mean(0) + np.float32(0.34)
  surface.paint(np.minimum(bare, 1), 0.95 * groove)
  surface.height -= 0.006 * groove


def crack(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Opens a jagged dark line with a branch."""
  at, length = surface.place(rng, grid, 0.06), rng.uniform(0.2, 0.32)
  trunk = _curve(rng, at, length, 9, 0.55)
  branch = _curve(rng, at, 0.5 * length, 5, 0.5)
  branch += trunk[4] - branch[0]
  distance, place = grid.along(trunk)
  width = rng.uniform(0.007, 0.01) * (1.05 - 0.6 * place)
  side, place = grid.along(branch)
  gap = np.minimum(distance - width, side - 0.006 * (1 - 0.7 * place))
  gap = cover(gap, 0.005) * surface.on_part()
  surface.height -= 0.006 * gap
  surface.open(gap, 0.92, (0.1, 0.08, 0.08))


def cut(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Slits the part: a dark lens with lifted lips."""
  x, y = grid.turned(rng, surface.place(rng, grid, 0.07))
  half = rng.uniform(0.08, 0.13)
  opening = rng.uniform(0.02, 0.028) * (1 - (x / half) ** 2)
  distance = np.where(np.abs(x) < half, np.abs(y) - opening, np.abs(y) + 0.02)
  lips = cover(distance - 0.008, 0.008) * surface.on_part()
  surface.height += 0.008 * lips
  slit = cover(distance, 0.006) * surface.on_part()
  surface.open(slit, 0.95, (0.06, 0.06, 0.07))


def hole(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Punches an irregular hole through the part."""
  radius = rng.uniform(0.022, 0.034)
  distance = _blob(rng, grid, surface.place(rng, grid, 0.08), radius)
  surface.height -= 0.02 * cover(distance - 0.006, 0.02)
  through = cover(distance, 0.01) * surface.on_part()
  surface.open(through, 0.95, (0.11, 0.09, 0.08))


def stain(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Soaks a spot with a dark liquid that dries to a rim."""
  radius = rng.uniform(0.055, 0.085)
  distance = _blob(rng, grid, surface.place(rng, grid, 0.08), radius)
  wet = cover(distance, 0.016) * surface.on_part()
  rim = np.exp(-((distance + 0.006) ** 2) / 0.005**2)
  tint = np.array([0.46, 0.37, 0.29], np.float32) * rng.uniform(0.85, 1.1)
  keep = 1 - wet[..., None] * (1 - tint) * (0.85 + 0.3 * rim[..., None])
  surface.albedo *= keep.astype(np.float32)


def colour(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Drops paint on the part, of a colour that it does not have already."""
  paints = np.array([[0.85, 0.15, 0.2], [0.12, 0.35, 0.8], [0.95, 0.75, 0.1],
                     [0.1, 0.6, 0.3], [0.6, 0.2, 0.6]])  # fmt: skip
  mean = surface.albedo[surface.inside < 0].mean(0)
  far = np.argsort(-np.linalg.norm(paints - mean, axis=1))
  at = surface.place(rng, grid, 0.05)
  distance = _blob(rng, grid, at, rng.uniform(0.028, 0.045))
  drop = cover(distance, 0.008) * surface.on_part()
  surface.paint(paints[far[rng.integers(3)]], 0.85 * drop)
  surface.height += 0.01 * np.sqrt(np.clip(-distance / 0.03, 0, 1)) * drop
  surface.gloss += (0.6 - surface.gloss) * drop


def thread(rng: Rng, grid: Grid, surface: Surface) -> None:
  """Leaves a loose thread lying on the part, with its shadow."""
  at = surface.place(rng, grid, 0.08)
  path = _curve(rng, at, rng.uniform(0.3, 0.5), 12, 0.3)
  distance, place = grid.along(path)
  radius = rng.uniform(0.01, 0.013)
  shade, _ = grid.along(path + np.array([0.008, 0.01], np.float32))
  surface.albedo *= 1 - 0.4 * cover(shade - radius, 0.02)[..., None]
  tones = [(0.95, 0.9, 0.3), (0.8, 0.14, 0.12), (0.09, 0.09, 0.1)]
  yarn = np.array(tones[rng.integers(3)], np.float32)
  twist = 0.85 + 0.15 * np.sin(np.float32(150) * place)
  surface.paint(yarn * twist[..., None], cover(distance - radius, 0.004))
  surface.height += np.sqrt(np.maximum(radius**2 - distance**2, 0))


def _blob(rng: Rng, grid: Grid, at: Array, radius: float) -> Array:
  x, y = grid.turned(rng, at)
  stretch = rng.uniform(1, 1.4)
  ragged = 1 + 0.16 * grid.noise(rng, 14)
  return np.hypot(x / stretch, y * stretch) * ragged - radius


def _curve(rng: Rng, at: Array, length: float, pieces: int, wobble: float):
  heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, wobble, pieces))
  steps = np.stack([np.cos(heading), np.sin(heading)], -1) * length / pieces
  path = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
  return (path - path.mean(0) + at).astype(np.float32)
