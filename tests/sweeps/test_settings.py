"""Sweeps' settings, without training."""

import pytest

from simplenet_jax import config as configs
from simplenet_jax.sweeps import settings

SIGMAS = {'a': {'train.sigma': 0.1}, 'b': {'train.sigma': 0.2}}


def expand(*, view='table', axis='', given=(), only='', **variants):
  config = settings.sweep(
    'x', 'X', settings.base('demo'), variants or {'a': {}}, view, axis
  )
  config.only = only
  for field, value in given:
    config.base.update_from_flattened_dict({field: value})
  return config, settings.expand(config)


def folders(**variants):
  config, runs = expand(**variants)
  return [settings.folder(config, label, one) for label, one in runs.items()]


def test_runs_are_named_after_what_they_change():
  assert folders(
    same={'backbone.levels': (2, 3)},  # As the base has.
    more={'train.sigma': 0.3, 'backbone.levels': (1, 2)},
    weights={'backbone.weights': 'some/file.safetensors'},
  ) == [
    'base',
    'backbone.levels=1+2,train.sigma=0.3',
    'backbone.weights=some_file.safetensors',
  ]


def test_changes_without_end_still_have_a_name_that_disks_take():
  fields = configs.flatten(configs.from_protocol('fast'))
  many = {f: v for f, v in fields.items() if f.startswith(('train', 'data.'))}
  names = folders(one=many, other=many | {'train.sigma': 0.7})
  assert len(set(names)) == 2
  assert all(len(name.encode()) <= 160 for name in names)


def test_weights_follow_the_backbone():
  config, _ = expand(a={'backbone.name': 'resnet50'}, b={})
  config.weights.resnet50 = 'file.safetensors'
  runs = settings.expand(config)
  assert runs['a'].backbone.weights == 'file.safetensors'
  assert runs['b'].backbone.weights == ''
  assert config.base.backbone.name == 'efficientnet_lite0'


@pytest.mark.parametrize(
  ('match', 'mistake'),
  [
    (r'--config\.train\.sigma is -1', {'a': {'train.sigma': -1.0}}),
    (r'a variant changes train\.sgima', {'a': {'train.sgima': 1.0}}),
    ("view is 'lines'; choose one of table", {'view': 'lines'}),
    (r"axis is 'head\.adaptor'", {'view': 'line', 'axis': 'head.adaptor'}),
    (
      r'--config\.only has c; choose of a, b',
      {'a': {}, 'b': {}, 'only': 'a,c'},
    ),
    ('takes a name: --config.base', {'a': {'backbone.name': 'auto'}}),
    ('one and two have the same', {'one': {}, 'two': {'train.sigma': 0.25}}),
    (
      r'--config\.base\.train\.sigma is what this sweep varies',
      SIGMAS | {'given': [('train.sigma', 0.3)]},
    ),
  ],
)
def test_mistakes_in_a_config_are_told_before_anything_is_trained(
  match, mistake
):
  with pytest.raises(ValueError, match=match):
    expand(**mistake)


def test_the_config_of_a_sweep_is_told_from_a_runs():
  with pytest.raises(ValueError, match='is the config of a sweep'):
    configs.check_config(expand()[0])
  with pytest.raises(ValueError, match='choose another base'):
    configs.load_config('study/last_epoch:fast')
