"""What the report shows of a category: curves, and small pictures of its tests.

Pictures are as large as the page affords: all test images of a run share
`PAGE_BYTES`.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import contourpy
import matplotlib as mpl
import numpy as np
from PIL import Image
from sklearn import metrics as sklearn_metrics

from simplenet_jax.data.inputs import Inputs
from simplenet_jax.data.record import place
from simplenet_jax.evaluation import metrics, results
from simplenet_jax.evaluation.judge import Judge
from simplenet_jax.training.record import Record

# Of all pictures and outlines on a page, as they are embedded.
PAGE_BYTES = 20_000_000
_MOST = 24_000  # Bytes of one test image's, however few there are.
_SIDES = (320, 256, 192, 128, 96, 64)
_QUALITIES = (80, 60, 40, 20, 5)
_HEAT_SIDE = 80  # Maps are smooth: the browser enlarges them.
_POINTS = 200  # Of a curve.


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
  maps = judge.maps(patches)
  scores = patches.max(axis=(1, 2))
  pixels = None
  if judge.masks is not None and 0 < judge.masks.mean() < 1:
    pixels = metrics.pixel_curves(judge.masks, maps[judge.known])
  limits = float(np.median(maps)), float(maps.max())
  best = None if pixels is None else pixels.best
  budget = int(min(_MOST, PAGE_BYTES / max(images, 1)))
  found = {
    'seeds': [record.job.seed for record in records],
    'roc': [
      _roc(judge, patch_scores.max(axis=(1, 2))) for patch_scores in each
    ],
    'pro': None if pixels is None else _pro(pixels),
    'threshold': best_f1(judge.labels, scores),
    'pixel_threshold': best,
    'limits': limits,
    'images': [
      {
        **_names(inputs, index),
        'score': float(scores[index]),
        **_pictures(inputs, index, maps[index], limits, best, budget),
      }
      for index in range(len(inputs.test))
    ],
  }
  results.write_json(path(workdir, inputs.name), found)


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


def _pictures(
  inputs: Inputs,
  index: int,
  heat: np.ndarray,
  limits: tuple[float, float],
  threshold: float | None,
  budget: int,
) -> dict[str, Any]:
  """Returns a test image, its heat map and outlines, in `budget` bytes."""
  whole = inputs.test_image(index)
  heat = inputs.test[index].map_to_original(heat)
  mask = inputs.original_mask(index)
  width, height = whole.size
  small = _shrunk(Image.fromarray(heat), _HEAT_SIDE)
  found = {
    'size': [width, height],
    'heat': _heat(np.asarray(small), limits),
    'truth': '',
    'found': '',
  }
  if mask is not None and mask.any():
    share = Image.fromarray(mask.astype(np.float32))
    found['truth'] = _outline(np.asarray(_shrunk(share, 2 * _HEAT_SIDE)), 0.5)
  if threshold is not None:
    found['found'] = _outline(np.asarray(small), threshold)
  spent = sum(len(found[key]) for key in ('heat', 'truth', 'found'))
  return {'picture': _fitted(whole, budget - spent), **found}


def _shrunk(image: Image.Image, side: int) -> Image.Image:
  scale = min(1, side / max(image.size))
  size = [max(1, round(length * scale)) for length in image.size]
  # Not a filter that spreads NaN.
  kind = Image.Resampling.NEAREST if image.mode == 'F' else None
  return image.resize((size[0], size[1]), kind)


def _fitted(image: Image.Image, most: int) -> str:
  """Encodes an image as large and as well as fits into some bytes."""
  found = ''
  for side in _SIDES:
    small = image.copy()
    small.thumbnail((side, side))
    for quality in _QUALITIES:
      found = _embedded(small, quality)
      if len(found) <= most:
        return found
  return found


def _heat(heat: np.ndarray, limits: tuple[float, float]) -> str:
  """Colours a map; what was not scored is left out."""
  low, high = limits
  level = np.clip((heat - low) / max(high - low, 1e-12), 0, 1)
  colours = mpl.colormaps['turbo'](np.nan_to_num(level), bytes=True)
  colours[..., 3] = np.where(np.isnan(heat), 0, 255)
  return _embedded(Image.fromarray(colours), 50)


def _embedded(image: Image.Image, quality: int) -> str:
  data = io.BytesIO()
  image.save(data, 'WEBP', quality=quality, alpha_quality=20, method=4)
  return f'data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}'


def _outline(values: np.ndarray, level: float) -> str:
  """Returns where a map passes a level, as an SVG path; sides are 100 long."""
  height, width = values.shape
  padded = np.pad(
    np.nan_to_num(values, nan=-1e9), 1, constant_values=min(0, level) - 1e9
  )
  # Far below on the outside would draw the line too far inside.
  padded = np.maximum(padded, level - 1)
  lines: Any = contourpy.contour_generator(z=padded).lines(level)
  parts = []
  for line in lines:
    x = np.clip((line[:, 0] - 0.5) / width, 0, 1) * 100
    y = np.clip((line[:, 1] - 0.5) / height, 0, 1) * 100
    kept = slice(None, None, max(1, len(x) // 60))
    points = zip(x[kept], y[kept], strict=True)
    parts.append('M' + 'L'.join(f'{a:.1f} {b:.1f}' for a, b in points) + 'z')
  # Many small ones say nothing that the heat map does not.
  return ''.join(sorted(parts, key=len, reverse=True)[:8])
