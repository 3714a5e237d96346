"""What a recipe can do beside the protocols: drawn patches, averages, rates."""

import dataclasses

import numpy as np
import pytest

from simplenet_jax.data import dataset
from simplenet_jax.training import bank, setup
from tests.small import make_categories, make_config
from tests.training.ran import Ran

SIZES = {'bolt': 9, 'nut': 7}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return make_categories(tmp_path_factory.mktemp('data'), SIZES)


@pytest.fixture
def config(root, backbone):
  config = make_config(root, backbone)
  config.train.epochs, config.evaluation.every = 20, 10
  config.train.patches, config.train.average = 5, 4.0
  config.train.schedule, config.train.warmup = 'cosine', 0.1
  config.train.noise, config.train.sigma = 'relative', 0.3
  return config


@pytest.fixture(scope='module')
def alone(root, backbone):
  return Ran(config.__wrapped__(root, backbone))


def test_a_head_goes_on_where_it_stopped(alone, config, tmp_path):
  config.engine.checkpoint_seconds = 0.0
  config.engine.devices = 2
  first = Ran(config, workdir=tmp_path, stop_after=2)
  assert len(first.records) < len(alone.records)
  config.engine.devices = 1
  resumed = Ran(config, workdir=tmp_path)
  assert any(record.resumed for record in resumed.records.values())
  assert resumed == alone


def test_streamed_features_make_the_same_heads(alone, config):
  row = alone.shifts[0].bank_bytes / alone.shifts[0].rows
  config.bank.device_gb = 11.5 * row / 1e9
  streamed = Ran(config)
  assert streamed.shifts[0].streamed == ['bolt', 'nut']
  assert streamed == alone


def test_the_average_is_what_is_kept(alone, config):
  config.train.average = 0.0
  for job, record in Ran(config).records.items():
    averaged = alone.records[job]
    # The same steps were trained, and other weights came of them.
    np.testing.assert_allclose(
      record.metrics[0], averaged.metrics[0], atol=1e-4
    )
    assert record.head.keys() == averaged.head.keys()
    assert any(
      np.abs(record.head[name] - leaf).max() > 1e-4
      for name, leaf in averaged.head.items()
    )


def test_the_spread_is_that_of_all_positions(alone):
  home = bank.Bank(alone.shifts[0].shapes, 40)
  rng = np.random.default_rng(0)
  values = [
    rng.normal(3, 2, (40, *level.shape[1:])).astype(np.float32)
    for level in home.levels
  ]
  home.write(values, np.arange(40))
  expected = np.sqrt(
    np.mean(
      np.concatenate([level[:37].var(axis=(0, 1, 2)) for level in values])
    )
  )
  found = bank.spread(home, [np.arange(30), np.arange(30, 37)])
  assert found == pytest.approx(expected, rel=1e-5)
  assert bank.spread(home, [np.arange(37)]) == found


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    (0.3, 'do not vary; give other images'),
    (1.7, 'do not vary'),
    (np.inf, 'not finite; use --config.bank.dtype=float32'),
    (np.nan, 'not finite'),
  ],
)
def test_features_that_noise_cannot_follow_are_told(alone, value, message):
  home = bank.Bank(alone.shifts[0].shapes, 4)
  home.write(
    [np.full(level.shape, value, np.float32) for level in home.levels],
    np.arange(4),
  )
  with pytest.raises(ValueError, match=message):
    bank.spread(home, [np.arange(4)])


def test_noise_is_as_wide_as_told(alone, config):
  """Sigma in units of the spread is the same as their product."""
  config.data.categories, config.seeds = ('nut',), (0,)
  spread = {}

  def note(orders):
    return dataclasses.replace(orders, relative=False, sigma=spread['nut'])

  (shift,) = Ran(config).shifts
  spread['nut'] = 0.3 * measure(config, shift)
  (record,) = Ran(config, change=note).records.values()
  theirs = alone.records[record.job]
  np.testing.assert_array_equal(record.metrics, theirs.metrics)


def measure(config, shift):
  """Measures the spread of a category's training images without a worker."""
  extractor = setup.make_extractor(config)
  weights = setup.load_backbone(config).state
  (one,) = dataset.open_categories(config.data).categories
  home = bank.Bank(shift.shapes, len(one.train))
  rows = np.arange(len(one.train), dtype=np.int32)
  pixels = np.stack([one.pixels(index) for index in rows])
  size = config.backbone.batch_size
  for start in range(0, len(rows), size):
    part = slice(start, start + size)
    home.extract(extractor, weights, pixels[part], rows[part], size)
  return bank.spread(home, [rows])
