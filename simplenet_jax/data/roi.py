"""A region of interest: the part of every image that is looked at.

It is drawn once for a camera that stands still, as a picture or as polygons.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from simplenet_jax.data import images
from simplenet_jax.data.frame import ASPECT_TOLERANCE, Frame, Size, text
from simplenet_jax.files import read_json

_CATEGORY = '{category}'  # Stands for a category's name in a path.
_LARGEST = 4096  # The longer side of polygons' pictures, in pixels.


def read(
  source: str, flag: str, category: str, size: Size, frame: Callable[..., Frame]
) -> np.ndarray:
  """Reads a region, bool `[*input]`, True where images are looked at.

  `source` is a picture, dark where images are not looked at, or a JSON file
  with `size`, [height, width], and lists of polygons of [x, y], in pixels:
  `include`, by default the whole image, and `exclude`. `size` is that of the
  category's images, `frame` what relates images of a size to the input.

  Raises:
    OSError, ValueError: If it cannot be read, has another aspect than the
      images, or leaves no patch of them; names `flag`.
  """
  path = Path(source.replace(_CATEGORY, category)).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file ({flag})')
  try:
    if path.suffix.lower() == '.json':
      region = _polygons(read_json(path))
    else:
      region = images.decode(
        path, lambda one: np.asarray(one.convert('L')) > 127
      )
  except (TypeError, KeyError, IndexError) as error:
    raise ValueError(
      f'{path} ({flag}): expected {{"size": [height, width], "include": '
      f'[[[x, y], ...], ...], "exclude": [...]}}; {error}'
    ) from None
  ratio = (region.shape[0] * size[1]) / (region.shape[1] * size[0])
  if not 1 / ASPECT_TOLERANCE < ratio < ASPECT_TOLERANCE:
    raise ValueError(
      f'{path} ({flag}) is {text(region.shape)} pixels, the images of '
      f'{category} are {text(size)}, of another aspect; draw it on one of them'
    )
  found = to_input(region, frame(region.shape))
  if not found[8::16, 8::16].any():  # The centres of the coarsest patches.
    raise ValueError(f'{path} ({flag}) leaves nothing of {category} to look at')
  return found


def to_input(region: np.ndarray, frame: Frame) -> np.ndarray:
  """Brings a region, bool `[height, width]`, to the network's input."""
  return frame.mask_to_input(region, 'half')[0]


def _polygons(found: Any) -> np.ndarray:
  height, width = map(int, found['size'])
  if not 0 < min(height, width) <= max(height, width) <= 2**16:
    raise TypeError(f'"size" is {found["size"]}')
  if odd := {*found} - {'size', 'include', 'exclude'}:
    raise TypeError(f'{min(odd)!r} is unknown')
  scale = min(1.0, _LARGEST / max(height, width))
  shown = (round(width * scale), round(height * scale))
  drawn = Image.new('1', shown, 'include' not in found)
  draw = ImageDraw.Draw(drawn)
  for name, value in (('include', 1), ('exclude', 0)):
    for polygon in found.get(name, ()):
      corners = [(float(x) * scale, float(y) * scale) for x, y in polygon]
      if len(corners) < 3:
        raise TypeError(f'a polygon has {len(corners)} corners')
      draw.polygon(corners, fill=value)
  return np.asarray(drawn)
