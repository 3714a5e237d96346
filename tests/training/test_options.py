"""What a recipe can do beside the protocols: drawn patches, averages, rates."""

import numpy as np
import pytest

from simplenet_jax.training import bank
from tests.small import make_categories, make_config
from tests.training.ran import Ran

SIZES = {'bolt': 9, 'nut': 7}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return make_categories(tmp_path_factory.mktemp('data'), SIZES)


def configure(root, backbone):
  config = make_config(root, backbone)
  config.train.epochs, config.evaluation.every = 20, 10
  config.train.patches, config.train.average = 5, 4.0
  config.train.schedule, config.train.warmup = 'cosine', 0.1
  config.train.noise, config.train.sigma = 'relative', 0.3
  return config


@pytest.fixture
def config(root, backbone):
  return configure(root, backbone)


@pytest.fixture(scope='module')
def alone(root, backbone):
  return Ran(configure(root, backbone))


def test_a_head_goes_on_with_streamed_features(alone, config, tmp_path):
  config.engine.checkpoint_seconds = 0.0
  config.engine.devices = 2
  first = Ran(config, workdir=tmp_path, stop_after=2)
  assert len(first.heads) < len(alone.heads)
  config.engine.devices = 1
  row = alone.tasks[0].bank_bytes / alone.tasks[0].rows
  config.bank.device_gb = 11.5 * row / 1e9
  resumed = Ran(config, workdir=tmp_path)
  assert resumed.tasks[0].streamed
  assert resumed.resumed
  assert resumed == alone


def test_relative_noise_is_in_units_of_the_spread(alone, config, monkeypatch):
  config.data.categories, config.seeds = ('nut',), (0,)
  measure, found = bank.spread, []
  monkeypatch.setattr(
    bank, 'spread', lambda parts: found.append(measure(parts)) or found[-1]
  )
  Ran(config)
  config.train.noise, config.train.sigma = 'absolute', 0.3 * found[0]
  (head,) = Ran(config).heads.values()
  theirs = alone.heads[head.job]
  np.testing.assert_array_equal(head.metrics, theirs.metrics)
