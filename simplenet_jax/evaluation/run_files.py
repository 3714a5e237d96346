"""What a category leaves in the work directory beside its metrics."""

import collections
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from sklearn import metrics as sklearn_metrics

from simplenet_jax.config import Config
from simplenet_jax.data import loading
from simplenet_jax.data.images import place
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.evaluation import metrics, pictures, results
from simplenet_jax.evaluation.testset import TestSet
from simplenet_jax.files import written_aside

MOST_SHOWN = 2_000  # Test images on a page: about 20 MB.
_CURVE_POINTS = 200
_AHEAD = 8  # Thumbnails that are under way or wait.


def write_curves(
  workdir: Path,
  name: str,
  seeds: Sequence[int],
  history: Mapping[str, np.ndarray],
) -> None:
  """Writes the course of training, `curves/<name>.png` and `.csv`.

  Args:
    workdir: The run's directory.
    name: The category's.
    seeds: One per head.
    history: `loss`, `p_normal`, `p_counterfeit`: the epochs' means, float
      `[seeds, epochs]`.
  """
  pictures.write_curves(workdir / 'curves' / f'{name}.png', name, history)
  rows: list[list[object]] = [['seed', 'epoch', *history]]
  for head, seed in enumerate(seeds):
    columns = [values[head] for values in history.values()]
    for epoch, values in enumerate(zip(*columns, strict=True)):
      rows.append([seed, epoch + 1, *(f'{value:.6g}' for value in values)])
  with (
    written_aside(workdir / 'curves' / f'{name}.csv') as aside,
    aside.open('w', newline='') as file,
  ):
    csv.writer(file, lineterminator='\n').writerows(rows)


def write(
  workdir: Path,
  inputs: Inputs,
  test: TestSet,
  scores: Mapping[int, np.ndarray],
  evaluation: Config,
  images: int,
) -> None:
  """Writes a category's picture sheet, maps and report data, as configured.

  All of them show the mean over seeds, as a detector does.

  Args:
    workdir: The run's directory.
    inputs: The category.
    test: Its test set.
    scores: Patch scores `[images, H, W]` by seed, at least one.
    evaluation: The section of a config.
    images: Test images of the whole run, which share the page.
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
  """Says whose scores are shown."""
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
  """Writes a sheet of a category's test images.

  Args:
    path: The PNG file.
    title: The line above; how the colours are to be read is added.
    inputs: The category.
    test: Its test set.
    patch_scores: `[images, H, W]`.
    count: How many images to show at most.
    threshold: Of the map, to outline what lies above; None outlines nothing.
  """
  samples = inputs.category.test
  chosen = pictures.pick([sample.defect for sample in samples], count)
  maps = test.maps(patch_scores[chosen])
  tiles = []
  for index, one in zip(chosen, maps, strict=True):
    sample, heat = samples[index], inputs.test[index].map_to_original(one)
    found = None
    if threshold is not None:
      found = np.nan_to_num(heat, nan=-np.inf) >= threshold
    tiles.append(
      pictures.Tile(
        caption=f'{sample.defect}/{place(sample.path).stem}',
        image=inputs.test_image(index),
        mask=inputs.original_mask(index),
        heat=heat,
        score=float(patch_scores[index].max()),
        found=found,
      )
    )
  low, high = limits = pictures.limits(maps)
  title = f'{title} Colours from {low:.2f} (blue) to {high:.2f} (red).'
  pictures.write_sheet(path, title, tiles, limits=limits)


def _write_maps(
  folder: Path, inputs: Inputs, test: TestSet, patch_scores: np.ndarray
) -> None:
  """Writes anomaly maps in the original images' pixels.

  They lie as the MVTec AD evaluator reads them, `<defect>/<stem>.tiff`. Where
  two images of a defect differ in their suffix only, their maps keep it.
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
    pictures.write_map(folder / defect / f'{name}.tiff', heat, one.min())
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
  by_seed = {seed: one.max(axis=(1, 2)) for seed, one in scores.items()}
  image_scores = mean.max(axis=(1, 2))
  curves = None
  if test.masks is not None and 0 < test.masks.mean() < 1:
    maps = test.maps(mean[test.has_truth])
    curves = metrics.pixel_curves(test.masks, maps)
  pixel_threshold = None if curves is None else curves.best
  rows: list[dict[str, Any]] = [
    {
      'name': f'{sample.defect}/{place(sample.path).name}',
      'defect': sample.defect,
      'label': int(sample.label),
      'score': float(image_scores[index]),
      'scores': [float(one[index]) for one in by_seed.values()],
    }
    for index, sample in enumerate(inputs.category.test)
  ]
  share = len(rows) * min(images, MOST_SHOWN) // images
  shown = select_shown(test.labels, image_scores, share)
  maps = test.maps(mean[shown])
  limits = pictures.limits(maps)

  def thumbnail(position: int) -> dict[str, Any]:
    index = int(shown[position])
    return pictures.thumbnail(
      inputs.test_image(index),
      inputs.test[index].map_to_original(maps[position]),
      inputs.original_mask(index),
      limits,
      pixel_threshold,
    )

  made = loading.in_order(thumbnail, range(len(shown)), _AHEAD)
  for index, one in zip(shown, made, strict=True):
    rows[index] |= one
  data = {
    'seeds': list(scores),
    'roc': [_roc(test, one) for one in by_seed.values()],
    'pro': None if curves is None else _pro(curves),
    'threshold': best_f1(test.labels, image_scores),
    'pixel_threshold': pixel_threshold,
    'images': rows,
    'limits': limits,
  }
  results.write_json(report_path(workdir, inputs.name), data)


def select_shown(
  labels: np.ndarray, scores: np.ndarray, count: int
) -> np.ndarray:
  """Picks the images to show: where there are too many, the likeliest errors.

  Args:
    labels: 0 for normal, 1 for defective images, int `[images]`.
    scores: `[images]`, float.
    count: How many; at least one is picked.

  Returns:
    Their indices, ascending: the good ones that score highest and the defective
    ones that score lowest, half of each where there are as many.
  """
  count = max(count, 1)
  good, bad = np.flatnonzero(labels == 0), np.flatnonzero(labels)
  good = good[np.argsort(-scores[good], kind='stable')]
  bad = bad[np.argsort(scores[bad], kind='stable')]
  good = good[: max((count + 1) // 2, count - len(bad))]
  return np.sort(np.concatenate([good, bad[: count - len(good)]]))


def _roc(test: TestSet, scores: np.ndarray) -> list[list[float]] | None:
  if not test.can_select:
    return None
  alarms, hits, _ = sklearn_metrics.roc_curve(test.labels, scores)
  return _thinned(alarms, hits)


def _pro(curves: metrics.PixelCurves) -> list[list[float]]:
  """Returns the curve up to a false positive rate of .3."""
  inside = curves.alarms < 0.3
  end = np.interp(0.3, curves.alarms, curves.overlaps)
  return _thinned(
    np.append(curves.alarms[inside], 0.3),
    np.append(curves.overlaps[inside], end),
  )


def _thinned(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
  """Keeps points at equal distances along a curve, and both ends."""
  length = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.diff(y))])
  span = max(float(length[-1]), 1e-12)
  steps = np.linspace(0, span, _CURVE_POINTS)
  kept = np.unique([*np.searchsorted(length, steps), 0, len(x) - 1])
  return np.round([x[kept], y[kept]], 5).T.tolist()


def best_f1(labels: np.ndarray, scores: np.ndarray) -> float | None:
  """Returns the image threshold with the best F1 on these very images.

  Args:
    labels: 0 for normal, 1 for defective images, int `[images]`.
    scores: `[images]`, float.

  Returns:
    The score above which an image is called defective; None with one kind only.
  """
  if not 0 < labels.sum() < len(labels):
    return None
  precision, recall, thresholds = sklearn_metrics.precision_recall_curve(
    labels, scores
  )
  total = precision + recall
  f1 = 2 * precision * recall / np.where(total > 0, total, 1)
  best = int(f1[:-1].argmax())
  # A verdict is what lies above, so it comes between two scores.
  thresholds = thresholds.astype(np.float64)
  below = np.concatenate([[thresholds[0] - 1], thresholds])
  return float((below[best] + thresholds[best]) / 2)
