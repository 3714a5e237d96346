"""What a category leaves in the work directory beside its metrics."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax import pictures
from simplenet_jax.colours import Scale
from simplenet_jax.console import numbers
from simplenet_jax.data import images
from simplenet_jax.evaluation.testset import Scored
from simplenet_jax.files import atomic_write, csv_text
from simplenet_jax.pictures import View

_SHEET = 300  # The longer side of a photograph on a sheet, in pixels.


def write_curves(
  workdir: Path, name: str, heads: Mapping[int, Mapping[str, np.ndarray]]
) -> None:
  """Writes `curves/<name>.csv`: values `[epochs]` of heads, by seed."""
  rows = [['seed', 'epoch', *next(iter(heads.values()))]]
  for seed, values in heads.items():
    for epoch, means in enumerate(zip(*values.values(), strict=True), 1):
      rows.append([f'{seed}', f'{epoch}', *(f'{one:.6g}' for one in means)])
  with atomic_write(workdir / 'curves' / f'{name}.csv') as aside:
    aside.write_text(csv_text(rows))


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
