import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import demo, folder, mvtec, mvtec_fast
from simplenet_jax import protocols
from simplenet_jax.training import estimate, plan, setup


def test_reference_and_paper_differ_as_the_design_table_says():
  reference, paper = mvtec.get_config(), mvtec.get_config('paper')
  assert (reference.data.resize, reference.data.crop) == (329, 288)
  assert (paper.data.resize, paper.data.crop) == (256, 224)
  assert (reference.train.batch_size, paper.train.batch_size) == (8, 4)
  assert reference.train.adaptor.to_dict() == {
    'optimizer': 'adamw',
    'learning_rate': 1e-4,
    'weight_decay': 1e-2,
  }
  assert paper.train.adaptor.to_dict() == {
    'optimizer': 'adam',
    'learning_rate': 1e-4,
    'weight_decay': 1e-5,
  }
  assert (reference.backbone.padding, reference.backbone.probe) == (
    'reflect',
    True,
  )
  assert (paper.backbone.padding, paper.backbone.probe) == ('zeros', False)
  assert (reference.data.mask_rule, paper.data.mask_rule) == (
    'reference',
    'half',
  )
  assert reference.head.adaptor_bias
  assert not paper.head.adaptor_bias
  assert reference.train.discriminator == paper.train.discriminator


@pytest.mark.parametrize('config', [demo, folder, mvtec, mvtec_fast])
def test_shipped_configs_pass_their_check(config):
  protocols.check(config.get_config())


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
    recipe = setup.make_recipe(config, (0, 768))
    head = jax.eval_shape(
      lambda config=config, recipe=recipe: setup.init_head(
        config, (0, 768), recipe, setup.head_key(0, '')
      )
    )
    job = plan.Job('', 0, images, config.train.batch_size, config.train.epochs)
    costs[config.protocol] = job.steps * estimate.step_flops(
      shapes, recipe, head
    )
  assert costs['fast'] <= costs['reference'] / 10


def test_a_users_images_are_never_cropped_nor_given_the_demos_backbone():
  config = folder.get_config()
  assert config.data.crop == 0
  assert config.backbone.name == 'wide_resnet50_2'


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('seeds', ()),
    ('seeds', (1, 1)),
    ('seeds', ('a', 'b')),
    ('seeds', (2**32,)),
    ('precision', 'float64'),
    ('data.resize', 8),
    ('data.crop', 5),
    ('train.epochs', 0),
    ('train.sigma', 0.0),
    ('train.sigma', float('nan')),
    ('train.patches', -1),
    ('train.schedule', 'linear'),
    ('train.warmup', 1.0),
    ('train.average', -1.0),
    ('train.noise', 'wide'),
    ('train.discriminator.weight_decay', -1.0),
    ('evaluation.every', 0),
  ],
)
def test_values_out_of_range_are_named(field, value):
  config = protocols.reference()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ValueError, match=f'--config.{field} is .* expected '):
    protocols.check(config)


def test_a_probe_needs_reflected_borders():
  config = protocols.reference()
  config.backbone.padding = 'zeros'
  with pytest.raises(ValueError, match=r'backbone\.probe needs .*=reflect'):
    protocols.check(config)


def test_a_run_says_what_it_changes_in_its_protocol():
  config = mvtec.get_config()
  config.seeds, config.data.categories = (0, 1), ('screw',)
  assert protocols.followed(config.lock()) == 'reference'
  config.train.epochs, config.backbone.levels = 4, (2,)
  assert (
    protocols.followed(config) == 'reference, but backbone.levels, train.epochs'
  )
  assert protocols.followed(mvtec.get_config('paper')) == 'paper'
  assert protocols.followed(demo.get_config()) == 'demo'
  assert protocols.followed(folder.get_config()).startswith('reference, but ')


def test_all_problems_are_told_at_once():
  config = protocols.reference()
  config.train.epochs = config.train.batch_size = 0
  with pytest.raises(ValueError, match=r'epochs is 0.*; .*batch_size is 0'):
    protocols.check(config)


def test_configs_do_not_load_jax():
  code = 'import sys, configs.mvtec; sys.exit("jax" in sys.modules)'
  subprocess.run([sys.executable, '-c', code], check=True, timeout=60)
