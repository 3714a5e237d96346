"""Image, pixel and region metrics: exact, and cheaper than one argsort.

Every pixel metric changes only where a defect pixel sits in the ranking. So
the normal pixels, nearly all of them, are merely sorted by value, and the few
defect pixels are looked up among them. No pixel is left out.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from sklearn import metrics as sk_metrics

IMAGE_METRICS = ('image_auroc', 'image_ap', 'image_f1_max')
PIXEL_METRICS = ('pixel_auroc', 'pixel_ap', 'pixel_f1_max')
PIXEL_METRICS += ('aupro_30', 'aupro_05', 'aupro_30_sampled')
PIXEL_METRICS += ('aupro_05_sampled',)
METRICS = IMAGE_METRICS + PIXEL_METRICS
# Those that tables show, with their titles.
HEADLINES = {
  'image_auroc': 'I-AUROC',
  'pixel_auroc': 'P-AUROC',
  'aupro_30': 'AUPRO',
}

_THRESHOLDS = 100  # At which MVTec 3D-AD's evaluator samples the PRO curve.

# Neighbours within an image, diagonals included, never across images.
_EIGHT_CONNECTED = np.zeros((3, 3, 3), bool)
_EIGHT_CONNECTED[1] = True


def evaluate(
  labels: ArrayLike,
  scores: ArrayLike,
  masks: ArrayLike | None,
  maps: ArrayLike | None,
) -> dict[str, float]:
  """Computes all metrics of one test set.

  `aupro_30` and `aupro_05` (Bergmann et al., IJCV 2021) take every threshold,
  as MVTec AD's evaluator does. The `_sampled` ones take 100, as MVTec 3D-AD's
  does, and are a little lower: coarse trapezoids lie below a concave curve.

  Labels `[images]` are 1 for a defective image, 0 for a good one; scores, of
  their shape, are higher if more anomalous. Masks `[images, height, width]` are
  nonzero where a pixel is defective, and maps have that shape; both are None
  without truth. Returns the values of `METRICS`, fractions in [0, 1], NaN where
  one kind of images or pixels is missing. Shapes that disagree, other labels
  and values that are not finite raise a ValueError.
  """
  labels, scores = np.asarray(labels), _finite('scores', scores)
  if labels.ndim != 1 or labels.shape != scores.shape:
    raise ValueError(
      f'labels {labels.shape} and scores {scores.shape}: expected [images] both'
    )
  if not np.isin(labels, (0, 1)).all():
    raise ValueError(
      f'labels hold {np.unique(labels).tolist()}: expected 0 (good) and 1 '
      '(defective) only'
    )
  values, labels = dict.fromkeys(IMAGE_METRICS, np.nan), labels.astype(bool)
  if labels.any() and not labels.all():
    values['image_auroc'] = sk_metrics.roc_auc_score(labels, scores)
    values['image_ap'] = sk_metrics.average_precision_score(labels, scores)
    values['image_f1_max'] = best_f1(labels, scores)[0]
  values = {name: float(value) for name, value in values.items()}
  if masks is None or maps is None:
    return values | dict.fromkeys(PIXEL_METRICS, np.nan)
  masks, maps = np.asarray(masks), _finite('maps', maps)
  if maps.ndim != 3 or masks.shape != maps.shape or len(maps) != len(labels):
    raise ValueError(
      f'masks {masks.shape} and maps {maps.shape} for {len(labels)} labels: '
      'expected both as [images, height, width]'
    )
  return values | pixel_metrics(masks != 0, maps)


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
  """Computes the area under the ROC curve of images or pixels, in [0, 1].

  `labels` are nonzero for positives; NaN where there is one kind only. Equal
  rankings give equal areas, as pairs are counted in whole numbers.
  """
  positive, scores = np.asarray(labels) != 0, _finite('scores', scores)
  if positive.shape != scores.shape:
    shapes = f'labels {positive.shape} and scores {scores.shape}'
    raise ValueError(f'{shapes}: expected equal shapes')
  # Sorted, the positives are found much faster: neighbours share cache lines.
  positives = np.sort(scores[positive])
  normals = np.sort(scores[~positive])
  if not positives.size or not normals.size:
    return np.nan
  below = np.searchsorted(normals, positives, 'left').sum(dtype=np.int64)
  up_to = np.searchsorted(normals, positives, 'right').sum(dtype=np.int64)
  return float((below + up_to) / (2 * positives.size * normals.size))


def _finite(name: str, values: ArrayLike) -> np.ndarray:
  array = np.asarray(values)
  if array.dtype not in (np.float32, np.float64):
    array = array.astype(np.float64)
  if not np.isfinite(array).all():
    count = array.size - np.isfinite(array).sum()
    raise ValueError(
      f'{name}: {count} of {array.size} values are NaN or infinite, expected '
      'finite ones; check the training loss and the input images'
    )
  return array


def best_f1(
  labels: np.ndarray, scores: np.ndarray
) -> tuple[float, float | None]:
  """Returns images' best F1 and its threshold; NaN, None for one kind only."""
  if labels.all() or not labels.any():
    return np.nan, None
  precision, recall, thresholds = sk_metrics.precision_recall_curve(
    labels, scores
  )
  total = precision + recall
  # Both are zero where no defective image scores above the threshold.
  f1 = 2 * precision * recall / np.where(total > 0, total, 1)
  best = int(f1[:-1].argmax())
  # A verdict is what lies above, so it comes between two scores.
  thresholds = thresholds.astype(np.float64)
  below = np.concatenate([[thresholds[0] - 1], thresholds])
  return float(f1.max()), float((below[best] + thresholds[best]) / 2)


def pixel_metrics(
  defect: np.ndarray, maps: np.ndarray, counted: Any = np.s_[:]
) -> dict[str, float]:
  """Computes `PIXEL_METRICS` of bool masks; maps are `counted` as by `rank`."""
  if defect[:, counted].all() or not defect.any():
    return dict.fromkeys(PIXEL_METRICS, np.nan)
  ranked = rank(defect, maps, counted=counted)
  gained = np.diff(ranked.hits, prepend=0)
  precision = ranked.hits / (ranked.hits + ranked.alarms)
  values = {
    'pixel_auroc': ranked.auroc(),
    'pixel_ap': gained @ precision / ranked.defects,
    'pixel_f1_max': ranked.f1().max(),
    'aupro_30': ranked.aupro(0.3),
    'aupro_05': ranked.aupro(0.05),
    'aupro_30_sampled': ranked.sampled_aupro(0.3),
    'aupro_05_sampled': ranked.sampled_aupro(0.05),
  }
  return {name: float(value) for name, value in values.items()}


class Ranking(NamedTuple):
  """Defect pixels ranked among normal ones, highest first."""

  values: np.ndarray  # Distinct values of defect pixels, descending.
  hits: np.ndarray  # Defect pixels with this value or a higher one.
  overlap: np.ndarray  # The mean share of a region that they cover.
  alarms_above: np.ndarray  # Normal pixels with a higher value.
  alarms: np.ndarray  # Normal pixels with this value or a higher one.
  defects: int  # The number of defect pixels.
  normals: int  # The number of normal pixels.
  samples: np.ndarray  # Normal values at `_THRESHOLDS` even ranks, descending.
  sample_alarms: np.ndarray  # Normal pixels that rank above each sample.

  def f1(self) -> np.ndarray:
    """Returns the F1 of a threshold at each value."""
    return 2 * self.hits / (self.defects + self.hits + self.alarms)

  def overlap_at(self, rates: np.ndarray) -> np.ndarray:
    """Returns the PRO curve: regions' mean overlap at false positive rates."""
    alarms = np.concatenate([[0], self.alarms / self.normals, [1]])
    return np.interp(rates, alarms, np.concatenate([[0], self.overlap, [1]]))

  def auroc(self) -> float:
    """Returns the area under the ROC curve of pixels."""
    gained = np.diff(self.hits, prepend=0)
    # Twice the normal pixels that each value beats, a tie counting half.
    beaten = 2 * self.normals - self.alarms - self.alarms_above
    return float(gained @ beaten / (2 * self.defects * self.normals))

  def aupro(self, limit: float) -> float:
    """Returns the AUPRO up to a false positive rate, from all thresholds."""
    # Two points a value, before and after it passes: between the second and the
    # next value's first point only false alarms come in, and the curve is flat.
    alarms = np.stack([self.alarms_above, self.alarms], axis=1).ravel()
    before = np.append(0, self.overlap[:-1])
    overlaps = np.stack([before, self.overlap], axis=1).ravel()
    return _area(alarms, overlaps, self.normals, limit)

  def sampled_aupro(self, limit: float) -> float:
    """Returns the AUPRO up to a false positive rate, from the samples."""
    # A region's pixel is found when it scores above the threshold.
    found = np.searchsorted(-self.values, -self.samples, 'left')
    overlap = np.append(0, self.overlap)[found]
    return _area(self.sample_alarms, overlap, self.normals, limit)


def rank(
  defect: np.ndarray,
  maps: np.ndarray,
  more: ArrayLike = (),
  counted: Any = np.s_[:],
) -> Ranking:
  """Ranks the defect pixels of `[images, height, width]` among the normal ones.

  `more` are sorted scores of further normal pixels, left out of `samples`.
  Normal pixels count only where an image's are `counted`, an index of them.
  """
  regions = np.empty(defect.shape, np.int32)
  ndimage.label(defect, structure=_EIGHT_CONNECTED, output=regions)
  region = regions[defect] - 1
  sizes = np.bincount(region)
  weights = 1 / (sizes[region] * sizes.size)
  values = maps[defect]
  order = np.argsort(values)[::-1]
  values = values[order]
  # Tied pixels pass any threshold together: keep the last of each value.
  last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
  values = values[last]
  normals = np.sort(maps[:, counted][~defect[:, counted]])
  more = np.asarray(more, maps.dtype)
  count = normals.size + more.size
  # There may be none: a defect can cover a whole region of interest.
  samples = min(normals.size, _THRESHOLDS)
  ranks = np.linspace(0, normals.size - 1, samples, dtype=int)[::-1]

  def higher(side) -> np.ndarray:
    lower = np.searchsorted(normals, values, side)
    return count - lower - np.searchsorted(more, values, side)

  return Ranking(
    values=values,
    hits=last + 1,
    # The sum of many small weights may pass 1 by a rounding error.
    overlap=np.minimum(np.cumsum(weights[order])[last], 1),
    alarms_above=higher('right'),
    alarms=higher('left'),
    defects=region.size,
    normals=count,
    samples=normals[ranks],
    sample_alarms=normals.size - 1 - ranks,
  )


def _area(
  alarms: np.ndarray, overlaps: np.ndarray, normals: int, limit: float
) -> float:
  """Returns a PRO curve's mean up to a false positive rate."""
  x = np.concatenate([[0], alarms / normals, [1]])
  y = np.concatenate([[0], overlaps, [1]])
  inside = x <= limit
  x_inside = np.append(x[inside], limit)
  y_inside = np.append(y[inside], np.interp(limit, x, y))
  return float(np.trapezoid(y_inside, x_inside) / limit)
