"""What a category leaves in the work directory beside its metrics."""

import base64
import collections
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax import pictures
from simplenet_jax.config import Config
from simplenet_jax.data import images, loading
from simplenet_jax.data.frame import Frame
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.evaluation import metrics, results
from simplenet_jax.evaluation.testset import BLOCK, TestSet
from simplenet_jax.files import atomic_write
from simplenet_jax.pictures import Scale, View

MOST_SHOWN = 2_000  # Test images on a page: about 20 MB.
# Longest sides of what a sheet shows and the page embeds; browsers enlarge it.
_SHEET, _PICTURE, _HEAT = 300, 256, 128


def write_curves(
  workdir: Path,
  name: str,
  seeds: Sequence[int],
  history: Mapping[str, np.ndarray],
) -> None:
  """Writes `curves/<name>.csv`; a history is `[seeds, epochs]`."""
  epochs = np.arange(1, history['loss'].shape[1] + 1)
  rows = [
    np.column_stack([np.full_like(epochs, seed), epochs, *values])
    for seed, *values in zip(seeds, *history.values(), strict=True)
  ]
  table = np.concatenate(rows)
  header = ','.join(['seed', 'epoch', *history])
  formats = ['%d'] * 2 + ['%.6g'] * len(history)
  with atomic_write(workdir / 'curves' / f'{name}.csv') as aside:
    np.savetxt(aside, table, formats, ',', header=header, comments='')


def read_losses(workdir: Path, name: str) -> dict[int, list[float]]:
  """Reads back the loss of each epoch, by seed."""
  path = workdir / 'curves' / f'{name}.csv'
  losses = collections.defaultdict[int, list[float]](list)
  if path.is_file():
    _, *rows = path.read_text(encoding='utf-8').splitlines()
    for seed, _, loss, *_ in (row.split(',') for row in rows):
      losses[int(seed)].append(float(loss))
  return losses


def write(
  workdir: Path,
  inputs: Inputs,
  test: TestSet,
  scores: Mapping[int, np.ndarray],
  evaluation: Config,
  total: int,
  scale: Scale | None,
  limit: float | None,
) -> None:
  """Writes a category's picture sheet, maps and report data, as configured.

  They show the mean of `scores` `[images, H, W]` over seeds, as a detector
  does, in the `scale` of its pictures and by its limit of image scores, if the
  run has one. The run's `total` test images share its page.
  """
  mean = np.mean(list(scores.values()), axis=0)
  pro = threshold = None
  wanted = evaluation.pictures or evaluation.report
  if wanted and test.masks is not None and 0 < test.masks.mean() < 1:
    ranked = metrics.rank(test.masks, test.maps(mean[test.has_truth]))
    threshold = float(ranked.values[ranked.f1().argmax()])
    rates = np.linspace(0, 0.3, 200)
    pro = np.stack([rates, ranked.overlap_at(rates)], axis=1)
  seeds = ', '.join(map(str, scores))
  whose = f'mean of seeds {seeds}' if len(scores) > 1 else f'seed {seeds}'
  own = scale is not None and scale.limit is not None
  origin = "the detector's" if own else 'best F1, chosen on test'
  if scale is None:
    maps = test.maps(mean[:BLOCK])
    scale = Scale.of(float(np.median(maps)), float(maps.max()), threshold)
  elif not own:
    scale = scale._replace(limit=threshold)
  if count := evaluation.pictures:
    path = workdir / 'pictures' / f'{inputs.name}.png'
    title = [
      f'{inputs.name}: {whose}, last epoch. Of each kind the hardest images: '
      'good ones that score high, defective ones that score low.',
      'Photograph; ground truth and what was found; heat map'
      + f'. Pixel limit: {origin}' * (scale.limit is not None),
    ]
    _write_sheet(path, title, inputs, test, mean, count, scale, limit)
  if evaluation.maps:
    _write_maps(workdir / 'maps' / inputs.name / 'test', inputs, test, mean)
  if evaluation.report:
    share = max(1, len(mean) * min(total, MOST_SHOWN) // total)
    data = {
      'seeds': list(scores),
      'whose': whose,
      'pro': pro,
      'pixel_threshold': scale.limit,
      'pixel_origin': origin,
      'images': _page_images(inputs, test, scores, mean, share, scale),
    }
    results.write_json(report_path(workdir, inputs.name), data)


def report_path(workdir: Path, category: str) -> Path:
  """Returns where the report's data of a category lie."""
  return workdir / 'report' / f'{category}.json'


def _write_sheet(
  path: Path,
  title: Sequence[str],
  inputs: Inputs,
  test: TestSet,
  patch_scores: np.ndarray,
  count: int,
  scale: Scale,
  limit: float | None,
) -> None:
  """Writes a PNG of the hardest images of all kinds, with truth and maps."""
  image_scores = test.image_scores(patch_scores)
  order = hardest(test, image_scores, limit or 0.0)
  chosen = in_turn(test.defects, order, count)
  chosen.sort(key=order.index)
  cells = []
  for index, one in zip(chosen, test.maps(patch_scores[chosen]), strict=True):
    sample, mask = inputs.category.test[index], inputs.truth(index).original
    image = inputs.test_image(index)
    image = pictures.resized(image, _SHEET, Image.Resampling.LANCZOS)
    name = f'{sample.defect}/{images.place(sample.path).name}'
    heat = _heat(inputs.test[index], one, image)
    view = View(image, heat, scale, name, float(image_scores[index]), limit)
    truth = None if mask is None else pictures.mask_contours(mask)
    cells.append(view.beside(truth, bool(sample.label)))
  pictures.write(path, pictures.sheet(title, cells, scale))


def _heat(frame: Frame, scores: np.ndarray, image: Image.Image) -> np.ndarray:
  """Returns a map in the pixels of an image that was resized."""
  size = image.height, image.width
  return frame._replace(original=size).map_to_original(scores)


def hardest(test: TestSet, scores: np.ndarray, limit: float = 0.0) -> list[int]:
  """Orders images by how right a verdict is: errors come first."""
  above = scores - limit
  return np.argsort(np.where(test.labels, above, -above)).tolist()


def _write_maps(
  folder: Path, inputs: Inputs, test: TestSet, patch_scores: np.ndarray
) -> None:
  """Writes maps in the images' own pixels, named as MVTec AD's evaluator asks.

  Where two images of a defect differ in their suffix only, their maps keep it.
  """
  samples = [
    (one.defect, images.place(one.path)) for one in inputs.category.test
  ]
  names = collections.Counter((defect, path.stem) for defect, path in samples)
  unscored = []
  for (defect, path), one, frame in zip(
    samples, test.maps(patch_scores), inputs.test, strict=True
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


def _page_images(
  inputs: Inputs,
  test: TestSet,
  scores: Mapping[int, np.ndarray],
  mean: np.ndarray,
  count: int,
  scale: Scale,
) -> list[dict[str, Any]]:
  """Returns the page's data of all test images, with `count` likely errors.

  These have pictures as data URLs, and outlines of what masks mark and of what
  scores above the scale's limit as SVG paths in a square of side 100.
  """
  image_scores = test.image_scores(mean)
  by_seed = [test.image_scores(one) for one in scores.values()]
  rows: list[dict[str, Any]] = [
    {
      'name': f'{sample.defect}/{images.place(sample.path).name}',
      'defect': sample.defect,
      'label': int(sample.label),
      'score': float(image_scores[index]),
      'scores': [float(one[index]) for one in by_seed],
    }
    for index, sample in enumerate(inputs.category.test)
  ]
  shown = in_turn(test.labels, hardest(test, image_scores), count)
  maps = test.maps(mean[shown])

  def embed(at: int) -> dict[str, Any]:
    index = shown[at]
    image, mask = inputs.test_image(index), inputs.truth(index).original
    most, box = max(image.size), Image.Resampling.BOX
    small = pictures.resized(image, min(_PICTURE, most), box)
    coarse = pictures.resized(image, min(_HEAT, most), box)
    heat = _heat(inputs.test[index], maps[at], coarse)
    lines = []
    if scale.limit is not None:
      lines = pictures.contours(heat, scale.limit)
    truth = [] if mask is None else pictures.mask_contours(mask)
    return {
      'picture': _embedded(small, 60),
      'heat': _embedded(Image.fromarray(scale.colours(heat)), 50),
      'truth': _as_svg(truth),
      'found': _as_svg(lines),
      'size': image.size,
    }

  made = loading.in_order(embed, range(len(shown)), ahead=8)
  for index, one in zip(shown, made, strict=True):
    rows[index] |= one
  return rows


def in_turn(kinds: Any, order: Iterable[int], count: int) -> list[int]:
  """Picks `count` indices of all kinds in turn, each's first in `order`."""
  seen, turns = collections.Counter(), {}
  for index in order:
    turns[index] = seen[kinds[index]]
    seen[kinds[index]] += 1
  return sorted(sorted(turns, key=turns.__getitem__)[:count])


def _embedded(image: Image.Image, quality: int) -> str:
  data = io.BytesIO()
  image.save(data, 'WEBP', quality=quality, alpha_quality=90, method=4)
  return f'data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}'


def _as_svg(lines: Iterable[np.ndarray]) -> str:
  """Returns closed lines as paths in a square of side 100."""
  return ''.join(
    'M' + ' '.join(f'{x:.1f} {y:.1f}' for x, y in 100 * line) + 'z'
    for line in lines
  )
