"""What a category leaves beside its metrics: pictures, maps, a page's data."""

import base64
import collections
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax import pictures
from simplenet_jax.console import numbers
from simplenet_jax.data import images, loading
from simplenet_jax.data.frame import Frame
from simplenet_jax.evaluation.testset import Scored
from simplenet_jax.files import csv_text, write_text
from simplenet_jax.pictures import Scale, View

_SHEET = 300  # The longer side of a photograph on a sheet, in pixels.
MOST_SHOWN = 2_000  # Test images on a page: about 30 MB.
# Longest sides of what the page embeds, in pixels; browsers enlarge it.
_PICTURE, _HEAT = 480, 128
_LEVELS = 254  # Values of a map that are told apart; 0 is not looked at.

Row = dict[str, Any]  # What the page knows of an image.


def write_curves(
  workdir: Path, name: str, heads: Mapping[int, Mapping[str, np.ndarray]]
) -> None:
  """Writes `curves/<name>.csv`: values `[epochs]` of heads, by seed."""
  rows = [['seed', 'epoch', *next(iter(heads.values()))]]
  for seed, values in heads.items():
    for epoch, means in enumerate(zip(*values.values(), strict=True), 1):
      rows.append([f'{seed}', f'{epoch}', *(f'{one:.6g}' for one in means)])
  write_text(workdir / 'curves' / f'{name}.csv', csv_text(rows))


def read_losses(workdir: Path, name: str) -> dict[int, list[float]]:
  """Reads back the loss of each epoch, by seed."""
  path = workdir / 'curves' / f'{name}.csv'
  losses = collections.defaultdict[int, list[float]](list)
  if path.is_file():
    _, *rows = path.read_text(encoding='utf-8').splitlines()
    for seed, _, loss, *_ in (row.split(',') for row in rows):
      losses[int(seed)].append(float(loss))
  return losses


def write_sheet(
  path: Path,
  whose: str,
  found: Scored,
  count: int,
  scale: Scale,
  limit: float | None,
  origins: Sequence[str],
) -> None:
  """Writes a PNG of the hardest images of all kinds, with truth and maps.

  They have the colours of a detector's pictures, and verdicts by a limit of
  image scores. Where this and the limit of pixels are from, `origins` say.
  """
  title = [
    f'{found.inputs.name}: {whose}, last epoch. Of each kind the hardest '
    'images: good ones that score high, defective ones that score low.',
    'Photograph; ground truth and what was found; heat map.',
  ]
  limits = zip(('Image', 'Pixel'), (limit, scale.limit), origins, strict=True)
  for kind, at, origin in limits:
    if at is not None:
      title.append(f'{kind} limit {numbers(at)[0]}: {origin}.')
  order = hardest(found, limit or 0.0)
  chosen = in_turn(found.test.defects, order, count)
  chosen.sort(key=order.index)
  cells, inputs = [], found.inputs
  for index in chosen:
    sample, mask = inputs.category.test[index], inputs.truth(index).original
    image = inputs.test_image(index)
    image = pictures.resized(image, _SHEET, Image.Resampling.LANCZOS)
    name = f'{sample.defect}/{images.place(sample.path).name}'
    frame = inputs.test[index]
    heat = frame.map_to_picture(found.maps[index], image, inputs.roi)
    view = View(image, heat, scale, name, float(found.scores[index]), limit)
    truth = None if mask is None else pictures.mask_contours(mask)
    cells.append(view.beside(truth, bool(sample.label)))
  pictures.write(path, pictures.sheet(title, cells, scale))


def hardest(found: Scored, limit: float = 0.0) -> list[int]:
  """Orders images by how right a verdict is: errors come first."""
  above = found.scores - limit
  return np.argsort(np.where(found.test.labels, above, -above)).tolist()


def write_maps(folder: Path, found: Scored) -> None:
  """Writes maps in the images' own pixels, named as MVTec AD's evaluator asks.

  Where two images of a defect differ in their suffix only, their maps keep it.
  """
  inputs = found.inputs
  samples = [(x.defect, images.place(x.path)) for x in inputs.category.test]
  names = collections.Counter((defect, path.stem) for defect, path in samples)
  unscored = []
  for (defect, path), one, frame in zip(
    samples, found.maps, inputs.test, strict=True
  ):
    heat = frame.map_to_original(one)
    unscored.append(np.isnan(heat).mean())
    name = path.stem if names[defect, path.stem] == 1 else path.name
    images.write_map(folder / defect / f'{name}.tiff', heat, one.min())
  if share := np.mean(unscored):
    logging.warning(
      f"{inputs.name}: the crop leaves {100 * share:.0f} % of the maps' pixels "
      "unscored; they are written as the map's lowest score"
    )


def in_turn(kinds: Any, order: Iterable[int], count: int) -> list[int]:
  """Picks `count` indices of all kinds in turn, each's first in `order`."""
  seen, turns = collections.Counter(), {}
  for index in order:
    turns[index] = seen[kinds[index]]
    seen[kinds[index]] += 1
  return sorted(sorted(turns, key=turns.__getitem__)[:count])


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
  order = hardest(found)
  shown = in_turn(found.test.labels, order, count)

  def made(index: int) -> Row:
    image, mask = inputs.test_image(index), inputs.truth(index).original
    svg, lines = '', [] if mask is None else pictures.mask_contours(mask)
    for line in lines:
      points = (f'{x:.1f} {y:.1f}' for x, y in 100 * line)
      svg += f'M{" ".join(points)}z'
    seen = inputs.test[index], found.maps[index], low, inputs.roi
    return {'truth': svg, **embed(image, *seen)}

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
    'picture': as_url(small.save, 'webp', quality=60, method=4),
    'heat': as_url(gray.save, 'png', optimize=True),
    'top': top,
    'size': image.size,
  }


def as_url(save: Callable[..., object], kind: str, **options: Any) -> str:
  """Returns as a URL the picture that `save` writes, in a form as 'png'."""
  data = io.BytesIO()
  save(data, format=kind, **options)
  kind = 'svg+xml' if kind == 'svg' else kind
  return (
    f'data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}'
  )
