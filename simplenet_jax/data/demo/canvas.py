"""What every picture is drawn with: coordinates, noise, shapes, a camera.

A scene is a `Surface` (colour, relief, gloss) over a unit square; `photograph`
lights it and integrates it over the pixels. Lengths are fractions of the
picture's width, so a picture shows the same thing at every resolution.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import PIL.Image

# Samples along each side of a pixel.
_SUPERSAMPLING = 2


@dataclasses.dataclass(frozen=True)
class Grid:
  """Where a scene is sampled.

  Attributes:
    x: [n, n] float32 in (-.5, .5), growing to the right.
    y: [n, n] float32 in (-.5, .5), growing downwards.
    step: distance between neighbouring samples.
  """

  x: np.ndarray
  y: np.ndarray
  step: float


@dataclasses.dataclass
class Surface:
  """What the camera looks at.

  Attributes:
    albedo: [n, n, 3] float32 in [0, 1], display-referred (not linear) RGB.
    height: [n, n] float32, relief towards the camera.
    gloss: [n, n] float32 in [0, 1], strength of the highlights.
    inside: [n, n] float32, signed distance to the edge of the part on which
      damage may lie, negative on the part.
  """

  albedo: np.ndarray
  height: np.ndarray
  gloss: np.ndarray
  inside: np.ndarray


@dataclasses.dataclass(frozen=True)
class Flaw:
  """What is wrong with a part, and what decides where and how.

  Attributes:
    kind: name of the defect; empty for a good part.
    rng: decides the defect's place, size and shape.
  """

  kind: str
  rng: np.random.Generator


def make_grid(size: int) -> Grid:
  """Returns the sampling grid of a picture of `size` x `size` pixels."""
  n = size * _SUPERSAMPLING
  axis = ((np.arange(n) + 0.5) / n - 0.5).astype(np.float32)
  x, y = np.meshgrid(axis, axis)
  return Grid(x, y, 1 / n)


def turn(
  x: np.ndarray, y: np.ndarray, angle: float
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the coordinates in axes turned by `angle` radians."""
  c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
  return c * x + s * y, c * y - s * x


def resized(values: np.ndarray, n: int) -> np.ndarray:
  """Returns [h, w] values interpolated smoothly to [n, n], float32."""
  image = PIL.Image.fromarray(values.astype(np.float32))
  return np.asarray(image.resize((n, n), PIL.Image.Resampling.BICUBIC))


def noise(
  rng: np.random.Generator, grid: Grid, rows: int, columns: int = 0
) -> np.ndarray:
  """Returns smooth noise, [n, n] float32, about zero mean and unit variance.

  Args:
    rng: where the values come from; the draw does not depend on the grid.
    grid: where it is sampled.
    rows: random values down the picture.
    columns: random values across the picture; as many as `rows` if 0.
  """
  lattice = rng.standard_normal((rows, columns or rows), dtype=np.float32)
  return resized(1.2 * lattice, len(grid.x))


def fractal(
  rng: np.random.Generator, grid: Grid, cells: int, octaves: int = 4
) -> np.ndarray:
  """Returns noise whose amplitude halves as its frequency doubles."""
  total = np.zeros_like(grid.x)
  for octave in range(octaves):
    total += noise(rng, grid, cells << octave) / 2**octave
  return total


def cover(distance: np.ndarray, softness: float) -> np.ndarray:
  """Returns the share covered, 1 inside (negative) to 0 outside, smooth."""
  t = np.clip(0.5 - distance / softness, 0, 1)
  return t * t * (3 - 2 * t)


def box(
  x: np.ndarray, y: np.ndarray, width: float, height: float, corner: float
) -> np.ndarray:
  """Returns the signed distance to a centred box with rounded corners."""
  dx = np.abs(x) - (width / 2 - corner)
  dy = np.abs(y) - (height / 2 - corner)
  outside = np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2
  return np.sqrt(outside) + np.minimum(np.maximum(dx, dy), 0) - corner


def along(grid: Grid, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns each sample's distance to a path, and where along it that is.

  Args:
    grid: the samples.
    path: [points, 2] (x, y) corners of the path.

  Returns:
    The distance and the place in [0, 1], both [n, n] float32.
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
  surface: Surface,
  colour: Sequence[float] | np.ndarray,
  coverage: np.ndarray,
) -> None:
  """Covers the surface with a colour, [3] or [n, n, 3], where coverage > 0."""
  colour = np.asarray(colour, np.float32)
  surface.albedo += (colour - surface.albedo) * coverage[..., None]


def shadow(
  distance: np.ndarray, softness: float, depth: float, drop: float = 0.008
) -> np.ndarray:
  """Returns the light left around a part, [n, n, 1], darker to the lower right.

  Args:
    distance: signed distance to the part, [n, n].
    softness: reach of the shadow.
    depth: share of the light that the part takes at its edge.
    drop: how far the shadow is displaced.
  """
  shift = round(drop * len(distance))
  cast = np.maximum(np.roll(distance, (shift, shift), (0, 1)), 0)
  return 1 - depth * np.exp(cast * (-1 / softness))[..., None]


def varied(
  rng: np.random.Generator, colour: Sequence[float], spread: float
) -> np.ndarray:
  """Returns a colour near the one given, [3] float32."""
  return (np.array(colour) + rng.normal(0, spread, 3)).astype(np.float32)


def photograph(
  rng: np.random.Generator, grid: Grid, surface: Surface
) -> np.ndarray:
  """Lights the scene and returns the picture before the sensor's noise.

  The light's direction, strength, tint and evenness vary from picture to
  picture; `rng` decides them, whatever lies on the surface.

  Returns:
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
  return _integrate(np.clip(image, 0, 1))


def _integrate(samples: np.ndarray) -> np.ndarray:
  """Returns the mean of the samples of each pixel."""
  s = _SUPERSAMPLING
  parts = [samples[i::s, j::s] for i in range(s) for j in range(s)]
  return sum(parts[1:], parts[0]) / np.float32(s * s)


def expose(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """Returns the picture as a noisy 8-bit sensor records it, uint8."""
  deviation = 0.005 + 0.012 * np.sqrt(image)
  draw = rng.standard_normal(image.shape, dtype=np.float32)
  return np.round(255 * np.clip(image + deviation * draw, 0, 1)).astype(
    np.uint8
  )
