"""Pictures that stand alone: what was looked at, what was found, and why.

All views share one scale of colours and one meaning of each line. What is usual
stays transparent; the pixel limit is in the middle of the scale, pale yellow,
with blue below and orange and red above it, which the colour-blind tell apart.
"""

import contextlib
import functools
import importlib.util
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import contourpy
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simplenet_jax.console import numbers
from simplenet_jax.files import atomic_write

SIDE, SMALL = 1024, 512  # A photograph's longer side, in pixels: most, least.
FOUND, TRUTH = (255, 255, 255), (255, 0, 200)  # Colours of lines.
_INK, _BAD, _GOOD = (30, 30, 30), (180, 60, 0), (0, 95, 160)
_GRID, _MASK = 256, 128  # Values along a map or a mask that lines come from.
_TURN = np.linspace(0, 2 * np.pi, 40)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], -1)

# ColorBrewer's RdYlBu, from blue to red, without dark red, which is hard to see
# on black.
_HUES = '313695 4575b4 74add1 abd9e9 e0f3f8 ffffbf fee090 fdae61 f46d43 d73027'

# By kind, closed lines `[points, 2]`: x and y as shares of an image's sides.
Lines = dict[str, list[np.ndarray]]
Row = tuple[Any, str]  # A line's kind before a text or a colour behind it.


class Scale(NamedTuple):
  """Which colour a score has; the same in every view of a detector."""

  low: float  # A usual score, which is transparent.
  high: float  # Red from here on.
  limit: float | None = None  # Of pixels; half way between them.

  @classmethod
  def of(cls, usual: float, hot: float, limit: float | None) -> 'Scale':
    """Ties colours to the limit of pixels or, without one, to a `hot` score."""
    if limit is None:
      return cls(usual, hot)
    # A limit that is set by hand may lie anywhere.
    span = limit - usual if limit > usual else (hot - usual) / 2 or 1.0
    return cls(limit - span, limit + span, limit)

  def colours(self, heat: np.ndarray) -> np.ndarray:
    """Returns colour and opacity of scores, uint8 `[..., 4]`; NaN is clear."""
    level = (heat - self.low) * (255 / max(self.high - self.low, 1e-12))
    level = np.nan_to_num(level, copy=False).clip(0, 255).astype(np.uint8)
    return _table()[level].view(np.uint8)


@functools.cache
def _table() -> np.ndarray:
  """Returns colour and opacity of 256 levels, uint8 as uint32 `[256, 1]`."""
  levels = np.linspace(0, 1, 256)
  hues = np.interp(levels, (0, 0.5, 1), (0, 5, 9))
  known = np.array([[*bytes.fromhex(one)] for one in _HUES.split()])
  table = [np.interp(hues, range(len(known)), one) for one in known.T]
  table.append(np.interp(levels, (0.23, 0.5, 1), (0, 130, 190)))
  return np.stack(table, -1).astype(np.uint8).view(np.uint32)


def heated(image: Image.Image, heat: np.ndarray, scale: Scale) -> Image.Image:
  """Lays a map over an RGB image of its size; hatches where it is NaN."""
  layer = scale.colours(heat)
  if np.isnan(heat).any():
    row, column = np.nonzero(np.isnan(heat))
    period = max(8, max(image.size) // 40)
    dark = (row + column) % period < period // 4
    layer[row, column] = np.where(dark[:, None], (90, 90, 90, 220), (225,) * 4)
  shown, over = image.copy(), Image.fromarray(layer)
  shown.paste(over, (0, 0), over)
  return shown


def contours(values: np.ndarray, level: float) -> list[np.ndarray]:
  """Returns the lines at which a map passes a level; NaN lies below it."""
  found: Any = []
  # Maps are smooth: some of their values do, unless these miss what is beyond.
  for step in (max(1, max(values.shape) // _GRID), 1):
    grid = values[step // 2 :: step, step // 2 :: step].astype(np.float64)
    # Outside lies just below the level: lower would draw lines too far inside.
    grid = np.maximum(np.nan_to_num(grid, nan=-np.inf), level - 1)
    grid = np.pad(grid, 1, constant_values=level - 1)
    found = contourpy.contour_generator(z=grid).lines(level)
    if found or not np.nanmax(values) > level:
      break
  sides = values.shape[::-1]
  lines = [((one - 1) * step + step // 2 + 0.5) / sides for one in found]
  return [np.clip(one, 0, 1) for one in lines]


def mask_contours(mask: np.ndarray) -> list[np.ndarray]:
  """Returns the lines around what a mask marks, however small that is."""
  share = Image.fromarray(mask.astype(np.float32))
  small = resized(share, min(_MASK, max(share.size)), Image.Resampling.BOX)
  return contours((np.array(small) > 0).astype(np.float32), 0.5)


def draw_lines(image: Image.Image, lines: Lines, width: int = 0) -> None:
  """Draws lines with black borders on an RGB image; the truth's are dashed."""
  draw, width = ImageDraw.Draw(image), width or max(2, max(image.size) // 170)
  for kind, some in lines.items():
    colour = TRUTH if kind == 'truth' else FOUND
    for points in (line * image.size for line in some):
      parts = [points]
      if kind == 'truth':
        parts = [points[at : at + 5] for at in range(0, len(points) - 1, 8)]
      for ink, wide in (('black', 2 * width), (colour, width)):
        for part in parts:
          draw.line(part.ravel().tolist(), ink, wide)


class View(NamedTuple):
  """What a detector says of one image."""

  image: Image.Image  # The photograph, RGB.
  heat: np.ndarray  # Its map, float32 `[height, width]`; NaN: not looked at.
  scale: Scale  # Pixels beyond its limit are outlined.
  name: str
  score: float
  limit: float | None  # Not OK are images beyond it; None: no verdict.

  def picture(self) -> Image.Image:
    """Draws the photograph, the map and the verdict, as RGB."""
    lines, peak = self._lines(), float(np.nanmax(self.heat))
    gap, down = max(self.image.size) // 50, self.image.width > self.image.height
    # As a screen has room; text is 14 pixels high on a phone.
    shown = heated(self.image, self.heat, self.scale)
    draw_lines(shown, lines)
    panels = _joined([self.image, shown], gap, down)
    width = max(panels.width, max(self.image.size) * 2 // 3)
    size = width // 30
    below = _legend(self.scale, lines, f'Highest: {numbers(peak)[0]}')
    if np.isnan(self.heat).any():
      below.append(('', 'Hatched: not looked at'))
    blocks = [
      _written([verdict(self.score, self.limit)], width, size * 3 // 2),
      _written([('', self.name)], width, size),
      panels,
      _bar(self.scale, width, size),
      _written(below, width, size),
    ]
    return _joined(blocks, gap, down=True, border=gap)

  def beside(
    self, truth: list[np.ndarray] | None, defective: bool
  ) -> Image.Image:
    """Draws it beside its truth, if that is known, and the map: for `sheet`."""
    lines, both = self._lines(), self.image.copy()
    shown = heated(both, self.heat, self.scale)
    draw_lines(both, {'truth': truth or [], **lines})
    draw_lines(shown, lines)
    panels = _joined([self.image, both, shown], 2)
    colour, told = verdict(self.score, self.limit)
    told = told.partition(' (')[0]
    if self.limit is not None and defective != (self.score > self.limit):
      told += ', missed' if defective else ', false alarm'
    text = [(colour, told), ('', self.name + ' (no mask)' * (truth is None))]
    head = _written(text, panels.width, max(self.image.size) // 14)
    return _joined([head, panels], 4, down=True)

  def _lines(self) -> Lines:
    """Returns outlines of what is found, or a ring around the highest score."""
    limit, size = self.scale.limit, np.array(self.image.size)
    if limit is not None and (found := contours(self.heat, limit)):
      return {'found': found}
    if self.limit is not None and self.score <= self.limit:
      return {}  # Else the ring shows why the image is not OK.
    place = np.unravel_index(np.nanargmax(self.heat), self.heat.shape)
    return {'highest': [(_CIRCLE * max(size) / 24 + place[::-1] + 0.5) / size]}


def sheet(
  title: Sequence[str], cells: Sequence[Image.Image], scale: Scale
) -> Image.Image:
  """Joins what `View.beside` draws under a title, a legend and the scale."""
  rows = [_joined(cells[at : at + 2], 20) for at in range(0, len(cells), 2)]
  width = max(row.width for row in rows)
  kinds = 'truth', *['found'] * (scale.limit is not None), 'highest'
  text = [('', line) for line in title]
  text += _legend(scale, kinds, 'Highest score')
  size = width // 80
  head = _written(text, width, size), _bar(scale, width // 2, size)
  return _joined([*head, *rows], 20, down=True, border=20)


def write(path: Path, picture: Image.Image) -> None:
  """Writes a picture, in the format that the name's suffix says."""
  with atomic_write(path) as aside:
    picture.save(aside, compress_level=1, quality=90)  # More gains little.


def resized(image: Image.Image, longest: int, kind: int) -> Image.Image:
  """Returns an image with a longer side of so many pixels."""
  scale = longest / max(image.size)
  width, height = (max(1, round(side * scale)) for side in image.size)
  return image.resize((width, height), kind)


def verdict(score: float, limit: float | None) -> Row:
  """Returns what is said of an image, such as 'OK 1.02 (limit 2.44)'."""
  if limit is None:
    return _INK, f'Score {numbers(score)[0]}'
  told, most = numbers(score, limit)
  colour, word = (_BAD, 'NOT OK') if score > limit else (_GOOD, 'OK')
  return colour, f'{word} {told} (limit {most})'


def _legend(scale: Scale, kinds: Any, highest: str) -> list[Row]:
  limit = '' if scale.limit is None else numbers(scale.limit)[0]
  texts = {
    'truth': 'Ground truth',
    'found': f'Found: above the pixel limit {limit}',
    'highest': highest + (limit and f'; no pixel is above {limit}'),
  }
  return [(kind, texts[kind]) for kind in kinds]


@functools.cache
def _font(size: int) -> Any:
  # Pillow's own font has neither umlauts nor Cyrillic letters. Matplotlib's is
  # the same everywhere, but need not be there; importing it is slow.
  spec = importlib.util.find_spec('matplotlib')
  own = Path(str(spec and spec.origin)).with_name('mpl-data') / 'fonts/ttf'
  for name in (own / 'DejaVuSans.ttf', 'DejaVuSans.ttf', 'arial.ttf'):
    with contextlib.suppress(OSError):
      basic = ImageFont.Layout.BASIC
      return ImageFont.truetype(name, size, layout_engine=basic)
  return ImageFont.load_default(size)


def _written(rows: Sequence[Row], width: int, size: int) -> Image.Image:
  """Writes marked texts into so many pixels, wrapped."""
  font, lines, high = _font(size), [], size * 3 // 2
  for mark, text in rows:
    # Names of files need not be text.
    told = ' '.join(text.encode('utf-8', 'replace').decode().split())
    room = (width - 2 * size) / max(1, font.getlength(told))
    for part in textwrap.wrap(told, max(8, int(0.95 * len(told) * room))):
      lines.append((mark, part))
      mark = ''
  block = Image.new('RGB', (width, high * len(lines) or 1), 'white')
  draw = ImageDraw.Draw(block)
  for number, (mark, text) in enumerate(lines):
    x, y, ink = 0, high * number, _INK
    if isinstance(mark, tuple):
      x, ink, end = size // 2, 'white', size + font.getlength(text)
      draw.rectangle((0, y, end, y + high - 1), mark)
    elif mark:
      x, sample = 2 * size, Image.new('RGB', (size, size), 'white')
      line = np.linspace((0, 0.5), (1, 0.5), 14)
      line = _CIRCLE / 3 + 0.5 if mark == 'highest' else line
      draw_lines(sample, {mark: [line]}, max(2, size // 9))
      block.paste(sample, (size // 4, y + size // 4))
    draw.text((x, y + high / 2), text, ink, font, 'lm')
  return block


def _bar(scale: Scale, width: int, size: int) -> Image.Image:
  heat = np.tile(np.linspace(scale.low, scale.high, width), (size, 1))
  block = Image.new('RGB', (width, size * 5 // 2), 'white')
  block.paste(heated(Image.new('RGB', (width, size), '#aaa'), heat, scale))
  draw = ImageDraw.Draw(block)
  draw.rectangle((0, 0, width - 1, size), outline=_INK)
  low, high = numbers(scale.low, scale.high)
  texts = [(0.0, low, 'ls'), (width, f'{high} or more', 'rs')]
  if scale.limit is not None:
    x = (scale.limit - scale.low) / (scale.high - scale.low) * width
    draw.line((x, 0, x, size * 4 // 3), _INK, max(2, size // 7))
    texts.append((x, f'pixel limit {numbers(scale.limit)[0]}', 'ms'))
  for x, text, anchor in texts:
    draw.text((x, size * 9 // 4), text, _INK, _font(size), anchor)
  return block


def _joined(
  blocks: Sequence[Image.Image], gap: int, down: bool = False, border: int = 0
) -> Image.Image:
  """Pastes pictures beside or below each other on white."""
  axis, sizes = int(down), np.array([block.size for block in blocks])
  whole = sizes.max(0)
  whole[axis] = sizes[:, axis].sum() + gap * (len(blocks) - 1)
  width, height = (whole + 2 * border).tolist()
  page, at = Image.new('RGB', (width, height), 'white'), [border, border]
  for block in blocks:
    page.paste(block, (at[0], at[1]))
    at[axis] += block.size[axis] + gap
  return page
