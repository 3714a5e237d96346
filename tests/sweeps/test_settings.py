"""Sweeps' settings and numbers, without training."""

import types

import pytest

from simplenet_jax.config import check_config, flatten, from_protocol
from simplenet_jax.data.folder import MVTEC_AD
from simplenet_jax.evaluation import metrics
from simplenet_jax.models import weights
from simplenet_jax.sweeps import numbers, settings


def make(**variants):
  return settings.sweep('table2', 'Levels', settings.base('demo'), variants)


def test_runs_are_named_after_what_they_change():
  config = make(same={}, more={'train.sigma': 0.3, 'backbone.levels': (1, 2)})
  runs = settings.expand(config)
  names = {
    label: settings.folder(config, label, r) for label, r in runs.items()
  }
  assert names == {
    'same': 'base',
    'more': 'backbone.levels=1+2,train.sigma=0.3',
  }


def test_a_value_that_the_base_has_is_no_change():
  config = make(same={'backbone.levels': (2, 3)})
  (run,) = settings.expand(config).values()
  assert settings.folder(config, 'same', run) == 'base'


def test_changes_without_end_still_have_a_name_that_disks_take():
  fields = flatten(from_protocol('fast'))
  many = {f: v for f, v in fields.items() if f.startswith(('train', 'data.'))}
  config = make(one=many, other=many | {'train.sigma': 0.7})
  names = {
    settings.folder(config, label, run)
    for label, run in settings.expand(config).items()
  }
  assert len(names) == 2
  assert all(len(name.encode()) <= 160 for name in names)


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
    config=run,
    workdir=folder,
  )


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
  one = outcome(config, '2+3', categories, backbone)
  one.results['weights']['recipe'] = recipe
  (row,) = numbers.collect(config, [one], {})['rows']
  paper = row['paper']
  assert paper['percent'] == {'image_auroc': 99.6, 'pixel_auroc': 98.1}
  if compared:
    difference = paper['ours_minus_paper']['image_auroc']
    assert difference == pytest.approx(-0.6)
  else:
    assert paper['ours_minus_paper'] is None


def test_an_unknown_view_is_told_before_anything_is_trained():
  with pytest.raises(ValueError, match="view is 'lines'; choose one of table"):
    expand(view='lines')


def expand(*, view='table', axis='', given=(), **variants):
  config = settings.sweep(
    'x', 'X', settings.base('demo'), variants or {'a': {}}, view, axis
  )
  for field, value in given:
    config.base.update_from_flattened_dict({field: value})
  return settings.expand(config)


def test_mistakes_in_a_config_are_told_before_anything_is_trained():
  for match, mistake in {
    r'a variant changes train\.sgima': {'a': {'train.sgima': 1.0}},
    r"axis is 'head\.adaptor'": {'view': 'line', 'axis': 'head.adaptor'},
    'one and two have the same settings': {
      'one': {},
      'two': {'train.sigma': 0.6},
    },
    r'--config\.base\.train\.sigma is what this sweep varies': {
      'a': {'train.sigma': 0.1},
      'b': {'train.sigma': 0.2},
      'given': [('train.sigma', 0.3)],
    },
  }.items():
    with pytest.raises(ValueError, match=match):
      expand(**mistake)
  with pytest.raises(ValueError, match='is the config of one run'):
    settings.expand(settings.base('demo'))
  with pytest.raises(ValueError, match='is the config of a sweep'):
    check_config(make(a={}))


def test_weights_can_be_what_varies():
  runs = {
    'a': {'backbone.weights': 'some/file.safetensors'},
    'b': {'backbone.weights': 'other/file.safetensors'},
  }
  config = make(**runs)
  assert {
    settings.folder(config, label, run)
    for label, run in settings.expand(config).items()
  } == {
    'backbone.weights=some_file.safetensors',
    'backbone.weights=other_file.safetensors',
  }
