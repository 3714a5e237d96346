"""Random textures that repeat: lattices, weaves, cells.

Each `draw_*` function draws one, as those in `textures` do.
"""

import numpy as np

from simplenet_jax.pretraining import fields
from simplenet_jax.pretraining.fields import Texture, log_uniform


def _lattice(rng: np.random.Generator):
  """Draws a lattice: a map from positions to cells and places in a cell."""
  angle = rng.choice([0, np.pi / 4, rng.uniform(0, np.pi)])
  width = log_uniform(rng, 6, 32)
  height = width * rng.choice([1, 1, 0.866, rng.uniform(0.4, 1)])
  offset = rng.choice([0, 0.5, 1 / 3, rng.uniform()])

  def locate(x, y):
    u, v = fields.rotate(x, y, angle)
    v = v / height
    i = np.floor(v)
    u = u / width + offset * i
    j = np.floor(u)
    return i, j, u - j - 0.5, v - i - 0.5

  return locate


def draw_dots(rng: np.random.Generator) -> Texture:
  """Draws dots, squares or rings on a lattice."""
  locate, radius = _lattice(rng), rng.uniform(0.18, 0.45)
  jitter = rng.choice([0, 0, 0.1, 0.3]) * rng.random()
  power, gain = rng.choice([1, 2, 2, 8]), log_uniform(rng, 3, 25)
  hollow = rng.choice([0, rng.uniform(0.3, 0.7)])
  vary = rng.choice([0, 0, 0.5])

  def render(x, y, rng):
    i, j, u, v = locate(x, y)
    t = fields.tables(rng, 3) - 0.5
    u = u + jitter * fields.per_cell(t[0], i, j)
    v = v + jitter * fields.per_cell(t[1], i, j)
    r = (np.abs(u) ** power + np.abs(v) ** power) ** (1 / power)
    limit = radius * (1 + vary * fields.per_cell(t[2], i, j))
    if hollow:
      r = np.abs(r - limit * (1 + hollow) / 2)
      limit = limit * (1 - hollow) / 2
    return fields.squash(limit - r, gain)

  return render


def draw_tiles(rng: np.random.Generator) -> Texture:
  """Draws tiles with joints between them."""
  locate, joint = _lattice(rng), rng.uniform(0.02, 0.12)
  gain, shade = log_uniform(rng, 10, 40), rng.choice([0, 0.3, 0.8])
  dome = rng.choice([0, 0, 0.6])

  def render(x, y, rng):
    i, j, u, v = locate(x, y)
    edge = 0.5 - np.maximum(np.abs(u), np.abs(v))
    field = fields.squash(edge - joint, gain)
    field = field * (1 - dome * (u * u + v * v) * 2)
    tone = fields.per_cell(fields.tables(rng, 1)[0], i, j)
    return field * (1 - shade * tone)

  return render


def draw_mesh(rng: np.random.Generator) -> Texture:
  """Draws crossing lines or waves: grids, hexagons, plaids."""
  count = int(rng.choice([2, 2, 3]))
  start, period = rng.uniform(0, np.pi), log_uniform(rng, 5, 30)
  step = np.pi / count if rng.random() < 0.7 else rng.uniform(0.4, 1.5)
  ratio = rng.choice([1, 1, rng.uniform(0.5, 2)])
  kind, gain = int(rng.choice([0, 2, 2, 3])), log_uniform(rng, 1, 4)
  join = [np.max, np.mean, np.min][rng.integers(3)]

  def render(x, y, rng):
    waves = []
    for k in range(count):
      u, _ = fields.rotate(x, y, start + k * step)
      pitch = period * (ratio if k == 1 else 1)
      waves.append(fields.profile(u / pitch, kind, gain))
    return join(waves, axis=0)

  return render


def draw_weave(rng: np.random.Generator) -> Texture:
  """Draws a weave; a small periodic matrix says which thread lies on top."""
  size = int(rng.integers(2, 6))
  i, j = np.indices((size, size))
  choice = rng.integers(4)
  over = [(i + j) % 2, (i + j) % size < size // 2, (2 * i + j) % size == 0][
    min(choice, 2)
  ]
  if choice == 3:
    over = rng.random((size, size)) < 0.5
  over = over.astype(bool)
  angle = rng.choice([0, np.pi / 4, rng.uniform(0, np.pi)])
  pitch, gap = log_uniform(rng, 4, 16), rng.uniform(0.75, 1.1)
  tones, twist = rng.uniform(0.5, 1, 2), rng.choice([0, 0.15])
  uneven = rng.uniform(0, 0.25)

  def render(x, y, rng):
    u, v = fields.rotate(x, y, angle)
    u, v = u / pitch, v / pitch
    i, j = np.floor(v), np.floor(u)
    p, q = (u - j - 0.5) * 2 / gap, (v - i - 0.5) * 2 / gap
    warp = np.sqrt(np.maximum(1 - p * p, 0)) * (0.65 + 0.35 * np.cos(q * 1.6))
    weft = np.sqrt(np.maximum(1 - q * q, 0)) * (0.65 + 0.35 * np.cos(p * 1.6))
    if twist:
      warp = warp * (1 + twist * np.sin(9 * (p + q)))
    t = fields.tables(rng, 2)
    warp = warp * tones[0] * (1 - uneven * fields.per_cell(t[0], 0 * j, j))
    weft = weft * tones[1] * (1 - uneven * fields.per_cell(t[1], i, 0 * i))
    top = over[i.astype(int) % size, j.astype(int) % size]
    first, second = np.where(top, warp, weft), np.where(top, weft, warp)
    return np.where(first > 0.05, first, 0.6 * second)

  return render


def draw_cells(rng: np.random.Generator) -> Texture:
  """Draws the cells, walls or kernels of a Voronoi pattern."""
  pitch, jitter = log_uniform(rng, 5, 36), rng.choice([0.3, 0.7, 1.0])
  kind, gain = int(rng.integers(5)), log_uniform(rng, 3, 14)
  aspect, angle = rng.choice([1, 1, 0.5]), rng.uniform(0, np.pi)
  share = rng.uniform(0.1, 0.6)

  def render(x, y, rng):
    u, v = fields.rotate(x, y, angle)
    first, second, tone = fields.voronoi(
      u / pitch * aspect, v / pitch, jitter, fields.tables(rng, 3)
    )
    wall = fields.squash(second - first - 0.12, gain)
    return [
      wall,
      wall * (1 - 0.7 * tone),
      1 - first,
      np.where(tone < share, wall, 0.15),
      fields.squash(0.3 - first, gain) * (0.5 + 0.5 * tone),
    ][kind]

  return render


def draw_strokes(rng: np.random.Generator) -> Texture:
  """Draws short pieces of lines, scattered."""
  # Short line pieces, one per cell of a coarse lattice and its neighbours.
  pitch, spread = log_uniform(rng, 7, 24), rng.choice([0.1, 0.5, 3.2])
  angle, width = rng.uniform(0, np.pi), rng.uniform(0.04, 0.15)
  length, gain = rng.uniform(0.3, 0.7), rng.uniform(10, 25)
  bend = rng.choice([0, 0, 1.5])

  def render(x, y, rng):
    t = fields.tables(rng, 3) - 0.5
    u, v = x / pitch, y / pitch
    field = np.zeros_like(x)
    for layer in (0.0, 0.5):
      i, j = np.floor(v + layer), np.floor(u + layer)
      p = u + layer - j - 0.5 + 0.4 * fields.per_cell(t[0], i, j)
      q = v + layer - i - 0.5 + 0.4 * fields.per_cell(t[1], i, j)
      turn = angle + spread * fields.per_cell(t[2], i, j)
      p, q = fields.rotate(p, q, turn)
      q = q + bend * p * p
      d = np.hypot(np.maximum(np.abs(p) - length / 2, 0), q)
      field = np.maximum(field, fields.squash(width - d, gain))
    return field

  return render


def draw_scales(rng: np.random.Generator) -> Texture:
  """Draws overlapping rounds in offset rows."""
  pitch, angle = log_uniform(rng, 8, 30), rng.uniform(0, 2 * np.pi)
  overlap, rim = rng.uniform(0.45, 0.8), rng.uniform(0.05, 0.2)

  def render(x, y, rng):
    u, v = fields.rotate(x, y, angle)
    u, v = u / pitch, v / pitch / overlap
    field = np.zeros_like(x)
    for k in (1, 0):
      i = np.floor(v) + k
      s = u + 0.5 * (i % 2)
      p, q = s - np.floor(s) - 0.5, (v - i) * overlap
      r = np.hypot(p, q)
      inside = fields.squash(0.56 - r, 25)
      tone = 0.35 + 0.6 * r + 0.4 * fields.squash(rim - (0.56 - r), 20)
      field = field * (1 - inside) + tone * inside
    return field

  return render
