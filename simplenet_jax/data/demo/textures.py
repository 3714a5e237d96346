"""Three textures: a twill fabric, a perforated plate, planed wood."""

import numpy as np

from simplenet_jax.data.demo import canvas
from simplenet_jax.data.demo.canvas import Flaw, Grid, Surface


def _everywhere(grid: Grid) -> np.ndarray:
  return np.maximum(np.abs(grid.x), np.abs(grid.y)) - np.float32(0.5)


def weave(rng: np.random.Generator, grid: Grid, flaw: Flaw) -> Surface:
  """Draws a two-and-two twill of blue warp and light weft threads.

  Args:
    rng: decides pose, colours and irregularities.
    grid: the samples.
    flaw: 'snag' pulls the threads together around a point; else none.
  """
  pitch = rng.uniform(0.043, 0.047)
  x, y = canvas.turn(grid.x, grid.y, rng.normal(0, 0.05))
  x = x + 0.003 * canvas.noise(rng, grid, 5) + rng.uniform(0, 4 * pitch)
  y = y + 0.003 * canvas.noise(rng, grid, 5) + rng.uniform(0, 4 * pitch)
  shade = rng.normal(0, 0.08, (2, 64)).astype(np.float32)
  tone = np.float32(rng.uniform(0.82, 1.08))
  blue = canvas.varied(rng, (0.2, 0.33, 0.53), 0.025) * tone
  light = canvas.varied(rng, (0.78, 0.75, 0.68), 0.02) * tone
  if flaw.kind == 'snag':
    at = flaw.rng.uniform(-0.33, 0.33, 2).astype(np.float32)
    dx, dy = canvas.turn(
      grid.x - at[0], grid.y - at[1], flaw.rng.uniform(0, np.pi)
    )
    reach = flaw.rng.uniform(0.035, 0.05)
    pull = np.exp(-((dx / reach) ** 2) / 2 - (dy / (2 * reach)) ** 2 / 2)
    x = x + 1.6 * pull * dx
    y = y + pitch * pull * float(flaw.rng.choice([-1, 1])) + 0.8 * pull * dy

  u, v = x / pitch, y / pitch
  i, j = np.floor(u), np.floor(v)
  bend = np.float32(np.pi / 2)
  warp = np.sin(bend * (v - 0.5 - i) + bend / 2)
  weft = -np.sin(bend * (j - u + 0.5) + bend / 2)
  warp_top = np.sqrt(np.maximum(1 - (2.05 * (u - i - 0.5)) ** 2, 0))
  weft_top = np.sqrt(np.maximum(1 - (2.05 * (v - j - 0.5)) ** 2, 0))
  warp_height = 0.6 * warp + warp_top
  weft_height = 0.6 * weft + weft_top
  above = canvas.cover(weft_height - warp_height, 0.25)
  height = np.maximum(np.maximum(warp_height, weft_height), -0.2)

  hue = above[..., None] * blue + (1 - above[..., None]) * light
  bank = np.where(above > 0.5, shade[0, i.astype(int)], shade[1, j.astype(int)])
  twist = np.where(above > 0.5, u + 0.5 * v, v + 0.5 * u)
  fibre = 0.08 * np.sin(np.float32(2 * np.pi * 2.5) * twist)
  depth = 0.62 + 0.38 * np.clip(height / 1.3, 0, 1)
  depth = depth * (1 + 0.6 * bank + fibre)
  depth *= 1 + 0.04 * canvas.noise(rng, grid, 90)
  return Surface(
    albedo=(hue * depth[..., None]).astype(np.float32),
    height=(0.2 * pitch * height).astype(np.float32),
    gloss=np.full_like(grid.x, 0.05),
    inside=_everywhere(grid),
  )


def perforated(rng: np.random.Generator, grid: Grid, flaw: Flaw) -> Surface:
  """Draws a brushed steel plate with staggered round holes.

  Args:
    rng: decides pose, finish and tolerances.
    grid: the samples.
    flaw: 'blocked' leaves a hole unpunched, 'torn' joins two neighbours; else
      none.
  """
  pitch = rng.uniform(0.1, 0.106)
  row = pitch * 3**0.5 / 2
  x, y = canvas.turn(grid.x, grid.y, rng.normal(0, 0.03))
  x = x + rng.uniform(0, pitch) + 20 * pitch
  y = y + rng.uniform(0, 2 * row) + 20 * row
  radius = pitch * rng.uniform(0.295, 0.31)
  brushed = canvas.noise(rng, grid, 140, 6) + canvas.noise(rng, grid, 60, 3)
  cloud = canvas.noise(rng, grid, 4)
  steel = canvas.varied(rng, (0.66, 0.67, 0.68), 0.006)
  steel += np.float32(rng.normal(0, 0.02))
  behind = rng.uniform(0.1, 0.18)

  def nearest(shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Every second row is offset by half a pitch: two rectangular lattices.
    k = np.round((y - shift * row) / (2 * row)) * 2 + shift
    m = np.round(x / pitch - shift / 2) + shift / 2
    return np.hypot(x - m * pitch, y - k * row), m, k

  even, odd = nearest(0), nearest(1)
  first = even[0] < odd[0]
  centre, m, k = (np.where(first, a, b) for a, b in zip(even, odd, strict=True))
  distance = centre - radius
  if flaw.kind in ('blocked', 'torn'):
    at = flaw.rng.uniform(-0.32, 0.32, 2)
    n = len(grid.x)
    spot = tuple(((at + 0.5) * n).astype(int)[::-1])
    here = (m == float(m[spot])) & (k == float(k[spot]))
    if flaw.kind == 'blocked':
      distance = np.where(here, radius, distance)
    elif flaw.kind == 'torn':
      hx, hy = x - float(m[spot]) * pitch, y - float(k[spot]) * row
      hx, hy = canvas.turn(hx, hy, float(flaw.rng.integers(6)) * np.pi / 3)
      wave = 0.1 * radius * canvas.noise(flaw.rng, grid, 40)
      slot = canvas.box(hx - pitch / 2, hy, pitch, 2 * radius, 0.3 * radius)
      distance = np.minimum(distance, slot + wave)

  hole = canvas.cover(distance, 2 * grid.step)
  rim = np.clip(distance / (0.14 * pitch), -1, 1)
  finish = 1 + 0.035 * brushed + 0.02 * cloud
  # The plate's thickness shows on the lower right wall of each hole.
  depth = np.clip(-distance / radius, 0, 1)
  glow = behind * (1 + 0.8 * (1 - depth))
  albedo = steel * finish[..., None]
  albedo = albedo + (glow[..., None] - albedo) * hole[..., None]
  return Surface(
    albedo=albedo.astype(np.float32),
    height=(0.02 * pitch * np.sin(rim * np.pi / 2) * 4).astype(np.float32),
    gloss=(0.5 * (1 - hole)).astype(np.float32),
    inside=_everywhere(grid),
  )


def wood(rng: np.random.Generator, grid: Grid, flaw: Flaw) -> Surface:
  """Draws planed wood: growth rings, rays and pores along the grain.

  Args:
    rng: decides the board.
    grid: the samples.
    flaw: 'knot' turns the grain around a branch; else none.
  """
  x, y = canvas.turn(grid.x, grid.y, rng.normal(0, 0.04))
  sway = 0.012 * canvas.noise(rng, grid, 5, 3)
  sway += 0.004 * canvas.noise(rng, grid, 14, 4)
  rings = rng.uniform(10, 12.5)
  drift = 0.35 * canvas.noise(rng, grid, 5, 2)
  depth = (y + sway) * rings + drift + rng.uniform(0, 1)
  grain = canvas.noise(rng, grid, 150, 7)
  pores = canvas.noise(rng, grid, 170, 22)
  tone = np.float32(rng.uniform(0.72, 1.08))
  early = canvas.varied(rng, (0.82, 0.63, 0.44), 0.015) * tone
  late = canvas.varied(rng, (0.46, 0.28, 0.16), 0.015) * tone
  knot = np.zeros_like(x)
  if flaw.kind == 'knot':
    at = flaw.rng.uniform(-0.34, 0.34, 2).astype(np.float32)
    radius = flaw.rng.uniform(0.032, 0.048)
    far = np.hypot((grid.x - at[0]) / 1.35, grid.y - at[1])
    far = far * (1 + 0.07 * canvas.noise(flaw.rng, grid, 12))
    knot = canvas.cover(far - radius, 0.35 * radius)
    bulge = np.exp(-((far / radius) ** 2) / 5)
    depth = depth + bulge * np.tanh((grid.y - at[1]) / (0.7 * radius))
    depth = depth + (far * 65 - depth) * knot

  cycle = depth - np.floor(depth)
  band = cycle**2.2 * canvas.cover(cycle - 0.97, 0.08)
  mixture = np.clip(0.85 * band + 0.06 * grain, 0, 1)[..., None]
  albedo = early + (late - early) * mixture
  pore = canvas.cover(1.5 - pores, 0.8) * (0.45 + 0.5 * band)
  albedo = albedo * (1 - 0.28 * pore[..., None])
  albedo = albedo * (
    1 - knot[..., None] * np.array([0.38, 0.46, 0.5], np.float32)
  )
  return Surface(
    albedo=albedo.astype(np.float32),
    height=(-0.0006 * pore + 0.0004 * grain).astype(np.float32),
    gloss=np.full_like(x, 0.12),
    inside=_everywhere(grid),
  )
