"""What every picture is drawn with: coordinates, noise, shapes, a camera.

A scene is a `Surface` (colour, relief, gloss) over a unit square; `photograph`
lights it and integrates it over the pixels. Lengths are fractions of the
picture's width, so a picture shows the same thing at every resolution.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image

Array = np.ndarray
Rng = np.random.Generator

_SUPERSAMPLING = 2  # Samples along each side of a pixel.


class Grid(NamedTuple):
  """Where a scene is sampled, [n, n] float32 in (-.5, .5), and the distance."""

  x: Array
  y: Array
  step: float


@dataclasses.dataclass
class Surface:
  """What the camera looks at, float32.

  Attributes:
    albedo: [n, n, 3] in [0, 1], display-referred (not linear) RGB.
    height: [n, n], relief towards the camera.
    gloss: [n, n] or a number, in [0, 1], strength of the highlights.
    inside: [n, n], signed distance to the edge of the part on which damage may
      lie, negative on the part.
  """

  albedo: Array
  height: Array
  gloss: Array | float
  inside: Array

  def __post_init__(self):
    """Makes all of them float32 arrays."""
    self.albedo = self.albedo.astype(np.float32)
    self.height = self.height.astype(np.float32)
    self.gloss = np.float32(self.gloss) * np.ones_like(self.height)
    self.inside = self.inside.astype(np.float32)


class Flaw(NamedTuple):
  """A defect's name, empty for a good part, and what decides its shape."""

  kind: str
  rng: Rng


def make_grid(size: int) -> Grid:
  """Returns the sampling grid of a picture of `size` x `size` pixels."""
  n = size * _SUPERSAMPLING
  axis = ((np.arange(n) + 0.5) / n - 0.5).astype(np.float32)
  return Grid(*np.meshgrid(axis, axis), 1 / n)


def turn(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
  """Returns the coordinates in axes turned by `angle` radians."""
  c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
  return c * x + s * y, c * y - s * x


def noise(rng: Rng, grid: Grid, rows: int, columns: int = 0) -> Array:
  """Returns smooth noise, [n, n] float32, about zero mean and unit variance.

  It interpolates rows x columns random values, which do not depend on the grid.
  """
  lattice = rng.standard_normal((rows, columns or rows), dtype=np.float32)
  image = PIL.Image.fromarray((1.2 * lattice).astype(np.float32))
  bicubic = PIL.Image.Resampling.BICUBIC
  return np.asarray(image.resize(grid.x.shape, bicubic))


def fractal(rng: Rng, grid: Grid, cells: int) -> Array:
  """Returns noise whose amplitude halves as its frequency doubles, twice."""
  total = np.zeros_like(grid.x)
  for octave in range(3):
    total += noise(rng, grid, cells << octave) / 2**octave
  return total


def cover(distance: Array, softness: float) -> Array:
  """Returns the share covered, 1 inside (negative) to 0 outside, smooth."""
  t = np.clip(0.5 - distance / softness, 0, 1)
  return t * t * (3 - 2 * t)


def box(
  x: Array, y: Array, width: float, height: float, corner: float
) -> Array:
  """Returns the signed distance to a centred box with rounded corners."""
  dx = np.abs(x) - (width / 2 - corner)
  dy = np.abs(y) - (height / 2 - corner)
  outside = np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2
  return np.sqrt(outside) + np.minimum(np.maximum(dx, dy), 0) - corner


def along(grid: Grid, path: Array) -> tuple[Array, Array]:
  """Returns each sample's distance to a path and its place along it, in [0, 1].

  The path is given by its corners (x, y), [points, 2].
  """
  nearest = np.full_like(grid.x, np.inf)
  place = np.zeros_like(grid.x)
  for i, (a, b) in enumerate(itertools.pairwise(path)):
    step = (b - a).astype(np.float32)
    px, py = grid.x - np.float32(a[0]), grid.y - np.float32(a[1])
    t = np.clip((px * step[0] + py * step[1]) / (step @ step), 0, 1)
    distance = np.hypot(px - t * step[0], py - t * step[1])
    closer = distance < nearest
    nearest = np.where(closer, distance, nearest)
    place = np.where(closer, (i + t) / (len(path) - 1), place)
  return nearest, place


def paint(
  surface: Surface, colour: Sequence[float] | Array, coverage: Array
) -> None:
  """Covers the surface with a colour, [3] or [n, n, 3], where coverage > 0."""
  colour = np.asarray(colour, np.float32)
  surface.albedo += (colour - surface.albedo) * coverage[..., None]


def shadow(
  distance: Array, softness: float, depth: float, drop: float = 0.008
) -> Array:
  """Returns the light left around a part, [n, n, 1], darker to the lower right.

  At the part's edge it takes a share `depth` of the light.
  """
  shift = round(drop * len(distance))
  cast = np.maximum(np.roll(distance, (shift, shift), (0, 1)), 0)
  return 1 - depth * np.exp(cast * (-1 / softness))[..., None]


def varied(rng: Rng, colour: Sequence[float], spread: float) -> Array:
  """Returns a colour near the one given, [3] float32."""
  return (np.array(colour) + rng.normal(0, spread, 3)).astype(np.float32)


def photograph(rng: Rng, grid: Grid, surface: Surface) -> Array:
  """Lights the scene and returns the picture before the sensor's noise.

  `rng` decides the light, whatever lies on the surface. The picture is
  [size, size, 3] float32 in [0, 1].
  """
  azimuth = rng.normal(-2.3, 0.35)  # From the upper left.
  tilt = rng.uniform(0.55, 0.75)
  light = np.array(
    [tilt * np.cos(azimuth), tilt * np.sin(azimuth), 1], np.float32
  )
  light /= np.linalg.norm(light)
  strength = rng.uniform(0.7, 1.14)
  tint = strength * rng.normal(1, 0.012, 3).astype(np.float32)
  slope = rng.uniform(-0.25, 0.25, 2).astype(np.float32)

  rise_y, rise_x = np.gradient(surface.height, np.float32(grid.step))
  scale = 1 / np.sqrt(rise_x**2 + rise_y**2 + 1)
  facing = (light[2] - rise_x * light[0] - rise_y * light[1]) * scale
  half = light + np.array([0, 0, 1], np.float32)
  half /= np.linalg.norm(half)
  mirrored = (half[2] - rise_x * half[0] - rise_y * half[1]) * scale
  eighth = np.clip(mirrored, 0, 1) ** 2
  eighth *= eighth
  eighth *= eighth
  highlight = surface.gloss * eighth * eighth * eighth
  diffuse = 0.4 + 0.6 * np.maximum(facing, 0) / light[2]
  falloff = 1 + slope[0] * grid.x + slope[1] * grid.y
  falloff -= 0.25 * (grid.x**2 + grid.y**2)
  image = surface.albedo * (diffuse * falloff)[..., None]
  image = (image + 0.5 * (highlight * falloff)[..., None]) * tint
  # A pixel is the mean of its samples.
  image, s = np.clip(image, 0, 1), _SUPERSAMPLING
  parts = [image[i::s, j::s] for i in range(s) for j in range(s)]
  return np.asarray(sum(parts[1:], parts[0]) / np.float32(s * s))


def expose(rng: Rng, image: Array) -> Array:
  """Returns the picture as a noisy 8-bit sensor records it, uint8."""
  deviation = 0.005 + 0.012 * np.sqrt(image)
  draw = rng.standard_normal(image.shape, dtype=np.float32)
  exposed = np.round(255 * np.clip(image + deviation * draw, 0, 1))
  return exposed.astype(np.uint8)
