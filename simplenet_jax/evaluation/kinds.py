"""What heads' scores are worth on each kind of defect."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from simplenet_jax.evaluation import metrics, ranking
from simplenet_jax.evaluation.judge import Judge

METRICS = ('image_auroc', 'pixel_auroc', 'aupro_30')

# By kind of defect: its number of `images`, and `METRICS`.
Figures = dict[str, dict[str, float]]


def evaluate(judge: Judge, patch_scores: np.ndarray) -> Figures:
  """Returns what each kind of defect's images score against the good ones.

  Args:
    judge: Of the category.
    patch_scores: `[images, H, W]`.

  Returns:
    The figures, NaN where one is undefined.
  """
  scores, masks = patch_scores.max(axis=(1, 2)), judge.masks
  good = judge.labels == 0
  maps, normal = np.empty(0), np.empty(0)
  if masks is not None:
    maps = judge.maps(patch_scores[judge.known])
    normal = np.sort(maps[good[judge.known]], axis=None)
  found = {}
  for kind in sorted(set(judge.kinds[~good])):
    of_kind = ~good & (judge.kinds == kind)
    shown = of_kind | good
    values = dict.fromkeys(METRICS, float('nan'))
    values['image_auroc'] = metrics.auroc(of_kind[shown], scores[shown])
    seen = of_kind[judge.known]
    if masks is not None and masks[seen].any():
      ranked = ranking.rank(masks[seen], maps[seen], normal)
      if ranked.normals:
        values['pixel_auroc'] = ranking.auroc(ranked)
        values['aupro_30'] = ranking.aupro(ranked, 0.3)
    found[str(kind)] = {'images': int(of_kind.sum()), **values}
  return found


def mean(per_seed: Sequence[Mapping[str, Mapping[str, float]]]) -> Figures:
  """Averages the figures of kinds of defects over seeds.

  Args:
    per_seed: Of every seed, from `evaluate`.
  """
  return {
    kind: {
      name: value
      if name == 'images'
      else statistics.fmean(seed[kind][name] for seed in per_seed)
      for name, value in figures.items()
    }
    for kind, figures in per_seed[0].items()
  }
