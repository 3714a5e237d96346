"""What a category leaves in the work directory beside its metrics."""

import collections
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax.config import Config
from simplenet_jax.data import loading
from simplenet_jax.data.images import (
  colour_limits,
  heated,
  outlined,
  place,
  write_map,
)
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.evaluation import metrics, pictures, results
from simplenet_jax.evaluation.testset import TestSet
from simplenet_jax.files import atomic_write

MOST_SHOWN = 2_000  # Test images on a page: about 20 MB.
_COURSE = ('epoch', 'loss', 'p_normal', 'p_counterfeit')
_CURVE_POINTS = 200
_AHEAD = 8  # Thumbnails that are under way or wait.


def write_curves(
  workdir: Path,
  name: str,
  seeds: Sequence[int],
  history: Mapping[str, np.ndarray],
) -> None:
  """Writes how a category's training went, as `curves/<name>.png` and `.csv`.

  `history` has the epochs' mean `loss`, `p_normal` and `p_counterfeit`, float
  `[seeds, epochs]`.
  """
  pictures.write_curves(workdir / 'curves' / f'{name}.png', name, history)
  rows: list[list[object]] = [['seed', 'epoch', *history]]
  for head, seed in enumerate(seeds):
    columns = [values[head] for values in history.values()]
    for epoch, values in enumerate(zip(*columns, strict=True)):
      rows.append([seed, epoch + 1, *(f'{value:.6g}' for value in values)])
  with (
    atomic_write(workdir / 'curves' / f'{name}.csv') as aside,
    aside.open('w', newline='') as file,
  ):
    csv.writer(file, lineterminator='\n').writerows(rows)


def read_curves(workdir: Path, name: str) -> dict[str, np.ndarray]:
  """Reads back epoch, loss and shares, `[epochs, 4]`, by seed."""
  path = workdir / 'curves' / f'{name}.csv'
  if not path.is_file():
    return {}
  found: dict[str, list[list[float]]] = {}
  with path.open(newline='', encoding='utf-8') as lines:
    for row in csv.DictReader(lines):
      point = [float(row[key]) for key in _COURSE]
      found.setdefault(row['seed'], []).append(point)
  return {seed: np.array(points) for seed, points in found.items()}


def write(
  workdir: Path,
  inputs: Inputs,
  test: TestSet,
  scores: Mapping[int, np.ndarray],
  evaluation: Config,
  images: int,
) -> None:
  """Writes a category's picture sheet, maps and report data, as configured.

  All of them show the mean of `scores` `[images, H, W]` over seeds, as a
  detector does. The page is shared by the `images` test images of the run.
  """
  mean = np.mean(list(scores.values()), axis=0)
  if evaluation.pictures:
    title = (
      f'{inputs.name}: {describe_seeds(list(scores))}, last epoch. Image, '
      'ground truth, anomaly map, image score.'
    )
    path = workdir / 'pictures' / f'{inputs.name}.png'
    write_sheet(path, title, inputs, test, mean, evaluation.pictures)
  if evaluation.maps:
    _write_maps(workdir / 'maps' / inputs.name / 'test', inputs, test, mean)
  if evaluation.report:
    _write_report_data(workdir, inputs, test, scores, mean, images)


def describe_seeds(seeds: Sequence[int]) -> str:
  """Returns whose scores are shown, in words."""
  names = ', '.join(map(str, seeds))
  return f'mean of seeds {names}' if len(seeds) > 1 else f'seed {names}'


def write_sheet(
  path: Path,
  title: str,
  inputs: Inputs,
  test: TestSet,
  patch_scores: np.ndarray,
  count: int,
  *,
  threshold: float | None = None,
) -> None:
  """Writes a PNG of at most `count` test images, their ground truth and maps.

  What lies above a threshold is outlined on the map, of `patch_scores`
  `[images, H, W]`.
  """
  samples = inputs.category.test
  chosen = pictures.pick([sample.defect for sample in samples], count)
  maps = test.maps(patch_scores[chosen])
  low, high = limits = colour_limits(maps)
  cells = []
  for index, one in zip(chosen, maps, strict=True):
    sample, mask = samples[index], inputs.truth(index).original
    heat = inputs.test[index].map_to_original(one)
    image = inputs.test_image(index)
    scale = pictures.SHEET_SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    shown = heated(image, heat, limits)
    if threshold is not None:
      shown = outlined(shown, heat >= threshold)
    caption = f'{sample.defect}/{place(sample.path).stem}'
    truth = image.convert('L').convert('RGB')
    if mask is None:
      caption += ', no ground truth'
    else:
      truth = outlined(image, mask)
    score = f'{patch_scores[index].max():.3f}'
    cells.append((caption, score, [image, truth, shown]))
  title = f'{title} Colours from {low:.2f} (blue) to {high:.2f} (red).'
  pictures.write_sheet(path, title, cells)


def _write_maps(
  folder: Path, inputs: Inputs, test: TestSet, patch_scores: np.ndarray
) -> None:
  """Writes maps in the original images' pixels for MVTec AD's evaluator.

  It reads `<defect>/<stem>.tiff`. Where two images of a defect differ in their
  suffix only, their maps keep it.
  """
  samples = [(one.defect, place(one.path)) for one in inputs.category.test]
  names = collections.Counter((defect, path.stem) for defect, path in samples)
  unscored = pixels = 0
  for (defect, path), one, frame in zip(
    samples, test.maps(patch_scores), inputs.test, strict=True
  ):
    heat = frame.map_to_original(one)
    unscored += np.count_nonzero(np.isnan(heat))
    pixels += heat.size
    name = path.stem if names[defect, path.stem] == 1 else path.name
    write_map(folder / defect / f'{name}.tiff', heat, one.min())
  if unscored:
    logging.warning(
      "%s: the crop leaves %.0f %% of the maps' pixels unscored; they are "
      "written as the map's lowest score",
      inputs.name,
      100 * unscored / pixels,
    )


def report_path(workdir: Path, category: str) -> Path:
  """Returns where the report's data of a category lie."""
  return workdir / 'report' / f'{category}.json'


def _write_report_data(
  workdir: Path,
  inputs: Inputs,
  test: TestSet,
  scores: Mapping[int, np.ndarray],
  mean: np.ndarray,
  images: int,
) -> None:
  image_scores = mean.max(axis=(1, 2))
  pro = pixel_threshold = None
  if test.masks is not None and 0 < test.masks.mean() < 1:
    maps = test.maps(mean[test.has_truth])
    alarms, overlaps, pixel_threshold = metrics.pixel_curves(test.masks, maps)
    rates = np.linspace(0, 0.3, _CURVE_POINTS)
    pro = [*zip(rates, np.interp(rates, alarms, overlaps), strict=True)]
  rows: list[dict[str, Any]] = [
    {
      'name': f'{sample.defect}/{place(sample.path).name}',
      'defect': sample.defect,
      'label': int(sample.label),
      'score': float(image_scores[index]),
      'scores': [float(one[index].max()) for one in scores.values()],
    }
    for index, sample in enumerate(inputs.category.test)
  ]
  share = len(rows) * min(images, MOST_SHOWN) // images
  shown = select_shown(test.labels, image_scores, share)
  maps = test.maps(mean[shown])
  limits = colour_limits(maps)

  def thumbnail(position: int) -> dict[str, Any]:
    index = int(shown[position])
    return pictures.thumbnail(
      inputs.test_image(index),
      inputs.test[index].map_to_original(maps[position]),
      inputs.truth(index).original,
      limits,
      pixel_threshold,
    )

  made = loading.in_order(thumbnail, range(len(shown)), _AHEAD)
  for index, one in zip(shown, made, strict=True):
    rows[index] |= one
  data = {
    'seeds': list(scores),
    'pro': pro,
    'pixel_threshold': pixel_threshold,
    'images': rows,
    'limits': limits,
  }
  results.write_json(report_path(workdir, inputs.name), data)


def select_shown(
  labels: np.ndarray, scores: np.ndarray, count: int
) -> np.ndarray:
  """Returns the ascending indices of `count` images, the likeliest errors.

  They are the good ones that score highest and the defective ones that score
  lowest, half of each where there are as many.
  """
  count = max(count, 1)
  good, bad = np.flatnonzero(labels == 0), np.flatnonzero(labels)
  good = good[np.argsort(-scores[good], kind='stable')]
  bad = bad[np.argsort(scores[bad], kind='stable')]
  good = good[: max((count + 1) // 2, count - len(bad))]
  return np.sort(np.concatenate([good, bad[: count - len(good)]]))
