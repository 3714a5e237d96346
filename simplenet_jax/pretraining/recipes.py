"""Recipes of scenes: surfaces, objects on them, and how they are arranged.

A recipe is what the images of one class have in common. `draw` invents one;
`vary` makes a close relative, so that classes can also differ in one detail.
"""

import dataclasses

import numpy as np

from simplenet_jax.pretraining import shapes, textures


@dataclasses.dataclass(frozen=True)
class Surface:
  """A coloured texture.

  Attributes:
    texture: Its field.
    palette: Colours `[256, 3]` in [0, 1], float32, that the field runs through.
    relief: Strength of the shading when the field is lit as a height.
  """

  texture: textures.Texture
  palette: np.ndarray
  relief: float


@dataclasses.dataclass(frozen=True)
class Part:
  """One piece of an object.

  Attributes:
    shape: Its outline.
    x: Position of its centre in the object, in pixels.
    y: Likewise.
    angle: In radians.
    radius: In pixels.
    surface: What covers it.
    bevel: Strength of the shading of its rim, negative if sunk.
    hole: Whether the background shows through instead.
  """

  shape: shapes.Shape
  x: float
  y: float
  angle: float
  radius: float
  surface: Surface
  bevel: float
  hole: bool = False


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What the images of one class share.

  Attributes:
    background: The ground.
    parts: The object's pieces, from the lowest; none for a bare texture.
    pitch: Distance between copies of the object in pixels, 0 for one copy.
    offset: Shift of every second row of copies, in pitches.
    disorder: Random shift of each copy, in pitches.
    tumble: Largest random turn of each copy, in radians.
    vacancy: Share of copies left out.
    scale: Magnification.
    turn: Largest random rotation of the image, in radians.
    shift: Largest random shift of the image, in pixels.
    warp: Amplitude of a smooth random warp, in pixels.
    light: Direction of the light, in radians.
    falloff: Largest unevenness of the light.
    blur: Standard deviation of the lens blur, in pixels.
    grain: Standard deviation of the sensor's noise, in [0, 1].
  """

  background: Surface
  parts: tuple[Part, ...]
  pitch: float
  offset: float
  disorder: float
  tumble: float
  vacancy: float
  scale: float
  turn: float
  shift: float
  warp: float
  light: float
  falloff: float
  blur: float
  grain: float


def draw_palette(rng: np.random.Generator) -> np.ndarray:
  """Draws a run of colours `[256, 3]` in [0, 1], float32."""
  count = int(rng.integers(2, 5))
  values = rng.uniform(0.05, 0.98, count)
  while np.ptp(values) < 0.2:
    values = rng.uniform(0.05, 0.98, count)
  if rng.random() < 0.6:
    values = np.sort(values)
  chroma = rng.choice([0, 0.15, 0.5])
  hue = rng.dirichlet(np.ones(3)) - 1 / 3
  hues = hue + rng.choice([0.1, 0.6]) * (
    rng.dirichlet(np.ones(3), count) - 1 / 3
  )
  colours = np.clip(values[:, None] * (1 + 3 * chroma * hues), 0, 1)
  at, knots = np.linspace(0, 1, 256), np.linspace(0, 1, count)
  columns = [np.interp(at, knots, colours[:, c]) for c in range(3)]
  return np.stack(columns, 1).astype(np.float32)


def draw_surface(rng: np.random.Generator, plain: float) -> Surface:
  """Draws a surface, an almost even one with probability `plain`."""
  make = textures.draw_plain if rng.random() < plain else textures.draw
  relief = rng.choice([0, 0, rng.uniform(0.3, 2.5)])
  return Surface(make(rng), draw_palette(rng), float(relief))


def _draw_part(rng: np.random.Generator, reach: float, first: bool) -> Part:
  distance = 0 if first else rng.choice([0, rng.uniform(0, 0.75)]) * reach
  angle = rng.uniform(0, 2 * np.pi)
  return Part(
    shape=shapes.draw(rng),
    x=float(distance * np.cos(angle)),
    y=float(distance * np.sin(angle)),
    angle=rng.uniform(0, 2 * np.pi),
    radius=reach * rng.uniform(0.75, 1)
    if first
    else max(reach * rng.uniform(0.12, 0.5), 3),
    surface=draw_surface(rng, plain=0.5),
    bevel=float(rng.choice([0, 1, 1]) * rng.normal(0, 0.5)),
    hole=not first and rng.random() < 0.15,
  )


def _draw_object(rng: np.random.Generator, reach: float) -> tuple[Part, ...]:
  """Draws an object that fits a circle of radius `reach` (pixels)."""
  parts = [_draw_part(rng, reach, first=True)]
  for _ in range(rng.integers(0, 4 if reach > 20 else 2)):
    part = _draw_part(rng, reach, first=False)
    copies = int(rng.choice([1, 1, 2, 3, 4]))
    for k in range(copies if reach > 20 else 1):
      # Copies of a piece around the centre: holes of a flange, legs, teeth.
      a = 2 * np.pi * k / copies
      c, s = np.cos(a), np.sin(a)
      x, y = c * part.x - s * part.y, s * part.x + c * part.y
      parts.append(dataclasses.replace(part, x=x, y=y, angle=part.angle + a))
  return tuple(parts[:7])


def draw(rng: np.random.Generator) -> Recipe:
  """Draws a recipe: a bare texture, one object, or a field of objects."""
  kind = rng.choice(['texture', 'object', 'field'], p=[0.45, 0.33, 0.22])
  pitch, parts = 0.0, ()
  if kind == 'object':
    parts = _draw_object(rng, rng.uniform(26, 52))
  elif kind == 'field':
    pitch = float(np.exp(rng.uniform(np.log(14), np.log(56))))
    parts = _draw_object(rng, pitch * rng.uniform(0.3, 0.48))
  fixed = kind == 'object' and rng.random() < 0.7
  return Recipe(
    background=draw_surface(rng, plain=0.6 if parts else 0.03),
    parts=parts,
    pitch=pitch,
    offset=float(rng.choice([0, 0.5])),
    disorder=float(rng.choice([0, 0.05, 0.3])),
    tumble=float(rng.choice([0, 0, 0.3, np.pi])),
    vacancy=float(rng.choice([0, 0, 0.4])),
    scale=float(np.exp(rng.normal(0, 0.15))),
    turn=float(rng.choice([0.02, 0.1] if fixed else [0.03, 0.2, np.pi])),
    shift=3.0 if fixed else 12.0,
    warp=float(rng.choice([0, 0, 1, 3])),
    light=rng.uniform(0, 2 * np.pi),
    falloff=float(rng.choice([0.05, 0.2, 0.4])),
    blur=float(rng.choice([0, 0.4, 0.7, 1.1])),
    grain=float(rng.choice([0.004, 0.012, 0.03])),
  )


def _vary_part(recipe: Recipe, rng: np.random.Generator) -> Recipe:
  parts = list(recipe.parts)
  k = int(rng.integers(len(parts)))
  fresh = _draw_part(rng, parts[k].radius, first=True)
  change = rng.choice(['shape', 'surface', 'radius', 'angle', 'drop'])
  if change == 'drop' and len(parts) > 1:
    del parts[k]
  elif change == 'radius':
    parts[k] = dataclasses.replace(
      parts[k], radius=parts[k].radius * rng.choice([0.75, 1.3])
    )
  else:
    field = 'shape' if change == 'drop' else change
    parts[k] = dataclasses.replace(parts[k], **{field: getattr(fresh, field)})
  return dataclasses.replace(recipe, parts=tuple(parts))


def vary(recipe: Recipe, rng: np.random.Generator) -> Recipe:
  """Returns a relative of `recipe` that differs from it in one trait."""
  traits = ['scale', 'palette', 'relief', 'texture', 'blur']
  traits += ['part', 'part', 'part'] if recipe.parts else []
  traits += ['disorder', 'pitch', 'tumble'] if recipe.pitch else []
  trait = rng.choice(traits)
  ground = recipe.background
  fresh = draw_surface(rng, plain=0.2)
  if trait == 'part':
    return _vary_part(recipe, rng)
  if trait in ('palette', 'relief', 'texture'):
    value = {
      'palette': fresh.palette,
      'relief': 0.0 if ground.relief else 1.2,
      'texture': fresh.texture,
    }[trait]
    ground = dataclasses.replace(ground, **{trait: value})
    return dataclasses.replace(recipe, background=ground)
  value = {
    'scale': recipe.scale * rng.choice([0.75, 1.3]),
    'blur': 0.0 if recipe.blur > 0.5 else 1.4,
    'disorder': 0.0 if recipe.disorder > 0.1 else 0.35,
    'pitch': recipe.pitch * rng.choice([1.2, 1.5]),
    'tumble': 0.0 if recipe.tumble > 0.5 else 1.5,
  }[trait]
  return dataclasses.replace(recipe, **{trait: float(value)})
