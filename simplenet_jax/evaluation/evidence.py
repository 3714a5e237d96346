"""What the report shows of a category: curves, and small pictures of its tests.

All test images of a run share `PAGE_BYTES`: pictures are as large as that
affords, and of very many images only the most telling ones are shown.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import metrics as sklearn_metrics

from simplenet_jax.data import loading
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.data.record import place
from simplenet_jax.evaluation import metrics, miniatures, results
from simplenet_jax.evaluation.judge import Judge
from simplenet_jax.training.record import Record

# Of all pictures and outlines on a page, as they are embedded.
PAGE_BYTES = 20_000_000
# Bytes of one test image's: with fewer nothing can be seen, more are no use.
_LEAST, _MOST = 5_000, 24_000
_POINTS = 200  # Of a curve.
_AHEAD = 8  # Images whose pictures are under way or waiting.


def write(
  workdir: Path,
  inputs: Inputs,
  judge: Judge,
  records: Sequence[Record],
  images: int,
) -> None:
  """Writes `report/<category>.json`.

  The scores and maps shown are the mean over seeds after the last epoch, as a
  detector's are.

  Args:
    workdir: The run's directory.
    inputs: The category.
    judge: Of the category.
    records: Of its heads that were not given up, at least one.
    images: Test images of the whole run, that share the page.
  """
  each = [record.scores[record.job.epochs] for record in records]
  patches = np.stack(each).mean(axis=0)
  scores = patches.max(axis=(1, 2))
  pixels = None
  if judge.masks is not None and 0 < judge.masks.mean() < 1:
    maps = judge.maps(patches[judge.known])
    pixels = metrics.pixel_curves(judge.masks, maps)
  best = None if pixels is None else pixels.best
  shown = select(judge.labels, scores, len(scores) * _shown(images) // images)
  found = {
    'seeds': [record.job.seed for record in records],
    'roc': [
      _roc(judge, patch_scores.max(axis=(1, 2))) for patch_scores in each
    ],
    'pro': None if pixels is None else _pro(pixels),
    'threshold': best_f1(judge.labels, scores),
    'pixel_threshold': best,
    'images': [
      {
        **_names(inputs, index),
        'score': float(scores[index]),
        'scores': [float(one[index].max()) for one in each],
      }
      for index in range(len(scores))
    ],
  }
  maps = judge.maps(patches[shown])
  limits = found['limits'] = float(np.median(maps)), float(maps.max())
  most = min(_MOST, PAGE_BYTES // _shown(images))

  def pictured(place: int) -> dict[str, Any]:
    index = int(shown[place])
    return miniatures.make(
      inputs.test_image(index),
      inputs.test[index].map_to_original(maps[place]),
      inputs.original_mask(index),
      limits,
      best,
      most,
    )

  pictures = loading.in_order(pictured, range(len(shown)), _AHEAD)
  for index, picture in zip(shown, pictures, strict=True):
    found['images'][index] |= picture
  results.write_json(path(workdir, inputs.name), found)


def _shown(images: int) -> int:
  """Returns how many of a run's test images a page has room for."""
  return min(images, PAGE_BYTES // _LEAST)


def select(labels: np.ndarray, scores: np.ndarray, most: int) -> np.ndarray:
  """Picks the images to show: where there are too many, the likeliest errors.

  Args:
    labels: 0 for normal, 1 for defective images, int `[images]`.
    scores: `[images]`, float.
    most: How many; at least one is picked.

  Returns:
    Their places, ascending: the good ones that score highest and the defective
    ones that score lowest, half of each where there are as many.
  """
  most = max(most, 1)
  good, bad = np.flatnonzero(labels == 0), np.flatnonzero(labels)
  good = good[np.argsort(-scores[good], kind='stable')]
  bad = bad[np.argsort(scores[bad], kind='stable')]
  few = max((most + 1) // 2, most - len(bad))
  good = good[:few]
  return np.sort(np.concatenate([good, bad[: most - len(good)]]))


def path(workdir: Path, category: str) -> Path:
  """Returns where a category's evidence lies."""
  return workdir / 'report' / f'{category}.json'


def _names(inputs: Inputs, index: int) -> dict[str, Any]:
  sample = inputs.category.test[index]
  return {
    'name': f'{sample.defect}/{place(sample.path).name}',
    'defect': sample.defect,
    'label': int(sample.label),
  }


def _roc(judge: Judge, scores: np.ndarray) -> list[list[float]] | None:
  if not judge.can_select:
    return None
  alarms, hits, _ = sklearn_metrics.roc_curve(judge.labels, scores)
  return _thinned(alarms, hits)


def _pro(pixels: metrics.PixelCurves) -> list[list[float]]:
  """Returns the curve up to a false positive rate of .3."""
  end = np.interp(0.3, pixels.alarms, pixels.overlaps)
  inside = pixels.alarms < 0.3
  return _thinned(
    np.append(pixels.alarms[inside], 0.3),
    np.append(pixels.overlaps[inside], end),
  )


def _thinned(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
  """Keeps points at equal distances along a curve, and both ends."""
  length = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.diff(y))])
  span = max(float(length[-1]), 1e-12)
  steps = np.linspace(0, span, _POINTS)
  kept = np.unique([*np.searchsorted(length, steps), 0, len(x) - 1])
  return np.round([x[kept], y[kept]], 5).T.tolist()


def best_f1(labels: np.ndarray, scores: np.ndarray) -> float | None:
  """Returns the image threshold with the best F1 on these very images.

  Args:
    labels: 0 for normal, 1 for defective images, int `[images]`.
    scores: `[images]`, float.

  Returns:
    Where a score above it is called defective; None with one kind only.
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
