"""A region of interest: the part of every image that is looked at.

It is drawn once for a camera that stands still, as a picture or as polygons.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from simplenet_jax.data import decoding, images
from simplenet_jax.data.frame import ASPECT_TOLERANCE, Frame, text
from simplenet_jax.files import naming, read_json

_GRAY = 0.1  # The share of pixels that may be neither dark nor bright.
_CATEGORY = '{category}'  # Stands for a category's name in a path.
_LONGEST = 2**15  # The longer side of an image with polygons, in pixels.


def read(source: str, flag: str, category: str) -> np.ndarray:
  """Reads a region, bool `[height, width]`, True where images are looked at.

  `source` is a picture, dark where images are not looked at, or a JSON file
  with the `size` [height, width] of the image that polygons are drawn on, and
  lists of them, each of points [x, y] in pixels: `include`, by default the
  whole image, and `exclude`. Raises an OSError or a ValueError that names the
  file and the `flag` that gave it.
  """
  path = Path(source.replace(_CATEGORY, category)).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file ({flag})')
  if path.suffix.lower() != '.json':
    return images.decode(path, _drawn)
  remedy = (
    f'{flag} takes {{"size": [height, width], "include": [[[x, y], ...], ...], '
    '"exclude": [...]}'
  )
  with naming(path, remedy):
    found = read_json(path, remedy)
    height, width = map(int, found['size'])
    if not 0 < min(height, width) <= max(height, width) <= _LONGEST:
      raise ValueError(f'"size" is {found["size"]}')
    if odd := {*found} - {'size', 'include', 'exclude'}:
      raise ValueError(f'{min(odd)!r} is unknown')
    drawn = Image.new('1', (width, height), 'include' not in found)
    draw = ImageDraw.Draw(drawn)
    for name, value in (('include', 1), ('exclude', 0)):
      for polygon in found.get(name, ()):
        corners = [(float(x), float(y)) for x, y in polygon]
        if len(corners) < 3 or not np.isfinite(corners).all():
          raise ValueError(f'a polygon is {polygon}')
        draw.polygon(corners, fill=value)
    return np.asarray(drawn)


def to_input(
  region: np.ndarray, frame: Frame, source: str, aspect: tuple[float, float]
) -> np.ndarray:
  """Brings a region to the network's input, bool `[*input]`.

  Raises a ValueError that names the `source` if width : height is beyond the
  lowest and the highest `aspect` of the images, or if no patch is left.
  """
  ratio, (low, high) = region.shape[1] / region.shape[0], aspect
  if not low / ASPECT_TOLERANCE <= ratio <= high * ASPECT_TOLERANCE:
    raise ValueError(
      f'{source} is {text(region.shape)} pixels (height x width), of another '
      'aspect than the images; draw it on one of them'
    )
  found, _ = frame.mask_to_input(region, 'half')
  # A patch counts if its centre does: none may in a line, or in a dot.
  if not (found[4::8, 4::8].any() and found[8::16, 8::16].any()):
    raise ValueError(f'{source} leaves nothing to look at')
  return found


def _drawn(image: Image.Image) -> np.ndarray:
  gray = np.asarray(decoding.upright(image).convert('L'))
  if ((gray > 63) & (gray < 192)).mean() > _GRAY:
    raise ValueError(
      'it has many grays, as a photograph; paint black what is not looked at, '
      'and white what is'
    )
  return gray > 127
