"""Anomaly maps as people and other programs see them: in colours, as TIFF."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image
from scipy import ndimage

from simplenet_jax.files import atomic_write

_OUTLINE = (0, 255, 110)

Limits = tuple[float, float]  # Scores at the cold and the hot end of colours.


def limits(maps: np.ndarray) -> Limits:
  """Returns the limits of the colours that anomaly maps are shown with."""
  return float(np.median(maps)), float(maps.max())


def heated(image: Image.Image, heat: np.ndarray, limits: Limits) -> Image.Image:
  """Colours an RGB image by its map, `[height, width]` of the same aspect.

  What was not scored, NaN, is hatched.
  """
  nearest = Image.Resampling.NEAREST
  values = Image.fromarray(heat.astype(np.float32)).resize(image.size, nearest)
  heat = np.asarray(values)
  gray = np.asarray(image, np.float32).mean(-1, keepdims=True)
  blend = 0.45 * gray + 0.55 * coloured(heat, limits)
  row, column = np.indices(heat.shape)
  hatch = np.less((row + column) % 8, 2)[..., None]
  unscored = np.where(hatch, 128, 0.5 * gray + 110)
  blend = np.where(np.isnan(heat)[..., None], unscored, blend)
  return Image.fromarray(blend.clip(0, 255).astype(np.uint8))


def coloured(heat: np.ndarray, limits: Limits) -> np.ndarray:
  """Returns a map's colours, uint8 `[height, width, 3]`."""
  low, high = limits
  level = np.clip((heat - low) / max(high - low, 1e-12), 0, 1)
  return mpl.colormaps['turbo'](np.nan_to_num(level), bytes=True)[..., :3]


def outlined(image: Image.Image, mask: np.ndarray) -> Image.Image:
  """Draws a line around what a mask of the same aspect marks, on RGB."""
  # Any defect pixel marks its pixel of the smaller picture.
  coverage = Image.fromarray(mask.astype(np.float32)).resize(
    image.size, Image.Resampling.BOX
  )
  inside = np.asarray(coverage) > 0
  pixels = np.array(image)
  grown = np.asarray(ndimage.binary_dilation(inside, iterations=2), bool)
  pixels[grown & ~inside] = _OUTLINE
  return Image.fromarray(pixels)


def write_map(path: Path, heat: np.ndarray, lowest: float) -> None:
  """Writes an anomaly map as compressed float32 TIFF.

  Args:
    path: The file.
    heat: float `[height, width]`; NaN where nothing was scored.
    lowest: The score written there: the MVTec AD evaluator, which sorts all
      pixels, knows no NaN.
  """
  whole = Image.fromarray(np.nan_to_num(heat, nan=lowest))
  with atomic_write(path) as aside:
    whole.save(aside, compression='tiff_adobe_deflate')
