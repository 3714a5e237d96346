"""A category's test set, and what patch scores are worth on it."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from simplenet_jax.data.inputs import Inputs
from simplenet_jax.evaluation import metrics
from simplenet_jax.evaluation.results import CategoryResult, summarise
from simplenet_jax.models import simplenet

BLOCK = 32  # Images whose maps are made at a time: memory holds no more.


@dataclasses.dataclass(frozen=True)
class TestSet:
  """The ground truth that scores are compared with."""

  __test__ = False  # The name alone would make pytest collect it.

  labels: np.ndarray  # 0 for normal, 1 for defective images, int `[images]`.
  defects: np.ndarray  # Names of their defects, or of good, str `[images]`.
  has_truth: np.ndarray  # Whether pixel metrics count them, bool `[images]`.
  # Masks of these, bool `[has_truth, *size]`; None where no defect has one.
  masks: np.ndarray | None
  size: tuple[int, int]  # Height and width of the network's input, in pixels.
  smoothing: float  # Sigma of the anomaly maps' Gaussian, in pixels.
  score: str = 'patch'  # Of what an image's score is the highest: or 'map'.
  # Where images are looked at, bool `[*size]`; None: everywhere.
  roi: np.ndarray | None = None

  @classmethod
  def read(
    cls, inputs: Inputs, smoothing: float, score: str = 'patch'
  ) -> 'TestSet':
    """Reads a category's masks."""
    masks = [inputs.truth(index).reduced for index in range(len(inputs.test))]
    known = [mask for mask in masks if mask is not None]
    has_truth = np.array([mask is not None for mask in masks], bool)
    return cls(
      labels=inputs.labels,
      defects=np.array([sample.defect for sample in inputs.category.test]),
      has_truth=has_truth,
      masks=np.stack(known) if inputs.labels[has_truth].any() else None,
      size=inputs.size,
      smoothing=smoothing,
      score=score,
      roi=inputs.roi,
    )

  def maps(self, patch_scores: np.ndarray) -> np.ndarray:
    """Returns the maps, float32 `[images, *size]`, of `[images, H, W]`."""
    maps = np.empty((len(patch_scores), *self.size), np.float32)
    for start in range(0, len(maps), BLOCK):
      some = patch_scores[start : start + BLOCK]
      # Padded, so that one program serves every number of images.
      padded = np.pad(some, [(0, BLOCK - len(some)), (0, 0), (0, 0)])
      padded = simplenet.inside(padded, self.roi)
      made = simplenet.anomaly_maps(padded, self.size, self.smoothing)
      made = simplenet.inside(made, self.roi)
      maps[start : start + BLOCK] = np.asarray(made)[: len(some)]
    return maps

  def image_scores(self, patch_scores: np.ndarray) -> np.ndarray:
    """Returns the images' scores, float32 `[images]`, of `[images, H, W]`."""
    if self.score == 'patch':
      shown = simplenet.inside(patch_scores, self.roi)
      return np.asarray(shown).max(axis=(1, 2))
    starts = range(0, len(patch_scores), BLOCK)
    parts = (self.maps(patch_scores[at : at + BLOCK]) for at in starts)
    return np.concatenate([part.max(axis=(1, 2)) for part in parts])

  def pixel_auroc(self, patch_scores: np.ndarray) -> float:
    """Returns the pixel AUROC in [0, 1] of patch scores `[images, H, W]`."""
    if self.masks is None:
      return math.nan
    maps, here = self.maps(patch_scores[self.has_truth]), self.counted
    return metrics.auroc(self.masks[:, here], maps[:, here])

  @property
  def counted(self) -> Any:
    """What of the maps' pixels metrics count."""
    return np.s_[:] if self.roi is None else self.roi

  def evaluate(self, patch_scores: np.ndarray) -> dict[str, float]:
    """Returns all metrics of patch scores `[images, H, W]`."""
    scores = self.image_scores(patch_scores)
    values = metrics.evaluate(self.labels, scores, None, None)
    if self.masks is None:
      return values
    maps = self.maps(patch_scores[self.has_truth])
    return values | metrics.pixel_metrics(self.masks, maps, self.counted)

  def evaluate_defects(self, patch_scores: np.ndarray) -> dict[str, Any]:
    """Returns each kind's `images` and `HEADLINES`, beside the good images."""
    scores, good = self.image_scores(patch_scores), self.labels == 0
    maps = normal = np.empty(0)
    if self.masks is not None:
      maps = self.maps(patch_scores[self.has_truth])
      # The pixels of good images are the same for every defect: sorted once.
      normal = np.sort(maps[good[self.has_truth]][:, self.counted], axis=None)
    found = {}
    for defect in sorted(set(self.defects[~good])):
      own, seen = (
        self.defects == defect,
        (self.defects == defect)[self.has_truth],
      )
      values = dict.fromkeys(metrics.HEADLINES, math.nan)
      values['image_auroc'] = metrics.auroc(own[own | good], scores[own | good])
      if self.masks is not None and self.masks[seen].any():
        of = self.masks[seen], maps[seen], normal, self.counted
        if (ranked := metrics.rank(*of)).normals:
          values['pixel_auroc'] = ranked.auroc()
          values['aupro_30'] = ranked.aupro(0.3)
      found[str(defect)] = {'images': int(own.sum()), **values}
    return found


@dataclasses.dataclass(frozen=True)
class Scored:
  """A test set with the scores and maps that a detector gives its images."""

  inputs: Inputs
  test: TestSet
  scores: np.ndarray  # float32 `[images]`.
  maps: np.ndarray  # float32 `[images, *size]`.

  @classmethod
  def of(
    cls, inputs: Inputs, test: TestSet, patch_scores: np.ndarray
  ) -> 'Scored':
    """Makes them of patch scores `[images, H, W]`, the mean over heads."""
    maps, by_map = test.maps(patch_scores), test.score == 'map'
    highest = (
      maps.max(axis=(1, 2)) if by_map else test.image_scores(patch_scores)
    )
    return cls(inputs, test, highest, maps)

  def ranked(self) -> metrics.Ranking | None:
    """Ranks the pixels whose truth is known; None: they are of one kind."""
    masks, counted = self.test.masks, self.test.counted
    if masks is None or masks[:, counted].all():
      return None
    return metrics.rank(masks, self.maps[self.test.has_truth], counted=counted)

  def verdicts(self, image: float | None, pixel: float | None) -> Any:
    """Counts what is found beyond limits of image scores and of maps.

    Returns how many of the `defective` images are `found`, also of `kinds`, and
    how many of the `good` ones are `false_alarms`; `pixel_f1` and `pixel_iou`,
    in [0, 1]. What has no limit or no truth is left out.
    """
    found: dict[str, Any] = {'image': image, 'pixel': pixel}
    if image is not None:
      # Not in float32, which would round limits that are set by hand.
      above = self.scores.astype(np.float64) > image
      bad, kinds = self.test.labels != 0, {}
      for kind in sorted(set(self.test.defects[bad])):
        own = above[bad & (self.test.defects == kind)]
        kinds[str(kind)] = {'found': int(own.sum()), 'images': len(own)}
      found |= {
        'found': int(above[bad].sum()),
        'defective': int(bad.sum()),
        'false_alarms': int(above[~bad].sum()),
        'good': int((~bad).sum()),
        'kinds': kinds,
      }
    if pixel is not None and (masks := self.test.masks) is not None:
      beyond = self.maps[self.test.has_truth] > pixel
      both, union = float((beyond & masks).sum()), float((beyond | masks).sum())
      found['pixel_f1'] = 2 * both / (union + both)
      found['pixel_iou'] = both / union
    return found


def evaluate(
  test: TestSet,
  scores: Sequence[Mapping[int, np.ndarray]],
  rank: Callable[[np.ndarray], float] | None = None,
) -> CategoryResult:
  """Evaluates the heads of one category, of which one at least has scores.

  `scores` are each seed's patch scores `[images, H, W]` by epoch, ascending;
  none of a head that was given up, whose metrics are undefined. The epoch that
  is best on the test images is told by `rank`, an epoch's image AUROC.
  """
  undefined = dict.fromkeys(metrics.METRICS, math.nan)
  last, best, epochs = [], [], []
  for by_epoch in scores:
    epoch = end = max(by_epoch, default=0)
    last.append(test.evaluate(by_epoch[end]) if by_epoch else undefined)
    if rank and by_epoch:
      epoch = select_best(
        {at: rank(one) for at, one in by_epoch.items()},
        lambda at, by_epoch=by_epoch: test.pixel_auroc(by_epoch[at]),
      )
    epochs.append(epoch if by_epoch else None)
    best.append(last[-1] if epoch == end else test.evaluate(by_epoch[epoch]))
  found: CategoryResult = {'last': summarise(last)}
  if rank:
    found['selected_on_test'] = {'epochs': epochs, **summarise(best)}
  latest = [one[max(one)] for one in scores if one]
  if len(latest) == len(scores) > 1:
    found['ensemble'] = test.evaluate(np.mean(latest, axis=0))
  by_seed = [test.evaluate_defects(one) for one in latest]
  found['kinds'] = by_seed[0]
  for defect, figures in found['kinds'].items():
    for name in metrics.HEADLINES:
      figures[name] = statistics.fmean(seed[defect][name] for seed in by_seed)
  return found


def auroc(inputs: Inputs, scores: np.ndarray) -> float:
  """Returns the image AUROC in [0, 1] of patch scores `[images, H, W]`."""
  seen = np.asarray(simplenet.inside(scores, inputs.roi))
  return metrics.auroc(inputs.labels, seen.max(axis=(1, 2)))


def select_best(
  image_aurocs: Mapping[int, float], pixel_auroc: Callable[[int], float]
) -> int:
  """Picks the best test epoch by image AUROC, as the released code does.

  Where epochs tie, it is the best by pixel AUROC, which is computed for these
  only; then the earliest. Without masks pixel AUROCs are NaN: all are equal.
  """
  best = max(image_aurocs.values())
  tied = [epoch for epoch, auroc in image_aurocs.items() if auroc == best]
  return max(tied, key=pixel_auroc) if tied[1:] else tied[0]
