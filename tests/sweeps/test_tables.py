"""Sweeps' numbers, beside the paper's and a baseline's, without training."""

import pathlib

import numpy as np
import pytest
from scipy import stats

from simplenet_jax.data.folder import MVTEC_AD
from simplenet_jax.evaluation import metrics
from simplenet_jax.models import weights
from simplenet_jax.sweeps import best_epoch, settings, tables
from simplenet_jax.sweeps.experiment import Outcome


@pytest.mark.parametrize(
  ('categories', 'backbone', 'recipe', 'epochs', 'compared'),
  [
    (MVTEC_AD, 'wide_resnet50_2', weights.V1, 160, True),
    (MVTEC_AD, 'wide_resnet50_2', weights.UNKNOWN, 160, True),
    (MVTEC_AD, 'wide_resnet50_2', weights.V2, 160, False),
    (MVTEC_AD[:2], 'wide_resnet50_2', weights.V1, 160, False),
    (MVTEC_AD, 'resnet18', weights.V1, 160, False),
    (MVTEC_AD, 'wide_resnet50_2', weights.V1, 40, False),
  ],
)
def test_the_papers_figures_are_subtracted_only_from_their_like(
  categories, backbone, recipe, epochs, compared
):
  config = settings.sweep('table2', 'Levels', settings.base(), {'2+3': {}})
  config.base.train.epochs = epochs
  run = settings.expand(config)['2+3']
  run.backbone.name = backbone
  summary = {'mean': 0.99, 'std': 0.01, 'seeds': [0.98, 1.0]}
  figures = dict.fromkeys(metrics.METRICS, summary)
  results = {
    'categories': {name: {'last': figures} for name in categories},
    'mean': {'last': figures, 'selected_on_test': figures},
    'selected_on_test': {n: {**figures, 'epochs': [1, 2]} for n in categories},
    'selection_rule': '',
    'device': {},
    'versions': {},
    'weights': {'sha256': '', 'recipe': recipe},
    'published': [],
  }
  one = Outcome('2+3', run, pathlib.Path('base'), results)
  (row,) = tables.collect(config, [one], {})['rows']
  assert row['paper']['percent'] == {'image_auroc': 99.6, 'pixel_auroc': 98.1}
  difference = row['paper']['ours_minus_paper']
  if compared:
    assert difference['image_auroc'] == pytest.approx(-0.6)
  else:
    assert difference is None


def test_intervals_are_those_of_a_paired_t_test():
  values, baseline = np.random.default_rng(0).uniform(0.8, 1, (2, 6))
  found = best_epoch.compare(values, baseline, 0.01)
  expected = stats.ttest_rel(values, baseline).confidence_interval(0.95)
  assert found['mean'] == pytest.approx(np.mean(values - baseline))
  assert (found['low'], found['high']) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
  ('values', 'tolerated', 'expected'),
  [
    ([0.9, 0.8, 0.95], 0.002, True),
    ([0.8981, 0.7981, 0.9481], 0.002, True),
    ([0.8979, 0.7979, 0.9479], 0.002, False),
    ([1.0, 0.9, 1.05], 0.0, True),
    ([0.99, 0.801], 0.002, False),  # A wide interval shows nothing.
    ([0.95], 0.002, False),  # One seed has none.
  ],
)
def test_not_inferior_is_what_surely_lies_above_the_margin(
  values, tolerated, expected
):
  baseline = [0.9, 0.8, 0.95][: len(values)]
  found = best_epoch.compare(values, baseline, tolerated)
  assert found['not_inferior'] is expected
  assert (found['low'] is None) == (len(values) == 1)
