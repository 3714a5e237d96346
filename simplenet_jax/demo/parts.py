"""Six parts: a fabric, a plate, wood; a gasket, a capsule, a connector.

A function draws its part, with the flaws that it names; `odd` shapes them.
"""

from collections.abc import Callable

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from simplenet_jax.demo import drawing as c
from simplenet_jax.demo.drawing import Array, Grid, Rng, Surface

Rgb = tuple[float, float, float]


def weave(rng: Rng, grid: Grid, kind: str, odd: Rng) -> Surface:
  """Draws a twill of blue warp, light weft; a 'snag' pulls threads together."""
  pitch = rng.uniform(0.043, 0.047)
  x, y = c.turn(grid.x, grid.y, rng.normal(0, 0.05))
  x = x + 0.003 * grid.noise(rng, 5) + rng.uniform(0, 4 * pitch)
  y = y + 0.003 * grid.noise(rng, 5) + rng.uniform(0, 4 * pitch)
  shade = rng.normal(0, 0.08, (2, 64)).astype(np.float32)
  tone = np.float32(rng.uniform(0.82, 1.08))
  blue = c.varied(rng, (0.2, 0.33, 0.53), 0.025) * tone
  light = c.varied(rng, (0.78, 0.75, 0.68), 0.02) * tone
  if kind == 'snag':
    dx, dy = grid.turned(odd, odd.uniform(-0.33, 0.33, 2).astype(np.float32))
    reach = odd.uniform(0.035, 0.05)
    pull = np.exp(-((dx / reach) ** 2) / 2 - (dy / (2 * reach)) ** 2 / 2)
    x = x + 1.6 * pull * dx
    y = y + pitch * pull * float(odd.choice([-1, 1])) + 0.8 * pull * dy

  u, v = x / pitch, y / pitch
  i, j = np.floor(u), np.floor(v)
  bend = np.float32(np.pi / 2)
  warp = 0.6 * np.sin(bend * (v - 0.5 - i) + bend / 2)
  weft = 0.6 * -np.sin(bend * (j - u + 0.5) + bend / 2)
  warp = warp + np.sqrt(np.maximum(1 - (2.05 * (u - i - 0.5)) ** 2, 0))
  weft = weft + np.sqrt(np.maximum(1 - (2.05 * (v - j - 0.5)) ** 2, 0))
  above = c.cover(weft - warp, 0.25)
  height = np.maximum(np.maximum(warp, weft), -0.2)
  hue = above[..., None] * blue + (1 - above[..., None]) * light
  bank = np.where(above > 0.5, shade[0, i.astype(int)], shade[1, j.astype(int)])
  twist = np.where(above > 0.5, u + 0.5 * v, v + 0.5 * u)
  fibre = 0.08 * np.sin(np.float32(2 * np.pi * 2.5) * twist)
  depth = 0.62 + 0.38 * np.clip(height / 1.3, 0, 1)
  depth = depth * (1 + 0.6 * bank + fibre)
  depth *= 1 + 0.04 * grid.noise(rng, 90)
  albedo, gloss = hue * depth[..., None], np.full_like(x, 0.05)
  return Surface(albedo, 0.2 * pitch * height, gloss, grid.inside)


def perforated(rng: Rng, grid: Grid, kind: str, odd: Rng) -> Surface:
  """Draws brushed steel with holes, one 'blocked', or two 'torn' into one."""
  pitch = rng.uniform(0.1, 0.106)
  row = pitch * 3**0.5 / 2
  x, y = c.turn(grid.x, grid.y, rng.normal(0, 0.03))
  x = x + rng.uniform(0, pitch) + 20 * pitch
  y = y + rng.uniform(0, 2 * row) + 20 * row
  radius = pitch * rng.uniform(0.295, 0.31)
  brushed = grid.noise(rng, 140, 6) + grid.noise(rng, 60, 3)
  cloud = grid.noise(rng, 4)
  steel = c.varied(rng, (0.66, 0.67, 0.68), 0.006)
  steel += np.float32(rng.normal(0, 0.02))
  behind = rng.uniform(0.1, 0.18)

  # Every second row is offset by half a pitch: two rectangular lattices.
  centre, m, k = (np.full_like(x, np.inf) for _ in range(3))
  for shift in (1, 0):
    its_k = np.round((y - shift * row) / (2 * row)) * 2 + shift
    its_m = np.round(x / pitch - shift / 2) + shift / 2
    its_centre = np.hypot(x - its_m * pitch, y - its_k * row)
    nearer = its_centre < centre
    centre = np.where(nearer, its_centre, centre)
    m, k = np.where(nearer, its_m, m), np.where(nearer, its_k, k)
  distance = centre - radius
  if kind in ('blocked', 'torn'):
    at = odd.uniform(-0.32, 0.32, 2)
    spot = tuple(((at + 0.5) * len(grid.x)).astype(int)[::-1])
    if kind == 'blocked':
      here = (m == float(m[spot])) & (k == float(k[spot]))
      distance = np.where(here, radius, distance)
    else:
      hx, hy = x - float(m[spot]) * pitch, y - float(k[spot]) * row
      hx, hy = c.turn(hx, hy, float(odd.integers(6)) * np.pi / 3)
      wave = 0.1 * radius * grid.noise(odd, 40)
      slot = c.box(hx - pitch / 2, hy, pitch, 2 * radius, 0.3 * radius)
      distance = np.minimum(distance, slot + wave)

  hole = c.cover(distance, 2 * grid.step)
  rim = np.clip(distance / (0.14 * pitch), -1, 1)
  finish = 1 + 0.035 * brushed + 0.02 * cloud
  # The plate's thickness shows on the lower right wall of each hole.
  glow = behind * (1 + 0.8 * (1 - np.clip(-distance / radius, 0, 1)))
  albedo = steel * finish[..., None]
  albedo = albedo + (glow[..., None] - albedo) * hole[..., None]
  height = 0.02 * pitch * np.sin(rim * np.pi / 2) * 4
  return Surface(albedo, height, 0.5 * (1 - hole), grid.inside)


def wood(rng: Rng, grid: Grid, kind: str, odd: Rng) -> Surface:
  """Draws rings, rays and pores of planed wood; a 'knot' turns the grain."""
  y = c.turn(grid.x, grid.y, rng.normal(0, 0.04))[1]
  sway = 0.012 * grid.noise(rng, 5, 3)
  sway += 0.004 * grid.noise(rng, 14, 4)
  rings = rng.uniform(10, 12.5)
  drift = 0.35 * grid.noise(rng, 5, 2)
  depth = (y + sway) * rings + drift + rng.uniform(0, 1)
  grain, pores = grid.noise(rng, 150, 7), grid.noise(rng, 170, 22)
  tone = np.float32(rng.uniform(0.72, 1.08))
  early = c.varied(rng, (0.82, 0.63, 0.44), 0.015) * tone
  late = c.varied(rng, (0.46, 0.28, 0.16), 0.015) * tone
  knot = np.zeros_like(y)
  if kind == 'knot':
    at = odd.uniform(-0.34, 0.34, 2).astype(np.float32)
    radius = odd.uniform(0.032, 0.048)
    far = np.hypot((grid.x - at[0]) / 1.35, grid.y - at[1])
    far = far * (1 + 0.07 * grid.noise(odd, 12))
    knot = c.cover(far - radius, 0.35 * radius)
    bulge = np.exp(-((far / radius) ** 2) / 5)
    depth = depth + bulge * np.tanh((grid.y - at[1]) / (0.7 * radius))
    depth = depth + (far * 65 - depth) * knot

  cycle = depth - np.floor(depth)
  band = cycle**2.2 * c.cover(cycle - 0.97, 0.08)
  mixture = np.clip(0.85 * band + 0.06 * grain, 0, 1)[..., None]
  albedo = early + (late - early) * mixture
  pore = c.cover(1.5 - pores, 0.8) * (0.45 + 0.5 * band)
  albedo = albedo * (1 - 0.28 * pore[..., None])
  dark = np.array([0.38, 0.46, 0.5], np.float32)
  albedo = albedo * (1 - knot[..., None] * dark)
  height, gloss = -0.0006 * pore + 0.0004 * grain, np.full_like(y, 0.12)
  return Surface(albedo, height, gloss, grid.inside)


def _posed(
  rng: Rng, grid: Grid, spread: float, angle: Callable[[], float], tone: Rgb
) -> tuple[Array, Array, Array]:
  """Returns a moved, turned, scaled part's coordinates; a matt table below."""
  x, y = grid.x - rng.normal(0, spread), grid.y - rng.normal(0, spread)
  x, y = c.turn(x, y, angle())
  scale = rng.uniform(0.95, 1.04)
  colour = c.varied(rng, tone, 0.008) * np.float32(rng.normal(1, 0.06))
  mottle = 1 + 0.012 * grid.fractal(rng, 20)
  return x / scale, y / scale, colour * mottle[..., None]


def gasket(rng: Rng, grid: Grid, kind: str, odd: Rng) -> Surface:
  """Draws a fibre gasket, a bolt hole 'unpunched' or the rim 'torn'."""
  angle, tone = lambda: rng.uniform(-0.2, 0.2), (0.78, 0.79, 0.8)
  x, y, table = _posed(rng, grid, 0.014, angle, tone)
  speckle, cloud = grid.noise(rng, 150), grid.fractal(rng, 8)
  colour = c.varied(rng, (0.17, 0.4, 0.34), 0.025)

  centre = np.hypot(x, y)
  bolts = [(0.265 * a, 0.265 * b) for a in (-1, 1) for b in (-1, 1)]
  ears = [np.hypot(x - a, y - b) for a, b in bolts]
  # The disc and the ears are joined by a fillet.
  disc, lobe = centre - 0.33, np.minimum.reduce(ears) - 0.085
  fillet = np.maximum(0.06 - np.abs(disc - lobe), 0) / 0.06
  body = np.minimum(disc, lobe) - fillet * fillet * 0.06 / 4
  unpunched = int(odd.integers(4)) if kind == 'unpunched' else -1
  holes = [e - 0.037 for i, e in enumerate(ears) if i != unpunched]
  holes.append(centre - 0.19)
  if kind == 'torn':
    angle = odd.integers(4) * np.pi / 2 + odd.uniform(-0.3, 0.3)
    at = 0.325 * np.cos(angle), 0.325 * np.sin(angle)
    ragged = 0.008 * grid.noise(odd, 26)
    bite = np.hypot(x - float(at[0]), y - float(at[1]))
    holes.append(bite - odd.uniform(0.06, 0.08) + ragged)
  shape = np.maximum(body, -np.minimum.reduce(holes))

  fibre = 1 + 0.07 * speckle + 0.03 * cloud
  if unpunched >= 0:  # Pressed fibre is darker.
    fibre *= 1 - 0.4 * c.cover(ears[unpunched] - 0.037, 0.01)
  part = c.cover(shape, 2 * grid.step)
  albedo = table * c.shadow(shape, 0.012, 0.5)
  albedo += (colour * fibre[..., None] - albedo) * part[..., None]
  bead = np.exp(-(((centre - 0.225) / 0.009) ** 2))
  edge = np.clip(-shape / 0.012, 0, 1)
  height = 0.008 * np.sqrt(edge) + 0.004 * bead * (shape < 0)
  return Surface(albedo, height + 0.00035 * speckle * edge, 0.25 * part, shape)


def _stamped(x: Array, y: Array) -> Array:
  """Returns the ink of the capsule's number, in units of its height, [n, n]."""
  stamp = PIL.Image.new('L', (512, 128))
  font = PIL.ImageFont.load_default(size=112)
  PIL.ImageDraw.Draw(stamp).text((256, 64), 'S40', 255, font, anchor='mm')
  row = np.clip(y * 128 + 64, 0, 127).astype(int)
  column = np.clip(x * 128 + 256, 0, 511).astype(int)
  return np.asarray(stamp, np.float32)[row, column] / 255


def capsule(rng: Rng, grid: Grid, kind: str, odd: Rng) -> Surface:
  """Draws a capsule with a number, a 'misprint', or 'squeezed' out of shape."""
  angle = lambda: float(rng.integers(2)) * np.pi + rng.normal(0, 0.07)  # noqa: E731
  # It may lie either way round.
  x, y, table = _posed(rng, grid, 0.014, angle, (0.72, 0.75, 0.79))
  red = c.varied(rng, (0.55, 0.08, 0.12), 0.02)
  cream = c.varied(rng, (0.9, 0.85, 0.74), 0.015)
  seam, roll = 0.02 + rng.normal(0, 0.006), rng.normal(0, 0.008)
  cloud = grid.fractal(rng, 6)
  if kind == 'squeezed':
    side = float(odd.choice([-1, 1]))
    at = odd.uniform(-0.2, 0.2)
    push = np.exp(-(((x - at) / odd.uniform(0.03, 0.05)) ** 2))
    y = y + side * 0.055 * push * np.clip(side * y / 0.12, 0, 1.5)

  radius = np.where(x < seam, 0.145, 0.137).astype(np.float32)
  axis = np.hypot(np.maximum(np.abs(x) - 0.22, 0), y)
  shape = axis - radius
  height = np.sqrt(np.maximum(radius**2 - axis**2, 0))
  cap = c.cover(x - seam, 2 * grid.step)[..., None]
  colour = cream + (red - cream) * cap
  colour = colour * (1 + 0.012 * cloud[..., None])
  # The edge of a rounded body turns away from the light: a darker rim.
  colour = colour * (0.72 + 0.28 * np.sqrt(height / 0.145))[..., None]
  around = np.arcsin(np.clip(y / radius, -1, 1)) * radius - roll
  u, v = (x + 0.13) / 0.115, around / 0.115
  smear = 0.0
  if kind == 'misprint':
    u, v = c.turn(u, v, odd.uniform(-0.5, 0.5))
    v = v + float(odd.choice([-1, 1])) * odd.uniform(0.3, 0.5)
    smear = 0.7 * _stamped(u + 0.18, v)
  ink = 0.85 * np.maximum(_stamped(u, v), smear)[..., None]
  colour = colour * (1 - ink) + np.array([0.9, 0.88, 0.82], np.float32) * ink
  part = c.cover(shape, 2 * grid.step)
  albedo = table * c.shadow(shape, 0.03, 0.55, drop=0.018)
  albedo += (colour - albedo) * part[..., None]
  return Surface(albedo, 0.55 * height, 0.9 * part, shape + 0.02)


_PINS, _PITCH = 7, 0.105


def _pin(x: Array, y: Array, length: float) -> tuple[Array, Array]:
  """Returns the distance to a pin about x = 0 and its relief, [n, n] each."""
  y = y - (0.03 + length / 2)
  taper = 0.012 * np.clip((y - length / 2 + 0.05) / 0.05, 0, 1)
  distance = c.box(x, y, 0.036, length, 0.004) + taper
  relief = np.sqrt(np.maximum(1 - (x / 0.018) ** 2, 0)) * (distance < 0)
  return distance, relief


def connector(rng: Rng, grid: Grid, kind: str, odd: Rng) -> Surface:
  """Draws a plastic housing with seven gold pins, one 'bent' or the like."""
  angle, tone = lambda: rng.normal(0, 0.04), (0.27, 0.33, 0.4)
  x, y, table = _posed(rng, grid, 0.012, angle, tone)
  plastic = c.varied(rng, (0.83, 0.82, 0.77), 0.012)
  gold = c.varied(rng, (0.85, 0.66, 0.3), 0.015)
  grain, cloud = grid.noise(rng, 120), grid.fractal(rng, 6)
  sway = rng.normal(0, 0.008, _PINS).astype(np.float32)

  # Each sample looks at the pin nearest to it, so all are drawn at once.
  i = np.clip(np.round(x / _PITCH + _PINS // 2), 0, _PINS - 1).astype(int)
  px = x - (i - _PINS // 2).astype(np.float32) * _PITCH - sway[i] * y
  pins, ridge = _pin(px, y, 0.36)
  if kind in ('bent', 'missing', 'short'):
    bad = int(odd.integers(_PINS))
    px = x - (bad - _PINS // 2) * _PITCH - float(sway[bad]) * y
    pins, ridge = np.where(i == bad, 1, pins), np.where(i == bad, 0, ridge)
    length = odd.uniform(0.12, 0.22) if kind == 'short' else 0.36
    if kind == 'bent':
      below = np.maximum(y - odd.uniform(0.04, 0.12), 0)
      px = px + float(odd.choice([-0.4, -0.3, 0.3, 0.4])) * below
    if kind != 'missing':
      other, its_ridge = _pin(px, y, length)
      pins, ridge = np.minimum(pins, other), np.maximum(ridge, its_ridge)

  housing = c.box(x, y + 0.145, 0.8, 0.33, 0.025)
  latch = c.box(x, y + 0.225, 0.26, 0.11, 0.015)
  at = (-0.31, -0.22, 0.22, 0.31)
  ribs = [c.box(x - s, y + 0.145, 0.035, 0.25, 0.012) for s in at]
  metal, body = c.cover(pins, 2 * grid.step), c.cover(housing, 2 * grid.step)
  albedo = table * (c.shadow(pins, 0.012, 0.45) * c.shadow(housing, 0.02, 0.5))
  albedo += (gold - albedo) * metal[..., None]
  finish = 1 + 0.012 * grain + 0.01 * cloud
  finish = finish * (1 - 0.35 * np.exp(-np.abs(latch) / 0.006))
  albedo += (plastic * finish[..., None] - albedo) * body[..., None]
  height = 0.012 * ridge * (1 - body)
  height += 0.02 * np.sqrt(np.clip(-housing / 0.02, 0, 1))
  height += 0.01 * np.sqrt(np.clip(-np.minimum.reduce(ribs) / 0.01, 0, 1))
  height += 0.012 * np.sqrt(np.clip(-latch / 0.012, 0, 1))
  gloss = 0.8 * metal + (0.35 - 0.8 * metal) * body
  return Surface(albedo, height, gloss, housing)
