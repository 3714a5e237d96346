"""Random textures.

A texture is a function `(x, y, rng) -> field`: positions in pixels, a source of
randomness for what differs from image to image, values of about [0, 1]. Each
`_draw_*` function draws one: what it fixes (periods, angles, spectra) is what
all images of a class share.
"""

import numpy as np

from simplenet_jax.pretraining import fields, patterns
from simplenet_jax.pretraining.fields import Texture, log_uniform


def _draw_plain(rng: np.random.Generator) -> Texture:
  amplitude = fields.spectrum(2, 0, rng.uniform(3, 10))
  level, contrast = rng.uniform(0.2, 0.8), rng.uniform(0, 0.1)

  def render(x, y, rng):
    tile = fields.noise(rng, amplitude)
    return level + contrast * fields.sample(tile, x, y)

  return render


def _draw_cloud(rng: np.random.Generator) -> Texture:
  low = log_uniform(rng, 1, 12)
  amplitude = fields.spectrum(rng.uniform(0, 2.5), low, rng.uniform(20, 70))
  gain, offset = log_uniform(rng, 0.3, 3), rng.normal(0, 0.4)

  def render(x, y, rng):
    tile = fields.noise(rng, amplitude)
    return fields.squash(fields.sample(tile, x, y) + offset, gain)

  return render


def _draw_labyrinth(rng: np.random.Generator) -> Texture:
  # A narrow band, thresholded, resembles reaction-diffusion patterns: spots
  # for a large offset, mazes for none.
  f = log_uniform(rng, 4, 22)
  stretch = rng.choice([1.0, 1.0, rng.uniform(1.2, 2.5)])
  angle = rng.uniform(0, np.pi)
  amplitude = fields.spectrum(0, f * 0.85, f * 1.15, angle, stretch)
  gain, offset = log_uniform(rng, 1, 6), rng.choice([0, -0.8, 0.8])

  def render(x, y, rng):
    tile = fields.noise(rng, amplitude)
    return fields.squash(fields.sample(tile, x, y) + offset, gain)

  return render


def _draw_fibres(rng: np.random.Generator) -> Texture:
  angle = rng.uniform(0, np.pi)
  crossed = rng.random() < 0.4
  angles = [angle, angle + rng.uniform(0.3, 1.6)] if crossed else [angle]
  high, stretch = rng.uniform(20, 64), log_uniform(rng, 3, 20)
  spectra = [
    fields.spectrum(rng.uniform(0, 1), 3, high, a, stretch) for a in angles
  ]
  gain = log_uniform(rng, 0.4, 2)

  def render(x, y, rng):
    waves = [fields.sample(fields.noise(rng, s), x, y) for s in spectra]
    return fields.squash(np.max(waves, axis=0), gain)

  return render


def _draw_stripes(rng: np.random.Generator) -> Texture:
  angle, period = rng.uniform(0, np.pi), log_uniform(rng, 4, 36)
  kind, gain = int(rng.integers(4)), log_uniform(rng, 1, 5)
  wobble = rng.choice([0, 0, 0.1, 0.4])
  amplitude = fields.spectrum(2, 0.5, 8)
  second = rng.choice([0, rng.uniform(0.2, 0.6)])
  ratio = rng.uniform(1.5, 5)

  def render(x, y, rng):
    u, _ = fields.rotate(x, y, angle)
    u = u / period
    if wobble:
      u = u + wobble * fields.sample(fields.noise(rng, amplitude), x, y)
    v = fields.profile(u, kind, gain)
    if second:
      v = (1 - second) * v + second * fields.profile(u / ratio, 0, 2)
    return v

  return render


def _draw_rings(rng: np.random.Generator) -> Texture:
  # Growth rings cut lengthwise: distances from a far axis, warped.
  angle, distance = rng.uniform(0, np.pi), log_uniform(rng, 3, 250)
  period, squeeze = log_uniform(rng, 5, 28), rng.uniform(0.05, 1)
  amplitude = fields.spectrum(2, 0.5, 8, angle, rng.uniform(1, 4))
  grain = fields.spectrum(0.3, 4, 60, angle, log_uniform(rng, 4, 20))
  kind, gain, warp = int(rng.integers(4)), rng.uniform(1, 3), rng.uniform(0, 9)
  weight = rng.uniform(0, 0.5)

  def render(x, y, rng):
    u, v = fields.rotate(x, y, angle)
    shift = distance + rng.uniform(0, period)
    r = np.hypot(u * squeeze, v + shift)
    r = r + warp * fields.sample(fields.noise(rng, amplitude), x, y)
    fine = fields.squash(fields.sample(fields.noise(rng, grain), x, y))
    return (1 - weight) * fields.profile(r / period, kind, gain) + weight * fine

  return render


_DRAWS = (
  _draw_plain,
  _draw_cloud,
  _draw_labyrinth,
  _draw_fibres,
  _draw_stripes,
  _draw_rings,
  patterns.draw_dots,
  patterns.draw_tiles,
  patterns.draw_mesh,
  patterns.draw_weave,
  patterns.draw_cells,
  patterns.draw_strokes,
  patterns.draw_scales,
)


def draw_plain(rng: np.random.Generator) -> Texture:
  """Draws an almost even surface."""
  return _draw_plain(rng)


def draw(rng: np.random.Generator) -> Texture:
  """Draws a texture: one of the kinds above, or a blend of two."""
  first = _DRAWS[rng.integers(1, len(_DRAWS))](rng)
  blend = rng.random()
  if blend > 0.35:
    return first
  second = _DRAWS[rng.integers(1, len(_DRAWS))](rng)
  weight = rng.uniform(0.15, 0.45)

  def render(x, y, rng):
    a, b = first(x, y, rng), second(x, y, rng)
    return (
      a * (1 - weight + weight * b)
      if blend < 0.15
      else ((1 - weight) * a + weight * b)
    )

  return render
