"""Sweeps' settings and numbers, without training."""

import types

import pytest

from simplenet_jax.data.builders.mvtec_ad import CATEGORIES
from simplenet_jax.evaluation import metrics
from simplenet_jax.sweeps import numbers, settings


def make(**variants):
  return settings.sweep('table2', 'Levels', settings.base('demo'), variants)


def test_runs_are_named_after_what_they_change():
  config = make(same={}, more={'train.sigma': 0.3, 'backbone.levels': (1, 2)})
  runs = settings.expand(config)
  names = {label: settings.folder(config.base, r) for label, r in runs.items()}
  assert names == {
    'same': 'base',
    'more': 'backbone.levels=1+2,train.sigma=0.3',
  }


def test_a_value_that_the_base_has_is_no_change():
  config = make(same={'backbone.levels': (2, 3)})
  (run,) = settings.expand(config).values()
  assert settings.folder(config.base, run) == 'base'


def test_what_heads_change_shares_features_and_what_features_need_does_not():
  config = make(
    a={},
    b={'train.sigma': 3.0, 'head.adaptor': 'mlp', 'seeds': (4,)},
    c={'patch.size': 5},
    d={'backbone.levels': (1,)},
  )
  alike = {
    label: settings.alike(run) for label, run in settings.expand(config).items()
  }
  assert alike['a'] == alike['b']
  assert len(set(alike.values())) == 3


def test_weights_follow_the_backbone():
  config = make(a={'backbone.name': 'resnet50'}, b={})
  config.weights.resnet50 = 'file.safetensors'
  runs = settings.expand(config)
  assert runs['a'].backbone.weights == 'file.safetensors'
  assert runs['b'].backbone.weights == ''


def test_the_base_is_left_as_it_is_and_values_are_checked():
  config = make(a={'train.sigma': -1.0})
  with pytest.raises(ValueError, match=r'--config\.train\.sigma is -1'):
    settings.expand(config)
  assert config.base.train.sigma == 0.6


def outcome(config, label, categories, backbone='wide_resnet50_2'):
  summary = {'mean': 0.99, 'std': 0.01, 'seeds': [0.98, 1.0]}
  figures = dict.fromkeys(metrics.METRICS, summary)
  results = {
    'categories': {name: {'last': figures} for name in categories},
    'mean': {'last': figures, 'selected_on_test': figures},
    'selected_on_test': {n: {**figures, 'epochs': [1, 2]} for n in categories},
    'selection_rule': '',
    'device': {},
    'versions': {},
    'weights': {'sha256': ''},
    'published': [],
  }
  run = settings.expand(config)[label]
  run.backbone.name = backbone
  folder = types.SimpleNamespace(name=label)
  return types.SimpleNamespace(
    label=label,
    results=results,
    run=types.SimpleNamespace(config=run, workdir=folder),
  )


@pytest.mark.parametrize(
  ('categories', 'backbone', 'compared'),
  [
    (CATEGORIES, 'wide_resnet50_2', True),
    (CATEGORIES[:2], 'wide_resnet50_2', False),
    (CATEGORIES, 'resnet18', False),
  ],
)
def test_the_papers_figures_are_subtracted_only_from_their_like(
  categories, backbone, compared
):
  config = make(**{'2+3': {}})
  one = outcome(config, '2+3', categories, backbone)
  (row,) = numbers.collect(config, [one])['rows']
  paper = row['paper']
  assert paper['percent'] == {'image_auroc': 99.6, 'pixel_auroc': 98.1}
  if compared:
    difference = paper['ours_minus_paper']['image_auroc']
    assert difference == pytest.approx(-0.6)
  else:
    assert paper['ours_minus_paper'] is None


def test_an_unknown_view_is_told_before_anything_is_trained():
  with pytest.raises(ValueError, match="view is 'lines'; choose one of table"):
    settings.sweep('x', 'X', settings.base('demo'), {'a': {}}, view='lines')
