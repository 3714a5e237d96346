"""Pictures of results: sheets, thumbnails and curves."""

import base64
import collections
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import contourpy
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from simplenet_jax.data.images import Limits, coloured
from simplenet_jax.files import atomic_write

SHEET_SIDE = 208  # Of a picture on a sheet, its longer side, in pixels.
_GAP, _CAPTION = 8, 22
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
# Longest sides of what the report embeds. Maps are smooth: the browser enlarges
# them.
_THUMBNAIL, _THUMBNAIL_HEAT, _THUMBNAIL_MASK = 256, 64, 128
_MOST_LINES, _MOST_POINTS = 100, 1_500  # Of the outlines on a thumbnail.


def pick(defects: Sequence[str], count: int) -> list[int]:
  """Picks at most `count` test images: all defects in turn, in file order."""
  seen, turns = collections.Counter(), []
  for index, name in enumerate(defects):
    turns.append((seen[name], index))
    seen[name] += 1
  return sorted(index for _, index in sorted(turns)[:count])


def write_sheet(
  path: Path,
  title: str,
  cells: Sequence[tuple[str, str, Sequence[Image.Image]]],
) -> None:
  """Writes a PNG of cells, each a caption, a score and pictures."""
  drawn = [_cell(*cell) for cell in cells]
  width = max(cell.width for cell in drawn) + 2 * _GAP
  height = max(cell.height for cell in drawn) + _GAP
  columns = min(len(drawn), 2 if width > height * 2 else 4)
  top = _CAPTION + 2 * _GAP
  size = columns * width, -(-len(drawn) // columns) * height + top
  sheet = Image.new('RGB', size, _PAPER)
  font = ImageFont.load_default(16)
  ImageDraw.Draw(sheet).text((_GAP, _GAP), title, _INK, font=font)
  for index, cell in enumerate(drawn):
    row, column = divmod(index, columns)
    sheet.paste(cell, (column * width + _GAP, row * height + top))
  with atomic_write(path) as aside:
    sheet.save(aside)


def _cell(
  caption: str, score: str, pictures: Sequence[Image.Image]
) -> Image.Image:
  width, height = pictures[0].size
  step = width + 2
  size = len(pictures) * step - 2, height + _CAPTION
  cell = Image.new('RGB', size, _PAPER)
  for index, picture in enumerate(pictures):
    cell.paste(picture, (index * step, _CAPTION))
  draw, font = ImageDraw.Draw(cell), ImageFont.load_default(14)
  draw.text((0, 2), caption, _INK, font=font)
  draw.text((cell.width, 2), score, _INK, font=font, anchor='ra')
  return cell


def write_curves(
  path: Path, title: str, history: Mapping[str, np.ndarray]
) -> None:
  """Writes how training went as PNG; see `run_files.write_curves`."""
  figure = Figure(figsize=(8, 3), layout='constrained')
  left, right = figure.subplots(1, 2)
  epochs = np.arange(1, history['loss'].shape[1] + 1)
  left.plot(epochs, history['loss'].T, linewidth=1)
  left.set(ylabel='loss', ylim=(0, None))
  for name, colour in (('normal', 'C0'), ('counterfeit', 'C3')):
    curves = history[f'p_{name}'].T
    lines = right.plot(epochs, curves, color=colour, linewidth=1)
    lines[0].set_label(f'{name} patches')
  right.set(ylabel='share beyond the margin', ylim=(0, 1))
  right.legend(frameon=False)
  for axes in (left, right):
    axes.set_xlabel('epoch')
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  figure.suptitle(title, parse_math=False)
  with atomic_write(path) as aside:
    figure.savefig(aside, dpi=110)


def thumbnail(
  image: Image.Image,
  heat: np.ndarray,
  mask: np.ndarray | None,
  limits: Limits,
  threshold: float | None,
) -> dict[str, Any]:
  """Makes what the report shows of a test image, RGB of any size.

  `heat` and `mask` are `[height, width]`; what scores above the threshold is
  outlined.

  Returns:
    `picture` and `heat` as data URLs, `truth` and `found` as SVG paths in a
    square of side 100 (empty without an outline), and `size`: the image's width
    and height.
  """
  # Any filter but the nearest pixel would spread NaN.
  nearest = Image.Resampling.NEAREST
  small = np.array(_shrunk(Image.fromarray(heat), _THUMBNAIL_HEAT, nearest))
  truth = ''
  if mask is not None and mask.any():
    share = _shrunk(Image.fromarray(mask.astype(np.float32)), _THUMBNAIL_MASK)
    # However small it is, a defect keeps its cell.
    truth = _outline((np.asarray(share) > 0).astype(np.float32), 0.5)
  alpha = np.where(np.isnan(small), 0, 255).astype(np.uint8)[..., None]
  heat_map = np.append(coloured(small, limits), alpha, -1)
  return {
    'picture': _embedded(_shrunk(image, _THUMBNAIL), 60),
    'heat': _embedded(Image.fromarray(heat_map), 50),
    'truth': truth,
    'found': '' if threshold is None else _outline(small, threshold),
    'size': list(image.size),
  }


def _shrunk(
  image: Image.Image, side: int, kind: Image.Resampling = Image.Resampling.BOX
) -> Image.Image:
  image = image.copy()
  image.thumbnail((side, side), kind, None)
  return image


def _embedded(image: Image.Image, quality: int) -> str:
  data = io.BytesIO()
  image.save(data, 'WEBP', quality=quality, alpha_quality=20, method=4)
  return f'data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}'


def _outline(values: np.ndarray, level: float) -> str:
  """Returns the lines at which a map passes a level, as closed SVG paths."""
  # Outside lies little below the level: far below would draw the line too far
  # inside.
  values = np.maximum(np.nan_to_num(values, nan=-np.inf), level - 1)
  padded = np.pad(values, 1, constant_values=level - 1)
  lines: Any = contourpy.contour_generator(z=padded).lines(level)
  lines = sorted(lines, key=len, reverse=True)[:_MOST_LINES]
  step = 1 + sum(map(len, lines)) // _MOST_POINTS
  scale = 100 / np.array(values.shape[::-1])
  return ''.join(
    'M' + ' '.join(f'{x:.1f} {y:.1f}' for x, y in np.clip(line, 0, 100)) + 'z'
    for line in ((line[::step] - 0.5) * scale for line in lines)
  )
