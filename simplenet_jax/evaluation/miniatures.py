"""Test images in few bytes: a small picture, its heat map and outlines."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import contourpy
import matplotlib as mpl
import numpy as np
from PIL import Image

# Longest sides in pixels, and WebP's qualities: the first that fit are taken.
_SIDES = (320, 256, 192, 128, 96, 64, 48)
_USUAL, _BETTER, _LAST = 40, (80, 60), (20, 5)
# Maps are smooth: the browser enlarges them.
_HEAT_SIDES, _HEAT_QUALITY = (80, 64, 48, 32, 24), 50
_STEPS = (1, 2, 3, 4, 6, 8)  # Of an outline's points, every so manieth.


def make(
  image: Image.Image,
  heat: np.ndarray,
  mask: np.ndarray | None,
  limits: tuple[float, float],
  threshold: float | None,
  most: int,
) -> dict[str, Any]:
  """Makes what a page shows of a test image.

  Args:
    image: RGB, of any size.
    heat: Its anomaly map, float32 `[height, width]`, NaN where nothing was
      scored.
    mask: Its defects, bool `[height, width]`, if they are known.
    limits: Scores at the cold and at the hot end of the map's colours.
    threshold: Of the map, to outline what lies above; None outlines nothing.
    most: Bytes of everything, whatever the image; 3,000 or more.

  Returns:
    `picture` and `heat` as addresses that hold the image, `truth` and `found`
    as SVG paths in a square of side 100 (empty where there is nothing to
    outline), and `size`: the image's width and height.
  """
  # Not a filter that spreads NaN.
  kind = Image.Resampling.NEAREST
  small = _shrunk(Image.fromarray(heat), _HEAT_SIDES[0], kind)
  found: dict[str, Any] = {'size': list(image.size), 'truth': '', 'found': ''}
  if mask is not None and mask.any():
    share = _shrunk(Image.fromarray(mask.astype(np.float32)), 2 * _SIDES[-3])
    # However small it is, a defect keeps its cell.
    found['truth'] = _outline((share > 0).astype(np.float32), 0.5, most // 8)
  if threshold is not None:
    found['found'] = _outline(small, threshold, most // 8)
  found['heat'] = _heat(small, limits, most // 4)
  spent = sum(len(found[key]) for key in ('truth', 'found', 'heat'))
  return {'picture': _picture(image, most - spent), **found}


def _shrunk(
  image: Image.Image, side: int, kind: Image.Resampling = Image.Resampling.BOX
) -> np.ndarray:
  scale = min(1, side / max(image.size))
  size = [max(1, round(length * scale)) for length in image.size]
  return np.asarray(image.resize((size[0], size[1]), kind))


def _picture(image: Image.Image, most: int) -> str:
  """Encodes an image, rather large than fine."""
  found = ''
  image = image.copy()
  for side in _SIDES:
    image.thumbnail((side, side))  # Smaller each time.
    found = _embedded(image, _USUAL)
    if len(found) <= most:
      better = (_embedded(image, quality) for quality in _BETTER)
      return next((one for one in better if len(one) <= most), found)
  for quality in _LAST:
    if len(found) > most:
      found = _embedded(image, quality)
  return found


def _heat(heat: np.ndarray, limits: tuple[float, float], most: int) -> str:
  """Colours a map; what was not scored is left out."""
  low, high = limits
  level = np.clip((heat - low) / max(high - low, 1e-12), 0, 1)
  colours = mpl.colormaps['turbo'](np.nan_to_num(level), bytes=True)
  colours[..., 3] = np.where(np.isnan(heat), 0, 255)
  whole, found = Image.fromarray(colours), ''
  for side in _HEAT_SIDES:
    whole.thumbnail((side, side))
    found = _embedded(whole, _HEAT_QUALITY)
    if len(found) <= most:
      break
  return found


def _embedded(image: Image.Image, quality: int) -> str:
  data = io.BytesIO()
  image.save(data, 'WEBP', quality=quality, alpha_quality=20, method=4)
  return f'data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}'


def _outline(values: np.ndarray, level: float, most: int) -> str:
  """Returns where a map passes a level, in `most` characters."""
  height, width = values.shape
  padded = np.pad(
    np.nan_to_num(values, nan=-1e9), 1, constant_values=min(0, level) - 1e9
  )
  # Far below on the outside would draw the line too far inside.
  padded = np.maximum(padded, level - 1)
  lines: Any = contourpy.contour_generator(z=padded).lines(level)
  sides = np.array([width, height])
  lines = [np.clip((line - 0.5) / sides, 0, 1) * 100 for line in lines]
  for step in _STEPS:
    parts = _paths(lines, step)
    if sum(map(len, parts)) <= most:
      return ''.join(parts)
  # Many small ones say nothing that the heat map does not.
  found = ''
  for part in sorted(_paths(lines, _STEPS[-1]), key=len, reverse=True):
    if len(found) + len(part) <= most:
      found += part
  return found


def _paths(lines: Sequence[np.ndarray], step: int) -> list[str]:
  """Returns closed lines as SVG paths, with every so manieth point."""
  return [
    'M' + ' '.join(f'{x:.1f} {y:.1f}' for x, y in line[::step]) + 'z'
    for line in lines
    if len(line) > 2 * step
  ]
