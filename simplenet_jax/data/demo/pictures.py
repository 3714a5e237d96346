"""One picture of the demo set: the part, its flaw, and the exact mask."""

import zlib
from collections.abc import Callable, Mapping

import numpy as np
import scipy.ndimage

from simplenet_jax.data.demo import canvas, defects, objects, textures
from simplenet_jax.data.demo.canvas import Flaw, Grid, Surface

Part = Callable[[np.random.Generator, Grid, Flaw], Surface]

PARTS: Mapping[str, Part] = {
  'weave': textures.weave,
  'perforated': textures.perforated,
  'wood': textures.wood,
  'gasket': objects.gasket,
  'capsule': objects.capsule,
  'connector': objects.connector,
}

# Defects of each category: of the part itself, or lying on any surface.
FLAWS: Mapping[str, tuple[str, ...]] = {
  'weave': ('cut', 'snag', 'stain', 'thread'),
  'perforated': ('blocked', 'scratch', 'stain', 'torn'),
  'wood': ('colour', 'hole', 'knot', 'scratch'),
  'gasket': ('colour', 'crack', 'torn', 'unpunched'),
  'capsule': ('crack', 'hole', 'misprint', 'squeezed'),
  'connector': ('bent', 'crack', 'missing', 'short', 'stain'),
}

# A pixel is defective if a channel changed by more than this: about the
# deviation of the sensor's noise, under which nothing can be seen.
_VISIBLE = 0.02
# Smallest area of a defect, as a share of the picture.
_LEAST_AREA = 0.0015
_ATTEMPTS = 20


def draw(
  seed: int, category: str, split: str, flaw: str, index: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Draws one picture; it depends on nothing but the arguments.

  Args:
    seed: the data set's seed, >= 0.
    category: one of `PARTS`.
    split: 'train', 'validation' or 'test'.
    flaw: one of `FLAWS[category]`, or empty for a good part.
    index: number of the picture among those of its kind.
    size: side of the picture in pixels.

  Returns:
    The picture, [size, size, 3] uint8 RGB, and the mask of the pixels that
    the flaw altered, [size, size] bool: outside of it the picture is, bit by
    bit, that of the good part under the same light and sensor noise.
  """
  key = [
    seed,
    *(zlib.crc32(s.encode()) for s in (category, split, flaw)),
    index,
  ]
  part_key, light_key, flaw_key, noise_key = np.random.SeedSequence(key).spawn(
    4
  )
  grid = canvas.make_grid(size)

  def picture(kind: str, flaw_rng: np.random.Generator) -> np.ndarray:
    rng = np.random.default_rng(part_key)
    surface = PARTS[category](rng, grid, Flaw(kind, flaw_rng))
    if kind in defects.SURFACE_DEFECTS:
      defects.SURFACE_DEFECTS[kind](flaw_rng, grid, surface)
    return canvas.photograph(np.random.default_rng(light_key), grid, surface)

  flaw_rng = np.random.default_rng(flaw_key)
  image = picture('', flaw_rng)
  mask = np.zeros((size, size), bool)
  if flaw:
    image, mask = _spoil(image, lambda: picture(flaw, flaw_rng))
  return canvas.expose(np.random.default_rng(noise_key), image), mask


def _spoil(
  good: np.ndarray, flawed: Callable[[], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
  """Draws flaws until one is large enough to be seen."""
  for _ in range(_ATTEMPTS):
    bad = flawed()
    mask = _altered(good, bad)
    if mask.mean() >= _LEAST_AREA:
      return np.where(mask[..., None], bad, good), mask
  raise AssertionError(f'no visible flaw in {_ATTEMPTS} attempts')


def _altered(good: np.ndarray, bad: np.ndarray) -> np.ndarray:
  """Returns where two pictures differ visibly, without gaps and specks."""
  mask = np.abs(bad - good).max(-1) > _VISIBLE
  mask = scipy.ndimage.binary_opening(mask, np.ones((2, 2), bool))
  mask = np.pad(mask, 2, 'edge')
  mask = scipy.ndimage.binary_closing(mask, iterations=2)[2:-2, 2:-2]
  return np.asarray(scipy.ndimage.binary_fill_holes(mask), bool)
