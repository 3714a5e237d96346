"""Three objects: a flange gasket, a printed capsule, a pin connector."""

import functools

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from simplenet_jax.data.demo import canvas
from simplenet_jax.data.demo.canvas import Flaw, Grid, Surface


def _table(
  rng: np.random.Generator, grid: Grid, tone: tuple[float, float, float]
) -> np.ndarray:
  """Returns a plain matt background, [n, n, 3]."""
  colour = canvas.varied(rng, tone, 0.008) * np.float32(rng.normal(1, 0.06))
  mottle = 1 + 0.012 * canvas.fractal(rng, grid, 20, 3)
  return colour * mottle[..., None]


def gasket(rng: np.random.Generator, grid: Grid, flaw: Flaw) -> Surface:
  """Draws a green fibre gasket with a bore and four bolt holes.

  Args:
    rng: decides pose, colours and irregularities.
    grid: the samples.
    flaw: 'unpunched' marks a bolt hole without cutting it, 'torn' takes a
      piece off the rim; else none.
  """
  x, y = grid.x - rng.normal(0, 0.014), grid.y - rng.normal(0, 0.014)
  x, y = canvas.turn(x, y, rng.uniform(-0.2, 0.2))
  scale = rng.uniform(0.95, 1.04)
  x, y = x / scale, y / scale
  table = _table(rng, grid, (0.78, 0.79, 0.8))
  speckle = canvas.noise(rng, grid, 150)
  cloud = canvas.fractal(rng, grid, 8, 3)
  colour = canvas.varied(rng, (0.17, 0.4, 0.34), 0.025)

  centre = np.hypot(x, y)
  bolts = [(0.265 * a, 0.265 * b) for a in (-1, 1) for b in (-1, 1)]
  ears = [np.hypot(x - a, y - b) for a, b in bolts]
  lobe = np.minimum.reduce(ears) - 0.085
  body = _blend(centre - 0.33, lobe, 0.06)
  unpunched = int(flaw.rng.integers(4)) if flaw.kind == 'unpunched' else -1
  holes = [e - 0.037 for i, e in enumerate(ears) if i != unpunched]
  holes.append(centre - 0.19)
  if flaw.kind == 'torn':
    angle = flaw.rng.integers(4) * np.pi / 2 + flaw.rng.uniform(-0.3, 0.3)
    at = 0.325 * np.cos(angle), 0.325 * np.sin(angle)
    ragged = 0.008 * canvas.noise(flaw.rng, grid, 26)
    bite = np.hypot(x - float(at[0]), y - float(at[1]))
    holes.append(bite - flaw.rng.uniform(0.06, 0.08) + ragged)
  shape = np.maximum(body, -np.minimum.reduce(holes))

  albedo = table * canvas.shadow(shape, 0.012, 0.5)
  fibre = 1 + 0.07 * speckle + 0.03 * cloud
  if unpunched >= 0:  # Pressed fibre is darker.
    fibre *= 1 - 0.4 * canvas.cover(ears[unpunched] - 0.037, 0.01)
  part = canvas.cover(shape, 2 * grid.step)[..., None]
  albedo += (colour * fibre[..., None] - albedo) * part
  bead = np.exp(-(((centre - 0.225) / 0.009) ** 2))
  edge = np.clip(-shape / 0.012, 0, 1)
  height = 0.008 * np.sqrt(edge) + 0.004 * bead * (shape < 0)
  return Surface(
    albedo=albedo.astype(np.float32),
    height=(height + 0.00035 * speckle * edge).astype(np.float32),
    gloss=(0.25 * part[..., 0]).astype(np.float32),
    inside=shape.astype(np.float32),
  )


def _blend(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
  """Returns the union of two distances with a fillet between them."""
  h = np.maximum(radius - np.abs(a - b), 0) / radius
  return np.minimum(a, b) - h * h * radius / 4


_NUMBER = 'S40'


@functools.cache
def _print(text: str) -> np.ndarray:
  """Returns a stamp's ink, [128, 512] float32 in [0, 1]."""
  stamp = PIL.Image.new('L', (512, 128))
  font = PIL.ImageFont.load_default(size=112)
  PIL.ImageDraw.Draw(stamp).text((256, 64), text, 255, font, anchor='mm')
  return np.asarray(stamp, np.float32) / 255


def _stamped(text: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns a text's ink at (x, y), in units of its height, [n, n]."""
  ink = _print(text)
  column = np.clip(x * 128 + 256, 0, 511).astype(int)
  row = np.clip(y * 128 + 64, 0, 127).astype(int)
  return ink[row, column]


def _ink(x: np.ndarray, y: np.ndarray, flaw: Flaw) -> np.ndarray:
  """Returns the number on the capsule, right or misprinted, [n, n]."""
  if flaw.kind != 'misprint':
    return _stamped(_NUMBER, x, y)
  x, y = canvas.turn(x, y, flaw.rng.uniform(-0.5, 0.5))
  y = y + float(flaw.rng.choice([-1, 1])) * flaw.rng.uniform(0.3, 0.5)
  ghost = 0.7 * _stamped(_NUMBER, x + 0.18, y)
  return np.maximum(_stamped(_NUMBER, x, y), ghost)


def capsule(rng: np.random.Generator, grid: Grid, flaw: Flaw) -> Surface:
  """Draws a two-coloured gelatine capsule with a number printed on it.

  Args:
    rng: decides pose, colours and irregularities.
    grid: the samples.
    flaw: 'misprint' smears and displaces the number, 'squeezed' dents the
      outline; else none.
  """
  x, y = grid.x - rng.normal(0, 0.014), grid.y - rng.normal(0, 0.014)
  # It may lie either way round.
  half_turns = float(rng.integers(2))
  x, y = canvas.turn(x, y, rng.normal(0, 0.07) + half_turns * np.pi)
  scale = rng.uniform(0.95, 1.04)
  x, y = x / scale, y / scale
  table = _table(rng, grid, (0.72, 0.75, 0.79))
  red = canvas.varied(rng, (0.55, 0.08, 0.12), 0.02)
  cream = canvas.varied(rng, (0.9, 0.85, 0.74), 0.015)
  seam = 0.02 + rng.normal(0, 0.006)
  roll = rng.normal(0, 0.008)
  cloud = canvas.fractal(rng, grid, 6, 3)

  if flaw.kind == 'squeezed':
    side = float(flaw.rng.choice([-1, 1]))
    at = flaw.rng.uniform(-0.2, 0.2)
    push = np.exp(-(((x - at) / flaw.rng.uniform(0.03, 0.05)) ** 2))
    y = y + side * 0.055 * push * np.clip(side * y / 0.12, 0, 1.5)
  radius = np.where(x < seam, 0.145, 0.137).astype(np.float32)
  reach = np.maximum(np.abs(x) - 0.22, 0)
  axis = np.hypot(reach, y)
  shape = axis - radius
  height = np.sqrt(np.maximum(radius**2 - axis**2, 0))

  cap = canvas.cover(x - seam, 2 * grid.step)[..., None]
  colour = cream + (red - cream) * cap
  colour = colour * (1 + 0.012 * cloud[..., None])
  # The edge of a rounded body turns away from the light: a darker rim.
  colour = colour * (0.72 + 0.28 * np.sqrt(height / 0.145))[..., None]
  around = np.arcsin(np.clip(y / radius, -1, 1)) * radius - roll
  ink = 0.85 * _ink((x + 0.13) / 0.115, around / 0.115, flaw)[..., None]
  colour = colour * (1 - ink) + np.array([0.9, 0.88, 0.82], np.float32) * ink

  part = canvas.cover(shape, 2 * grid.step)[..., None]
  albedo = table * canvas.shadow(shape, 0.03, 0.55, drop=0.018)
  albedo += (colour - albedo) * part
  return Surface(
    albedo=albedo.astype(np.float32),
    height=(0.55 * height).astype(np.float32),
    gloss=(0.9 * part[..., 0]).astype(np.float32),
    inside=(shape + 0.02).astype(np.float32),
  )


_PINS = 7
_PITCH = 0.105


def _pin(
  x: np.ndarray, y: np.ndarray, length: float
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the distance to a pin about x = 0 and its relief, [n, n] each."""
  y = y - (0.03 + length / 2)
  taper = 0.012 * np.clip((y - length / 2 + 0.05) / 0.05, 0, 1)
  distance = canvas.box(x, y, 0.036, length, 0.004) + taper
  relief = np.sqrt(np.maximum(1 - (x / 0.018) ** 2, 0)) * (distance < 0)
  return distance, relief


def _pins(
  x: np.ndarray, y: np.ndarray, sway: np.ndarray, flaw: Flaw
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the distance to all pins and their relief, [n, n] each."""
  # Each sample looks at the pin nearest to it, so all are drawn at once.
  i = np.clip(np.round(x / _PITCH + _PINS // 2), 0, _PINS - 1).astype(int)
  px = x - (i - _PINS // 2).astype(np.float32) * _PITCH - sway[i] * y
  pins, ridge = _pin(px, y, 0.36)
  if flaw.kind in ('bent', 'missing', 'short'):
    bad = int(flaw.rng.integers(_PINS))
    px = x - (bad - _PINS // 2) * _PITCH - float(sway[bad]) * y
    pins, ridge = np.where(i == bad, 1, pins), np.where(i == bad, 0, ridge)
    length = flaw.rng.uniform(0.12, 0.22) if flaw.kind == 'short' else 0.36
    if flaw.kind == 'bent':
      below = np.maximum(y - flaw.rng.uniform(0.04, 0.12), 0)
      px = px + float(flaw.rng.choice([-0.4, -0.3, 0.3, 0.4])) * below
    if flaw.kind != 'missing':
      odd, odd_ridge = _pin(px, y, length)
      pins, ridge = np.minimum(pins, odd), np.maximum(ridge, odd_ridge)
  return pins, ridge


def connector(rng: np.random.Generator, grid: Grid, flaw: Flaw) -> Surface:
  """Draws a white plastic housing with seven gold pins.

  Args:
    rng: decides pose, colours and irregularities.
    grid: the samples.
    flaw: 'bent' bends a pin sideways, 'missing' leaves one out, 'short' cuts
      one; else none.
  """
  x, y = grid.x - rng.normal(0, 0.012), grid.y - rng.normal(0, 0.012)
  x, y = canvas.turn(x, y, rng.normal(0, 0.04))
  scale = rng.uniform(0.95, 1.04)
  x, y = x / scale, y / scale
  table = _table(rng, grid, (0.27, 0.33, 0.4))
  plastic = canvas.varied(rng, (0.83, 0.82, 0.77), 0.012)
  gold = canvas.varied(rng, (0.85, 0.66, 0.3), 0.015)
  grain = canvas.noise(rng, grid, 120)
  cloud = canvas.fractal(rng, grid, 6, 3)
  sway = rng.normal(0, 0.008, _PINS).astype(np.float32)

  pins, ridge = _pins(x, y, sway, flaw)
  housing = canvas.box(x, y + 0.145, 0.8, 0.33, 0.025)
  latch = canvas.box(x, y + 0.225, 0.26, 0.11, 0.015)
  ribs = np.minimum.reduce(
    [
      canvas.box(x - s, y + 0.145, 0.035, 0.25, 0.012)
      for s in (-0.31, -0.22, 0.22, 0.31)
    ]
  )
  light = canvas.shadow(pins, 0.012, 0.45) * canvas.shadow(housing, 0.02, 0.5)
  albedo = table * light
  metal = canvas.cover(pins, 2 * grid.step)[..., None]
  albedo += (gold - albedo) * metal
  body = canvas.cover(housing, 2 * grid.step)[..., None]
  finish = 1 + 0.012 * grain + 0.01 * cloud
  finish = finish * (1 - 0.35 * np.exp(-np.abs(latch) / 0.006))
  albedo += (plastic * finish[..., None] - albedo) * body
  height = 0.012 * ridge * (1 - body[..., 0])
  height += 0.02 * np.sqrt(np.clip(-housing / 0.02, 0, 1))
  height += 0.01 * np.sqrt(np.clip(-ribs / 0.01, 0, 1))
  height += 0.012 * np.sqrt(np.clip(-latch / 0.012, 0, 1))
  return Surface(
    albedo=albedo.astype(np.float32),
    height=height.astype(np.float32),
    gloss=(0.8 * metal + (0.35 - 0.8 * metal) * body)[..., 0],
    inside=housing.astype(np.float32),
  )
