"""What the page of a run is made of: scores, and small pictures with maps."""

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simplenet_jax import pictures
from simplenet_jax.data import images, loading
from simplenet_jax.data.frame import Frame
from simplenet_jax.evaluation import run_files
from simplenet_jax.evaluation.testset import Scored

MOST_SHOWN = 2_000  # Test images on a page: about 30 MB.
# Longest sides of what the page embeds, in pixels; browsers enlarge it.
_PICTURE, _HEAT = 480, 128
_LEVELS = 254  # Values of a map that are told apart; 0 is not looked at.

Row = dict[str, Any]  # What the page knows of an image.


def path_in(workdir: Path, category: str) -> Path:
  """Returns where the page's data of a category lie."""
  return workdir / 'report' / f'{category}.json'


def tested(
  found: Scored, patch_scores: Iterable[np.ndarray], total: int, low: float
) -> list[Row]:
  """Returns rows of all test images, the likely errors with pictures.

  Scores are also of each seed's `patch_scores`. Pictures are as many as fit a
  page with the run's `total` test images; maps are told from the score `low`
  up. The truth is an SVG path in a square of side 100.
  """
  inputs = found.inputs
  by_seed = [found.test.image_scores(one) for one in patch_scores]
  rows: list[Row] = [
    {
      'name': f'{sample.defect}/{images.place(sample.path).name}',
      'defect': sample.defect,
      'label': int(sample.label),
      'score': float(found.scores[index]),
      'scores': [float(one[index]) for one in by_seed],
    }
    for index, sample in enumerate(inputs.category.test)
  ]
  count = max(1, len(rows) * min(total, MOST_SHOWN) // total)
  order = run_files.hardest(found)
  shown = run_files.in_turn(found.test.labels, order, count)

  def made(index: int) -> Row:
    image, mask = inputs.test_image(index), inputs.truth(index).original
    truth = [] if mask is None else pictures.mask_contours(mask)
    seen = inputs.test[index], found.maps[index], low, inputs.roi
    return {'truth': _as_svg(truth), **embed(image, *seen)}

  every = loading.in_order(made, shown, ahead=8)
  for index, one in zip(shown, every, strict=True):
    rows[index] |= one
  return rows


def embed(
  image: Image.Image,
  frame: Frame,
  input_map: np.ndarray,
  low: float,
  roi: np.ndarray | None,
) -> Row:
  """Returns an image and its map as data URLs, and the `size` of the image.

  The map's values from `low` to `top` are gray levels from 1 up, their squares
  in equal steps; 0 is what is not looked at.
  """
  most = max(image.size)
  small = pictures.resized(image, min(_PICTURE, most), Image.Resampling.BOX)
  coarse = pictures.resized(image, min(_HEAT, most), Image.Resampling.BOX)
  heat = frame.map_to_picture(input_map, coarse, roi)
  top = max(float(np.nanmax(heat)), low + 1e-6)
  # Steps are small where limits lie, below the highest defects.
  levels = 1 + _LEVELS * np.sqrt(((heat - low) / (top - low)).clip(0))
  gray = Image.fromarray(np.nan_to_num(levels).round().astype(np.uint8))
  return {
    'picture': _as_url(small, 'WEBP', quality=60, method=4),
    'heat': _as_url(gray, 'PNG', optimize=True),
    'top': top,
    'size': image.size,
  }


def _as_url(image: Image.Image, form: str, **options: Any) -> str:
  data = io.BytesIO()
  image.save(data, form, **options)
  encoded = base64.b64encode(data.getvalue()).decode()
  return f'data:image/{form.lower()};base64,{encoded}'


def _as_svg(lines: Iterable[np.ndarray]) -> str:
  """Returns closed lines as paths in a square of side 100."""
  return ''.join(
    'M' + ' '.join(f'{x:.1f} {y:.1f}' for x, y in 100 * line) + 'z'
    for line in lines
  )
