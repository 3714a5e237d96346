import re

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import demo, folder, mvtec, mvtec_fast
from simplenet_jax import config as settings
from simplenet_jax import protocols
from simplenet_jax.config import describe_protocol, flatten, from_protocol
from simplenet_jax.fields import FIELDS
from simplenet_jax.sweeps.settings import expand
from simplenet_jax.training import layout
from simplenet_jax.training.job import Job, step_operations


def test_reference_and_paper_differ_as_the_design_table_says():
  reference, paper = (flatten(from_protocol(n)) for n in ('reference', 'paper'))
  assert {
    field: (value, paper[field])
    for field, value in reference.items()
    if value != paper[field]
  } == {
    'protocol': ('reference', 'paper'),
    'data.resize': (329, 256),
    'data.crop': (288, 224),
    'data.mask_rule': ('reference', 'half'),
    'backbone.padding': ('reflect', 'zeros'),
    'backbone.probe': (True, False),
    'head.adaptor_bias': (True, False),
    'train.batch_size': (8, 4),
    'train.adaptor.optimizer': ('adamw', 'adam'),
    'train.adaptor.weight_decay': (1e-2, 1e-5),
  }


@pytest.mark.parametrize(
  'path',
  [p for p in settings.config_folder().rglob('*.py') if p.stem != '__init__'],
  ids=lambda path: path.stem,
)
def test_shipped_configs_pass_their_check(path):
  name = str(path.relative_to(settings.config_folder()).with_suffix(''))
  config = settings.load_config(name)
  runs = expand(config) if 'variants' in config else {'': config}
  for run in runs.values():
    settings.check_config(run)


def test_of_several_choices_the_first_is_taken_and_told(caplog):
  assert settings.load_config('folder:fast:paper').protocol == 'fast'
  assert 'folder:fast:paper: takes fast, not paper' in caplog.text


def test_config_files_call_protocols_by_name():
  for name in ('reference', 'paper', 'fast', 'combined'):
    found = getattr(protocols, name)()
    assert found.to_dict() == from_protocol(name).to_dict()


def test_every_field_has_a_meaning_and_a_default_that_it_takes():
  for field, one in FIELDS.items():
    assert one.meaning.endswith('.'), field
    assert not one.rule or one.rule.accepts(one.default), field


def test_fast_sees_the_images_and_features_of_reference():
  reference, fast = mvtec.get_config(), mvtec_fast.get_config()
  for part in ('data', 'backbone', 'patch', 'bank', 'head', 'precision'):
    assert getattr(fast, part) == getattr(reference, part)
  assert mvtec.get_config('fast') == fast


# The smallest and the largest category of MVTec AD, and what fills no batch.
@pytest.mark.parametrize('images', [60, 209, 213, 320, 391])
def test_fast_costs_a_tenth_of_reference_at_most(images):
  shapes = [
    jax.ShapeDtypeStruct((side, side, 768), np.float32) for side in (36, 18)
  ]
  costs = {}
  for config in (mvtec.get_config(), mvtec_fast.get_config()):
    job = Job('', 0, images, config.train.batch_size, config.train.epochs)
    costs[config.protocol] = job.steps * step_operations(config, shapes)
  assert costs['fast'] <= costs['reference'] / 10


def test_few_images_of_ones_own_train_whole_epochs_more():
  config, train = folder.get_config('fast'), from_protocol('fast').train
  train.min_steps = 1000
  assert config.train == train
  assert config.data.crop == 0
  images = (1, 16, 17, 48, 128, 129)
  epochs = [layout.epochs_of(config, count) for count in images]
  assert epochs == [1000, 1000, 500, 334, 125, 120]
  for protocol in ('reference', 'paper'):
    assert layout.epochs_of(folder.get_config(protocol), 1) == 160
  # The default takes as many steps however many images there are.
  steps = [
    layout.epochs_of(folder.get_config(), count) * -(-count // 16)
    for count in images
  ]
  assert all(500 <= one < 510 for one in steps)


def test_a_run_says_what_it_changes_in_its_protocol():
  config = mvtec.get_config()
  config.seeds, config.data.categories = (0, 1), ('screw',)
  assert describe_protocol(config.lock()) == 'reference'
  config.train.epochs, config.backbone.levels = 4, (2,)
  assert (
    describe_protocol(config) == 'reference, but backbone.levels, train.epochs'
  )
  assert describe_protocol(demo.get_config()) == 'demo'
  # What a config of the package sets is no change to it.
  config = folder.get_config()
  assert describe_protocol(config) == 'combined (folder)'
  config.data.resize, config.name = 128, 'folder'
  assert describe_protocol(config) == 'combined (folder), but data.resize'
  config.name = '../configs/folder'  # No file is run by a name like this.
  assert describe_protocol(config).startswith('combined, but ')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'trian.sigma': 1}, 'did you mean --config.train.sigma?'),
    ({'lanes': 4}, 'no --config.lanes; did you mean --config.engine.lanes?'),
    ({'bank': 3}, 'no --config.bank.*; there must be --config.bank.cache, '),
    ({'train.epochs': True}, '--config.train.epochs is True, expected a whole'),
    ({'train.sigma': None}, '--config.train.sigma is None, expected a number'),
    ({'backbone.probe': 1}, '--config.backbone.probe is 1, expected True or F'),
    ({'data.root': 7}, '--config.data.root is 7, expected a text'),
    ({'seeds': 7}, '--config.seeds is 7, expected a tuple'),
    ({'backbone.padding': 'zeros'}, 'backbone.probe needs .*padding=reflect'),
    ({'train.epochs': 0, 'train.batch_size': 0}, 'epochs is 0.*; .*size is 0'),
    ({'seeds': (1, 1)}, r'--config.seeds is \(1, 1\), expected one or more d'),
    ({'seeds': ('a', 2)}, 'expected one or more different whole numbers from'),
    ({'seeds': (2**32,)}, 'expected one or more different whole numbers from'),
    ({'precision': 'float64'}, "is 'float64', expected one of float32, tensor"),
    ({'data.crop': 5}, '--config.data.crop is 5, expected 0, or from 32 to 16'),
    ({'data.categories': (1,)}, r'categories is \(1,\), expected names, such'),
    ({'backbone.levels': ('2+3',)}, "is .'2.3',., expected "),
    ({'train.sigma': float('nan')}, '--config.train.sigma is nan, expected a'),
    ({'train.warmup': 1.0}, '--config.train.warmup is 1.0, expected from 0 to'),
  ],
)
def test_what_is_wrong_with_settings_is_told_at_once(change, message):
  plain = from_protocol().to_dict()
  for field, value in change.items():
    section, _, name = field.rpartition('.')
    (plain.setdefault(section, {}) if section else plain)[name] = value
  with pytest.raises(ValueError, match=message):
    settings.check_config(ConfigDict(plain))


def test_whole_numbers_are_numbers_and_lists_tuples():
  config = from_protocol().to_dict()
  config['train']['sigma'], config['seeds'] = 1, [0, 1]
  settings.check_config(ConfigDict(config))


@pytest.mark.parametrize(
  ('resize', 'crop', 'told'),
  [
    (329, 288, ''),
    (512, 448, ''),
    (512, 0, ''),
    (288, 288, ''),
    (512, 288, 'crop is 288 of .* resized to 512: 32 % .* seen; set both, or'),
    (224, 288, 'resize 224 is smaller than crop 288: .* frame of 32 pixels; '),
  ],
)
def test_a_crop_that_fits_no_longer_is_told(resize, crop, told):
  config = from_protocol()
  config.data.resize, config.data.crop = resize, crop
  found = settings.crop_caution(config)
  assert re.match(told, found) if told else not found
  config.protocol = 'mine'  # A run of no protocol may crop as it likes.
  assert bool(settings.crop_caution(config)) == (crop > resize)
