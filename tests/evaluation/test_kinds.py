"""What heads' scores are worth on each kind of defect."""

import dataclasses

import numpy as np
import pytest

from simplenet_jax.evaluation import kinds
from simplenet_jax.evaluation.judge import Judge


def make_kinds():
  """Two good images, two of a kind with masks, one of a kind without."""
  masks = np.zeros((4, 8, 8), bool)
  masks[2:, :4, :4] = True
  judge = Judge(
    labels=np.array([0, 0, 1, 1, 1]),
    kinds=np.array(['good', 'good', 'cut', 'cut', 'stain']),
    known=np.array([0, 1, 2, 3]),
    masks=masks,
    size=(8, 8),
    smoothing=0.0,
  )
  scores = np.zeros((5, 8, 8), np.float32)
  scores[2:, :4, :4] = [[[3]], [[1]], [[-1]]]
  scores[0, 7, 7] = 2
  scores[4] -= 1
  return judge, scores


def test_kinds_of_defects_are_measured_against_the_good_images():
  judge, scores = make_kinds()
  found = kinds.evaluate(judge, scores)
  assert list(found) == ['cut', 'stain']
  # Of four pairs 3 > 2, 3 > 0, 1 < 2, 1 > 0; all four of the other are lost.
  assert found['cut']['images'] == 2
  assert found['cut']['image_auroc'] == 3 / 4
  assert found['stain']['images'] == 1
  assert found['stain']['image_auroc'] == 0
  # One false alarm of 2 * 64 + 2 * 48 normal pixels lies between the regions.
  assert found['cut']['pixel_auroc'] == 1 - 0.5 / 224
  assert found['cut']['aupro_30'] == pytest.approx(1 - 0.5 / 224 / 0.3)
  assert np.isnan(found['stain']['pixel_auroc'])
  assert np.isnan(found['stain']['aupro_30'])


def test_one_kind_has_the_figures_of_the_whole():
  judge, scores = make_kinds()
  judge = dataclasses.replace(judge, labels=np.array([0, 0, 1, 1, 0]))
  whole = judge.evaluate(scores)
  assert kinds.evaluate(judge, scores) == {
    'cut': {'images': 2, **{name: whole[name] for name in kinds.METRICS}}
  }
