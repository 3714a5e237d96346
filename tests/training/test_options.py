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


def test_the_average_is_what_is_kept(alone, config):
  config.train.average = 0.0
  for job, head in Ran(config).heads.items():
    averaged = alone.heads[job]
    # The same steps were trained, and other weights came of them.
    np.testing.assert_allclose(head.metrics[0], averaged.metrics[0], atol=1e-4)
    assert head.head.keys() == averaged.head.keys()
    assert any(
      np.abs(head.head[name] - leaf).max() > 1e-4
      for name, leaf in averaged.head.items()
    )


def test_the_spread_is_that_of_all_positions(alone):
  home = bank.Bank(alone.tasks[0].shapes, 40)
  rng = np.random.default_rng(0)
  values = [
    rng.normal(3, 2, (40, *level.shape[1:])).astype(np.float32)
    for level in home.levels
  ]
  home.write(values, np.arange(40))
  variances = [level[:37].var(axis=(0, 1, 2)) for level in values]
  expected = np.sqrt(np.mean(np.concatenate(variances)))
  found = bank.spread(home, [np.arange(30), np.arange(30, 37)])
  assert found == pytest.approx(expected, rel=1e-5)
  assert bank.spread(home, [np.arange(37)]) == found


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    (1.7, 'do not vary; give other images'),
    (np.nan, 'not finite; use --config.bank.dtype=float32'),
  ],
)
def test_features_that_noise_cannot_follow_are_told(alone, value, message):
  home = bank.Bank(alone.tasks[0].shapes, 4)
  home.write(
    [np.full(level.shape, value, np.float32) for level in home.levels],
    np.arange(4),
  )
  with pytest.raises(ValueError, match=message):
    bank.spread(home, [np.arange(4)])


def test_relative_noise_is_in_units_of_the_spread(alone, config, monkeypatch):
  config.data.categories, config.seeds = ('nut',), (0,)
  measure, found = bank.spread, []

  def note(*args):
    found.append(measure(*args))
    return found[-1]

  monkeypatch.setattr(bank, 'spread', note)
  Ran(config)
  config.train.noise, config.train.sigma = 'absolute', 0.3 * found[0]
  (head,) = Ran(config).heads.values()
  theirs = alone.heads[head.job]
  np.testing.assert_array_equal(head.metrics, theirs.metrics)
