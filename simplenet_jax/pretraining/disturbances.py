"""Local disturbances: the answers that the dense heads learn to give.

Each kind changes a scene in one place only. `apply` renders the scene again
with one or two of them and tells where the picture changed visibly.
"""

import dataclasses
import itertools

import numpy as np
import scipy.ndimage

from simplenet_jax.pretraining import fields, recipes, scenes, shapes

# The kinds that the dense heads tell apart; 0 is an undisturbed place.
KINDS = (
  'none', 'bent', 'element', 'stain', 'stroke', 'foreign', 'smooth', 'moved',
)  # fmt: skip
BLOCK = 4  # Side of a block of the map of kinds, in pixels.
_VISIBLE = 0.035  # Smallest change that counts, in [0, 1].


def _patch(rng, size, place, low=3.0, high=20.0) -> np.ndarray:
  """Draws a soft-edged region around `place`, `[size, size, 1]` in [0, 1]."""
  radius = np.exp(rng.uniform(np.log(low), np.log(high)))
  x, y = scenes.grid(size)
  x, y = fields.rotate(x - place[0], y - place[1], rng.uniform(0, 2 * np.pi))
  distance = shapes.draw(rng)(x / radius, y / radius) * radius
  feather = rng.choice([1, 1, 3, 6])
  return np.clip(0.5 - distance / feather, 0, 1)[..., None].astype(np.float32)


def _bend(rng, place):
  """Draws a bend of the coordinates near a place: push, twirl, pinch, slip."""
  radius = np.exp(rng.uniform(np.log(5), np.log(18)))
  kind, angle = rng.integers(4), rng.uniform(0, 2 * np.pi)
  strength = rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)

  def displace(x, y):
    u, v = x - place[0], y - place[1]
    near = np.exp(-(((u * u + v * v) / (radius * radius)) ** 2))
    if kind == 0:
      push = near * strength * radius * 0.5
      return x + push * np.cos(angle), y + push * np.sin(angle)
    if kind == 1:
      p, q = fields.rotate(u, v, near * strength * 1.5)
      return place[0] + p, place[1] + q
    if kind == 2:
      factor = 1 - 0.5 * near * strength
      return place[0] + u * factor, place[1] + v * factor
    across = fields.rotate(u, v, angle)[0]
    slip = np.clip(near * 3, 0, 1) * (across > 0) * strength * radius * 0.5
    return x + slip * np.sin(angle), y - slip * np.cos(angle)

  return displace


def _odd_copy(rng, place) -> scenes.OddCopy:
  odd = scenes.OddCopy(*place)
  kind = rng.integers(4)
  if kind == 0:
    return dataclasses.replace(odd, size=0.0)
  if kind == 1:
    return dataclasses.replace(odd, size=float(rng.choice([0.6, 0.75, 1.35])))
  if kind == 2:
    return dataclasses.replace(odd, turn=rng.uniform(0.4, 2 * np.pi - 0.4))
  dx, dy = rng.choice([-1, 1], 2) * rng.uniform(0.1, 0.3, 2)
  return dataclasses.replace(odd, dx=float(dx), dy=float(dy))


def _odd_part(recipe: recipes.Recipe, rng) -> recipes.Recipe:
  """Removes or alters one part of an object."""
  parts = list(recipe.parts)
  k = int(rng.integers(min(1, len(parts) - 1), len(parts)))
  part, kind = parts[k], rng.integers(5)
  if kind == 0 and k > 0:
    del parts[k]
    return dataclasses.replace(recipe, parts=tuple(parts))
  reach = part.radius
  moved = rng.normal(0, 0.35, 2) * min(reach, 14)
  parts[k] = [
    dataclasses.replace(part, radius=reach * rng.choice([0.7, 0.85, 1.25])),
    dataclasses.replace(part, x=part.x + moved[0], y=part.y + moved[1]),
    dataclasses.replace(part, angle=part.angle + rng.uniform(0.3, 3)),
    dataclasses.replace(part, shape=shapes.draw(rng)),
    dataclasses.replace(part, surface=recipes.draw_surface(rng, plain=0.5)),
  ][kind]
  return dataclasses.replace(recipe, parts=tuple(parts))


def _stain(image, rng, place):
  mask = _patch(rng, len(image), place) * rng.uniform(0.25, 1)
  kind = rng.integers(4)
  if kind == 0:
    return image * (1 - mask) + mask * rng.uniform(0, 1, 3).astype(np.float32)
  if kind == 1:
    return image * (1 + mask * rng.choice([-0.6, -0.35, 0.4, 0.8]))
  if kind == 2:
    # A dent or a bump: only its slopes show.
    height = scipy.ndimage.gaussian_filter(mask[..., 0], 1.5)
    slope = scenes.shade(height, rng.uniform(0, 2 * np.pi))
    return image * (1 + rng.uniform(1, 4) * slope)[..., None]
  rim = np.clip(4 * mask * (mask.max() - mask), 0, 1)
  return image * (1 - 0.6 * mask) * (1 - rim) + rim * rng.uniform(0, 1)


def _stroke(image, rng, place):
  """A scratch, a hair, a crack: a polyline, straight, bent or ragged."""
  size = len(image)
  x, y = scenes.grid(size)
  pieces, step = int(rng.integers(1, 8)), rng.uniform(5, 14)
  bend = rng.choice([0, 0.3, 1.0])
  angles = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, pieces))
  steps = step * np.stack([np.cos(angles), np.sin(angles)], 1)
  points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
  points += np.asarray(place) - points.mean(0)
  distance = np.full((size, size), 1e3, np.float32)
  for a, b in itertools.pairwise(points):
    ux, uy = b - a
    t = np.clip(((x - a[0]) * ux + (y - a[1]) * uy) / (step * step), 0, 1)
    d = np.hypot(x - a[0] - t * ux, y - a[1] - t * uy)
    distance = np.minimum(distance, d)
  width = np.exp(rng.uniform(np.log(0.4), np.log(2.5)))
  mask = np.clip(0.5 + width - distance, 0, 1)[..., None]
  mask = (mask * rng.uniform(0.35, 1)).astype(np.float32)
  tone = rng.choice([0.0, 1.0, rng.uniform()])
  image = image * (1 - mask) + mask * np.float32(tone)
  if rng.random() < 0.3:
    # A burr: the far side of a scratch catches the light.
    image = image + 0.5 * np.roll(mask, (1, 1), (0, 1)) * (1 - mask)
  return image


def _foreign(image, rng, place, recipe):
  mask = _patch(rng, len(image), place, low=5)
  surface = recipes.draw_surface(rng, plain=0.1)
  if rng.random() < 0.4:
    surface = dataclasses.replace(surface, palette=recipe.background.palette)
  x, y = scenes.grid(len(image))
  other = scenes.cover(surface, x, y, recipe.light, rng)
  mask = mask * rng.uniform(0.5, 1)
  return image * (1 - mask) + other * mask


def _smooth(image, rng, place):
  """Wears a place off: smears it, fills it, or roughens it."""
  mask = _patch(rng, len(image), place, low=5)
  kind = rng.integers(3)
  if kind == 0:
    sigma = rng.uniform(1, 4, 2) * rng.choice([[1, 1], [0, 2], [2, 0]])
    other = scipy.ndimage.gaussian_filter(image, (*sigma, 0))
  elif kind == 1:
    mean = (image * mask).sum((0, 1)) / max(float(mask.sum()), 1e-3)
    other = np.broadcast_to(mean, image.shape)
  else:
    grain = rng.standard_normal((*image.shape[:2], 1), dtype=np.float32)
    sigma = rng.uniform(0, 1.2)
    grain = scipy.ndimage.gaussian_filter(grain, (sigma, sigma, 0))
    other = image + grain * rng.uniform(0.05, 0.2) * (1 + 2 * sigma)
  return image * (1 - mask) + other * mask


def _moved(image, rng, place):
  """Shows another part of the image, turned or not."""
  mask = _patch(rng, len(image), place, low=4)
  other = np.rot90(image, int(rng.integers(4)))
  if rng.random() < 0.3:
    other = other[::-1]
  shift = rng.integers(5, len(image) - 5, 2)
  other = np.roll(other, tuple(shift), (0, 1))
  return image * (1 - mask) + other * mask


def _place(covered: np.ndarray, rng) -> tuple[float, float]:
  """Chooses a place, more often on an object than beside it."""
  size = len(covered)
  margin = size // 10
  inner = covered[margin:-margin, margin:-margin]
  spots = np.argwhere(inner > 0.5)
  if len(spots) < 30 or rng.random() < 0.2:
    spots = np.argwhere(inner > -1)
  row, column = spots[rng.integers(len(spots))] + margin - size / 2
  return float(column), float(row)


def _disturb(recipe, seed, size, kind, place, rng) -> np.ndarray:
  if kind == 'bent':
    return scenes.render(recipe, seed, size, displace=_bend(rng, place))[0]
  if kind == 'element' and recipe.pitch:
    return scenes.render(recipe, seed, size, odd=_odd_copy(rng, place))[0]
  if kind == 'element' and recipe.parts:
    return scenes.render(_odd_part(recipe, rng), seed, size)[0]
  image = scenes.render(recipe, seed, size)[0]
  if kind == 'foreign':
    return _foreign(image, rng, place, recipe)
  paint = {'stroke': _stroke, 'smooth': _smooth, 'moved': _moved}
  return paint.get(kind, _stain)(image, rng, place)


def apply(
  recipe: recipes.Recipe,
  seed: list[int],
  size: int,
  clean: np.ndarray,
  covered: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Disturbs a scene in one place, or in two.

  Args:
    recipe: The class.
    seed: The scene's seed, as given to `scenes.render`.
    size: Side of the image in pixels, a multiple of `BLOCK`.
    clean: The undisturbed scene, `[size, size, 3]`.
    covered: Where its objects are, `[size, size]`.

  Returns:
    The disturbed scene, `[size, size, 3]`, float32, and the kinds of what
    changed visibly, `[size / BLOCK, size / BLOCK]`, uint8, indices of `KINDS`.
  """
  rng = np.random.default_rng([*seed, 99])
  image, blocks = clean, size // BLOCK
  kinds = np.zeros((blocks, blocks), np.uint8)
  for _ in range(rng.choice([1, 1, 2])):
    choices = (
      KINDS[1:] if recipe.parts else [k for k in KINDS[1:] if k != 'element']
    )
    kind = str(rng.choice(choices))
    place = _place(covered, rng)
    changed = _disturb(recipe, seed, size, kind, place, rng)
    difference = np.clip(changed, 0, 1) - np.clip(clean, 0, 1)
    visible = np.abs(difference).max(-1)
    visible = scipy.ndimage.gaussian_filter(visible, 0.7) > _VISIBLE
    share = visible.reshape(blocks, BLOCK, blocks, BLOCK).mean((1, 3))
    if 0 < (share > 0.2).mean() < 0.4:
      kinds[share > 0.2] = KINDS.index(kind)
      image = image + (changed - clean)
  return image, kinds
