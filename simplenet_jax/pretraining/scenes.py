"""Renders recipes, with or without a local disturbance."""

import dataclasses

import numpy as np
import scipy.ndimage

from simplenet_jax.pretraining import fields, recipes

_SWELL = fields.spectrum(1.5, 1, 6)


@dataclasses.dataclass(frozen=True)
class OddCopy:
  """How the copy of an object at one place differs from the others.

  Attributes:
    x: The place, in pixels from the image's centre.
    y: Likewise.
    dx: Its shift, in pitches.
    dy: Likewise.
    turn: Its turn, in radians.
    size: Its magnification; 0 for a missing copy.
  """

  x: float
  y: float
  dx: float = 0.0
  dy: float = 0.0
  turn: float = 0.0
  size: float = 1.0


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns pixel positions `x`, `y` `[size, size]` relative to the centre."""
  line = np.arange(size, dtype=np.float32) - size / 2 + 0.5
  x, y = np.meshgrid(line, line)
  return x, y


def shade(height: np.ndarray, light: float) -> np.ndarray:
  """Returns the slope of a height field towards the light."""
  slope = np.zeros_like(height)
  slope[:, 1:-1] += np.cos(light) * (height[:, 2:] - height[:, :-2])
  slope[1:-1] += np.sin(light) * (height[2:] - height[:-2])
  return slope


def cover(
  surface: recipes.Surface,
  x: np.ndarray,
  y: np.ndarray,
  light: float,
  rng: np.random.Generator,
) -> np.ndarray:
  """Colours the plane with a surface.

  Args:
    surface: What to show.
    x: Positions `[n, n]` in pixels.
    y: Likewise.
    light: Direction of the light, in radians.
    rng: What differs from image to image.

  Returns:
    `[n, n, 3]`, float32, about [0, 1].
  """
  field = surface.texture(x, y, rng)
  level = np.clip(field * 255, 0, 255).astype(np.uint8)
  rgb = surface.palette[level]
  if surface.relief:
    rgb = rgb * (1 + surface.relief * shade(field, light))[..., None]
  return rgb


def _pose(recipe, size, rng, displace):
  x, y = grid(size)
  if displace is not None:
    x, y = displace(x, y)
  x = x - rng.uniform(-1, 1) * recipe.shift
  y = y - rng.uniform(-1, 1) * recipe.shift
  x, y = fields.rotate(x, y, rng.uniform(-1, 1) * recipe.turn)
  scale = recipe.scale * np.exp(rng.normal(0, 0.02))
  x, y = x / np.float32(scale), y / np.float32(scale)
  if recipe.warp:
    swell = [fields.noise(rng, _SWELL) for _ in range(2)]
    dx, dy = (recipe.warp * fields.sample(s, x, y) for s in swell)
    x, y = x + dx, y + dy
  return x, y


def _copies(recipe, x, y, rng, odd):
  """Maps positions into the frame of the nearest copy of the object."""
  pitch = recipe.pitch
  i = np.floor(y / pitch)
  shift = recipe.offset * (i % 2)
  j = np.floor(x / pitch - shift)
  u, v = x / pitch - shift - j - 0.5, y / pitch - i - 0.5
  t = fields.tables(rng, 4)
  if recipe.disorder:
    u = u - recipe.disorder * (fields.per_cell(t[0], i, j) - 0.5)
    v = v - recipe.disorder * (fields.per_cell(t[1], i, j) - 0.5)
  if recipe.tumble:
    turn = recipe.tumble * (2 * fields.per_cell(t[2], i, j) - 1)
    u, v = fields.rotate(u, v, turn)
  present = fields.per_cell(t[3], i, j) >= recipe.vacancy
  if odd is not None:
    # The cell is the one that the marked pixel falls into.
    n = len(x)
    row, column = (int(np.clip(p + n / 2, 0, n - 1)) for p in (odd.y, odd.x))
    here = (i == i[row, column]) & (j == j[row, column])
    p, q = fields.rotate(u - odd.dx, v - odd.dy, odd.turn)
    size = max(odd.size, 0.01)
    u, v = np.where(here, p / size, u), np.where(here, q / size, v)
    present = present & ~here if odd.size == 0 else present
  return u * pitch, v * pitch, present


def _lay(part, image, ground, x, y, present, light, scale, rng):
  """Puts one part over `image`; returns the image and the part's cover."""
  u, v = fields.rotate(x - part.x, y - part.y, part.angle)
  distance = part.shape(u / part.radius, v / part.radius) * part.radius
  alpha = np.clip(0.5 - distance * scale, 0, 1) * present
  if part.hole:
    rgb = ground * 0.8
  else:
    rgb = cover(part.surface, u, v, light - part.angle, rng)
  if part.bevel:
    width = max(part.radius * 0.3, 2)
    height = np.sqrt(np.clip(-distance / width, 0, 1)) * width * 0.35
    rgb = rgb * (1 + part.bevel * shade(height, light))[..., None]
  a = alpha[..., None]
  return image * (1 - a) + rgb * a, alpha


def render(
  recipe: recipes.Recipe,
  seed: list[int],
  size: int,
  displace=None,
  odd: OddCopy | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Renders one image of a class, before the camera.

  The same seed gives the same scene, whatever is disturbed in it.

  Args:
    recipe: The class.
    seed: What differs from image to image.
    size: Side of the image, in pixels.
    displace: A map of pixel positions `(x, y) -> (x, y)` to bend the scene.
    odd: The copy of the object that differs, for a recipe with many.

  Returns:
    The image `[size, size, 3]`, float32, about [0, 1], and how far objects
    cover it, `[size, size]` in [0, 1].
  """
  pose, light, *rest = (np.random.default_rng([*seed, k]) for k in range(12))
  x, y = _pose(recipe, size, pose, displace)
  image = ground = cover(recipe.background, x, y, recipe.light, rest[0])
  covered = np.zeros((size, size), np.float32)
  if recipe.parts:
    u, v, present = x, y, np.float32(1)
    if recipe.pitch:
      u, v, present = _copies(recipe, x, y, rest[1], odd)
    for k, part in enumerate(recipe.parts):
      image, alpha = _lay(
        part,
        image,
        ground,
        u,
        v,
        present,
        recipe.light,
        recipe.scale,
        rest[2 + k],
      )
      covered = np.maximum(covered, alpha)
  # The light falls off along one direction that differs from image to image.
  angle, depth = light.uniform(0, 2 * np.pi), light.uniform(0, recipe.falloff)
  slope = fields.rotate(*grid(size), angle)[0] / size
  gain = light.uniform(0.9, 1.1) * (1 + depth * slope)
  return image * gain[..., None].astype(np.float32), covered


def expose(
  image: np.ndarray, recipe: recipes.Recipe, rng: np.random.Generator
) -> np.ndarray:
  """Photographs a scene: lens blur, sensor noise, eight bits.

  Args:
    image: From `render`, float32.
    recipe: The class, for its blur and grain.
    rng: The noise.

  Returns:
    `[size, size, 3]`, uint8.
  """
  if recipe.blur:
    image = scipy.ndimage.gaussian_filter(image, (recipe.blur, recipe.blur, 0))
  noise = rng.standard_normal(image.shape, dtype=np.float32) * recipe.grain
  return (np.clip(image + noise, 0, 1) * 255 + 0.5).astype(np.uint8)
