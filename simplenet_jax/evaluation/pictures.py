"""Pictures of results: heat maps, sheets, thumbnails and curves."""

import base64
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import contourpy
import matplotlib as mpl
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from simplenet_jax.files import written_aside

_SIDE = 208  # Of a picture on a sheet, its longer side, in pixels.
_GAP = 8
_CAPTION = 22
_OUTLINE = (0, 255, 110)
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
# Longest sides of what the report embeds. Maps are smooth: the browser enlarges
# them.
_THUMBNAIL, _THUMBNAIL_HEAT, _THUMBNAIL_MASK = 256, 64, 128
_MOST_LINES, _MOST_POINTS = 100, 1_500  # Of the outlines on a thumbnail.


@dataclasses.dataclass(frozen=True)
class Tile:
  """One test image's pictures.

  Attributes:
    caption: Its defect and name.
    image: As it is stored, RGB.
    mask: Ground truth in the image's pixels, bool `[height, width]`, or None.
    heat: Anomaly map in the image's pixels, float `[height, width]`; NaN where
      the protocol did not look.
    score: The image score.
    found: What is outlined on the heat map, bool `[height, width]`, or None.
  """

  caption: str
  image: Image.Image
  mask: np.ndarray | None
  heat: np.ndarray
  score: float
  found: np.ndarray | None = None


def pick(defects: Sequence[str], count: int) -> list[int]:
  """Picks test images to show: all defects in turn, each in file order.

  Args:
    defects: The defect of each test image.
    count: How many to pick at most.

  Returns:
    Indices, in ascending order; scores play no part in the choice.
  """
  by_defect = {name: [] for name in sorted(set(defects))}
  for index, name in enumerate(defects):
    by_defect[name].append(index)
  rank = {
    index: position
    for indices in by_defect.values()
    for position, index in enumerate(indices)
  }
  return sorted(sorted(rank, key=lambda index: (rank[index], index))[:count])


def write_sheet(
  path: Path, title: str, tiles: Sequence[Tile], *, limits: tuple[float, float]
) -> None:
  """Writes a category's picture sheet as PNG.

  Each cell shows the image, the image with the ground truth outlined, and the
  heat map; hatching marks what the protocol did not score.

  Args:
    path: The file.
    title: The line above.
    tiles: What to show, at least one.
    limits: Scores at the cold and at the hot end of the colours.
  """
  cells = [_cell(tile, limits) for tile in tiles]
  width = max(cell.width for cell in cells)
  height = max(cell.height for cell in cells)
  columns = max(1, min(len(cells), 2 if width > height * 2 else 4))
  rows = -(-len(cells) // columns)
  sheet = Image.new(
    'RGB',
    (
      columns * (width + 2 * _GAP),
      rows * (height + _GAP) + _CAPTION + 2 * _GAP,
    ),
    _PAPER,
  )
  draw = ImageDraw.Draw(sheet)
  draw.text((_GAP, _GAP), title, _INK, font=ImageFont.load_default(16))
  for index, cell in enumerate(cells):
    row, column = divmod(index, columns)
    left = column * (width + 2 * _GAP) + _GAP
    sheet.paste(cell, (left, row * (height + _GAP) + _CAPTION + 2 * _GAP))
  with written_aside(path) as aside:
    sheet.save(aside)


def _cell(tile: Tile, limits: tuple[float, float]) -> Image.Image:
  """Draws one test image: caption, image, ground truth, heat map."""
  scale = _SIDE / max(tile.image.size)
  width, height = (max(1, round(side * scale)) for side in tile.image.size)
  size = (width, height)
  image = tile.image.resize(size, Image.Resampling.LANCZOS)
  heat = heated(image, tile.heat, limits)
  if tile.found is not None:
    heat = outlined(heat, tile.found)
  pictures = [image, _with_truth(image, tile.mask), heat]
  step = size[0] + 2
  cell = Image.new('RGB', (3 * step - 2, size[1] + _CAPTION), _PAPER)
  for index, picture in enumerate(pictures):
    cell.paste(picture, (index * step, _CAPTION))
  draw = ImageDraw.Draw(cell)
  font = ImageFont.load_default(14)
  draw.text((0, 2), tile.caption, _INK, font=font)
  draw.text((cell.width, 2), f'{tile.score:.3f}', _INK, font=font, anchor='ra')
  return cell


def _with_truth(image: Image.Image, mask: np.ndarray | None) -> Image.Image:
  if mask is None:
    picture = image.convert('L').convert('RGB')
    text = 'no ground truth'
    ImageDraw.Draw(picture).text((4, 4), text, _OUTLINE)
    return picture
  return outlined(image, mask)


def outlined(image: Image.Image, mask: np.ndarray) -> Image.Image:
  """Draws a line around what a mask marks.

  Args:
    image: RGB, of any size.
    mask: bool `[height, width]`, of any size with the same aspect.
  """
  # Any defect pixel marks its pixel of the smaller picture.
  coverage = Image.fromarray(mask.astype(np.float32)).resize(
    image.size, Image.Resampling.BOX
  )
  inside = np.asarray(coverage) > 0
  pixels = np.array(image)
  grown = np.asarray(ndimage.binary_dilation(inside, iterations=2), bool)
  pixels[grown & ~inside] = _OUTLINE
  return Image.fromarray(pixels)


def heated(
  image: Image.Image, heat: np.ndarray, limits: tuple[float, float]
) -> Image.Image:
  """Colours an image by its anomaly map.

  Args:
    image: RGB, of any size.
    heat: float `[height, width]`, of any size with the same aspect; NaN is
      hatched.
    limits: Scores at the cold and at the hot end of the colours.
  """
  heat = np.asarray(
    Image.fromarray(heat.astype(np.float32)).resize(
      image.size, Image.Resampling.NEAREST
    )
  )
  colours = _coloured(heat, limits)
  pixels = np.asarray(image, np.float32)
  gray = pixels.mean(-1, keepdims=True)
  blend = 0.45 * gray + 0.55 * colours
  row, column = np.indices(heat.shape)
  hatch = np.less((row + column) % 8, 2)[..., None]
  unscored = np.where(hatch, 128, 0.5 * gray + 110)
  blend = np.where(np.isnan(heat)[..., None], unscored, blend)
  return Image.fromarray(blend.clip(0, 255).astype(np.uint8))


def _coloured(heat: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
  """Returns a map's colours, uint8 `[height, width, 3]`."""
  low, high = limits
  level = np.clip((heat - low) / max(high - low, 1e-12), 0, 1)
  return mpl.colormaps['turbo'](np.nan_to_num(level), bytes=True)[..., :3]


def write_curves(
  path: Path, title: str, history: Mapping[str, np.ndarray]
) -> None:
  """Writes the course of training as PNG.

  Args:
    path: The file.
    title: The line above.
    history: `loss`, `p_normal`, `p_counterfeit`: float `[seeds, epochs]`.
  """
  figure = Figure(figsize=(8, 3), layout='constrained')
  left, right = figure.subplots(1, 2)
  epochs = np.arange(1, history['loss'].shape[1] + 1)
  left.plot(epochs, history['loss'].T, linewidth=1)
  for axes in (left, right):
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  left.set(xlabel='epoch', ylabel='loss', ylim=(0, None))
  for name, colour in (('normal', 'C0'), ('counterfeit', 'C3')):
    lines = right.plot(
      epochs, history[f'p_{name}'].T, color=colour, linewidth=1
    )
    lines[0].set_label(f'{name} patches')
  right.set(xlabel='epoch', ylabel='share beyond the margin', ylim=(0, 1))
  right.legend(frameon=False)
  figure.suptitle(title, parse_math=False)
  with written_aside(path) as aside:
    figure.savefig(aside, dpi=110)


def limits(maps: np.ndarray) -> tuple[float, float]:
  """Returns the scores at the cold and at the hot end of maps' colours."""
  return float(np.median(maps)), float(maps.max())


def write_map(path: Path, heat: np.ndarray, lowest: float) -> None:
  """Writes an anomaly map as compressed float32 TIFF.

  Args:
    path: The file.
    heat: float `[height, width]`; NaN where nothing was scored.
    lowest: The score written there: the MVTec AD evaluator, which sorts all
      pixels, knows no NaN.
  """
  whole = Image.fromarray(np.nan_to_num(heat, nan=lowest))
  with written_aside(path) as aside:
    whole.save(aside, compression='tiff_adobe_deflate')


def thumbnail(
  image: Image.Image,
  heat: np.ndarray,
  mask: np.ndarray | None,
  limits: tuple[float, float],
  threshold: float | None,
) -> dict[str, Any]:
  """Makes what the report shows of a test image.

  Args:
    image: RGB, of any size.
    heat: Its anomaly map, float32 `[height, width]`, NaN where nothing was
      scored.
    mask: Its defects, bool `[height, width]`, if they are known.
    limits: Scores at the cold and at the hot end of the map's colours.
    threshold: Of the map, to outline what lies above; None outlines nothing.

  Returns:
    `picture` and `heat` as addresses that hold the image, `truth` and `found`
    as SVG paths in a square of side 100 (empty where there is nothing to
    outline), and `size`: the image's width and height.
  """
  # Any filter but the nearest pixel would spread NaN.
  nearest = Image.Resampling.NEAREST
  small = np.asarray(
    _shrunk(Image.fromarray(heat), _THUMBNAIL_HEAT, nearest), np.float32
  )
  truth = ''
  if mask is not None and mask.any():
    share = _shrunk(Image.fromarray(mask.astype(np.float32)), _THUMBNAIL_MASK)
    # However small it is, a defect keeps its cell.
    truth = _outline((np.asarray(share) > 0).astype(np.float32), 0.5)
  colours = np.array(_coloured(small, limits))
  alpha = np.where(np.isnan(small), 0, 255).astype(np.uint8)[..., None]
  return {
    'picture': _embedded(_shrunk(image, _THUMBNAIL), 60),
    'heat': _embedded(Image.fromarray(np.append(colours, alpha, -1)), 50),
    'truth': truth,
    'found': '' if threshold is None else _outline(small, threshold),
    'size': list(image.size),
  }


def _shrunk(
  image: Image.Image, side: int, kind: Image.Resampling = Image.Resampling.BOX
) -> Image.Image:
  scale = min(1, side / max(image.size))
  width, height = (max(1, round(length * scale)) for length in image.size)
  return image.resize((width, height), kind)


def _embedded(image: Image.Image, quality: int) -> str:
  data = io.BytesIO()
  image.save(data, 'WEBP', quality=quality, alpha_quality=20, method=4)
  return f'data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}'


def _outline(values: np.ndarray, level: float) -> str:
  """Returns the lines at which a map passes a level, as closed SVG paths."""
  height, width = values.shape
  padded = np.pad(
    np.nan_to_num(values, nan=-1e9), 1, constant_values=min(0, level) - 1e9
  )
  # Far below on the outside would draw the line too far inside.
  padded = np.maximum(padded, level - 1)
  lines: Any = contourpy.contour_generator(z=padded).lines(level)
  sides = np.array([width, height])
  lines = [np.clip((line - 0.5) / sides, 0, 1) * 100 for line in lines]
  lines = sorted(lines, key=len, reverse=True)[:_MOST_LINES]
  step = 1 + sum(map(len, lines)) // _MOST_POINTS
  return ''.join(
    'M' + ' '.join(f'{x:.1f} {y:.1f}' for x, y in line[::step]) + 'z'
    for line in lines
  )
