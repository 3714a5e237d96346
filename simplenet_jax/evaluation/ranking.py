"""Defect pixels ranked among normal ones, and what the ranking is worth."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

# The false positive rates at which MVTec 3D-AD's evaluator samples the PRO
# curve.
_THRESHOLDS = 100

# Neighbours within an image, diagonals included, never across images.
_EIGHT_CONNECTED = np.zeros((3, 3, 3), bool)
_EIGHT_CONNECTED[1] = True


class Ranking(NamedTuple):
  """The defect pixels' places, one entry per distinct value, highest first.

  Attributes:
    values: The distinct values, descending.
    hits: Defect pixels with this value or a higher one.
    overlap: The mean share of a region that they cover.
    alarms_above: Normal pixels with a higher value.
    alarms: Normal pixels with this value or a higher one.
    defects: Number of defect pixels.
    normals: Number of normal pixels.
    samples: Values of normal pixels at `_THRESHOLDS` equidistant ranks,
      descending.
    sample_alarms: Normal pixels with a rank above each of them.
  """

  values: np.ndarray
  hits: np.ndarray
  overlap: np.ndarray
  alarms_above: np.ndarray
  alarms: np.ndarray
  defects: int
  normals: int
  samples: np.ndarray
  sample_alarms: np.ndarray


def rank(defect: np.ndarray, maps: np.ndarray, more: ArrayLike = ()) -> Ranking:
  """Ranks defect pixels among normal ones.

  Args:
    defect: `[images, height, width]` bool, with pixels of either kind.
    maps: Anomaly maps of that shape.
    more: Scores of normal pixels of other images, sorted. They do not count for
      `samples`.
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
  normals, more = np.sort(maps[~defect]), np.asarray(more, maps.dtype)
  count = normals.size + more.size
  ranks = np.linspace(0, normals.size - 1, _THRESHOLDS, dtype=int)[::-1]

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


def auroc(ranked: Ranking) -> float:
  """Returns the area under the ROC curve of pixels."""
  gained = np.diff(ranked.hits, prepend=0)
  # Twice the normal pixels that each value beats, a tie counting half.
  beaten = 2 * ranked.normals - ranked.alarms - ranked.alarms_above
  return float(gained @ beaten / (2 * ranked.defects * ranked.normals))


def sampled_aupro(ranked: Ranking, limit: float) -> float:
  """Returns the AUPRO up to a false positive rate, from sampled thresholds."""
  # A region's pixel is found when it scores above the threshold.
  found = np.searchsorted(-ranked.values, -ranked.samples, 'left')
  overlap = np.append(0, ranked.overlap)[found]
  return _area(ranked.sample_alarms, overlap, ranked.normals, limit)


def aupro(ranked: Ranking, limit: float) -> float:
  """Returns the AUPRO up to a false positive rate, from all thresholds."""
  # Two points a value, before and after it passes: between the second and the
  # next value's first point only false alarms come in, and the curve is flat.
  alarms = np.stack([ranked.alarms_above, ranked.alarms], axis=1).ravel()
  before = np.append(0, ranked.overlap[:-1])
  overlaps = np.stack([before, ranked.overlap], axis=1).ravel()
  return _area(alarms, overlaps, ranked.normals, limit)


def _area(
  alarms: np.ndarray, overlaps: np.ndarray, normals: int, limit: float
) -> float:
  """Integrates a PRO curve up to a false positive rate, as a share of it."""
  x = np.concatenate([[0], alarms / normals, [1]])
  y = np.concatenate([[0], overlaps, [1]])
  inside = x <= limit
  x_inside = np.append(x[inside], limit)
  y_inside = np.append(y[inside], np.interp(limit, x, y))
  return float(np.trapezoid(y_inside, x_inside) / limit)
