"""Heads on several devices: each as if it were alone, none lost."""

import dataclasses
import threading

import jax
import numpy as np
import pytest

from simplenet_jax.training import lanes
from simplenet_jax.training.checkpoint import Checkpoints
from tests.small import make_categories, make_category, make_config
from tests.training.ran import Ran

SIZES = {'bolt': 9, 'cog': 4, 'nut': 7, 'pin': 5}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return make_categories(tmp_path_factory.mktemp('data'), SIZES)


@pytest.fixture
def config(root, backbone):
  config = make_config(root, backbone)
  config.train.epochs = 20
  config.evaluation.every = 5
  return config


@pytest.fixture(scope='module')
def alone(root, backbone):
  """All heads, one after the other on one device."""
  config = make_config(root, backbone)
  config.train.epochs, config.evaluation.every = 20, 5
  return Ran(config)


def test_all_heads_end_with_all_there_is(alone):
  assert len(alone.records) == len(SIZES) * 2
  (shift,) = alone.shifts
  assert (shift.lanes, shift.streamed) == (1, [])
  for job, record in alone.records.items():
    assert record.finished
    assert record.metrics.shape == (3, job.steps)
    assert (record.metrics[0] > 0).all()
    assert max(record.scores) == 20
    assert record.scores[20].shape == (6, 4, 5)
    assert set(record.head) >= {'stats.discriminator.norm.mean'}


def test_a_head_does_not_depend_on_devices(alone, config):
  config.engine.devices = 3
  spread = Ran(config)
  assert len(spread.shifts) == 3
  assert spread == alone
  # Measured is as planned: every device did the steps of its own heads.
  for shift in spread.shifts:
    done = spread.steps[str(shift.device)]
    assert done == {job: job.steps for job in shift.jobs}


def test_a_head_does_not_depend_on_its_neighbours(alone, config):
  config.data.categories = ('cog', 'nut')
  config.seeds = (1,)
  for job, record in Ran(config).records.items():
    np.testing.assert_array_equal(record.metrics, alone.records[job].metrics)


def test_lanes_agree_within_rounding(alone, config):
  config.engine.lanes = 3
  wide = Ran(config)
  assert wide.shifts[0].lanes == 3
  for job, record in wide.records.items():
    single = alone.records[job]
    np.testing.assert_allclose(
      record.metrics[0, :40], single.metrics[0, :40], atol=1e-4
    )
    np.testing.assert_allclose(record.scores[20], single.scores[20], atol=0.02)


@pytest.mark.parametrize('host_gb', [0.0, 1e-6])
def test_a_category_that_does_not_fit_is_streamed(
  alone, config, host_gb, tmp_path
):
  row = alone.shifts[0].bank_bytes / alone.shifts[0].rows
  config.bank.device_gb = 11.5 * row / 1e9  # Of bolt, 15 images with the test.
  config.bank.host_gb = host_gb
  streamed = Ran(config)
  (shift,) = streamed.shifts
  assert shift.rows == 11
  assert shift.streamed == ['bolt', 'nut']
  assert streamed == alone


def test_a_bank_too_small_for_a_step_is_refused(alone, config):
  row = alone.shifts[0].bank_bytes / alone.shifts[0].rows
  config.bank.device_gb = 3.5 * row / 1e9
  with pytest.raises(ValueError, match='of 3 images, a step needs 4; raise'):
    Ran(config)


def test_lanes_are_as_many_as_the_bank_can_serve(alone, config):
  row = alone.shifts[0].bank_bytes / alone.shifts[0].rows
  config.engine.lanes = 8
  config.bank.device_gb = 11.5 * row / 1e9  # Two batches of four.
  streamed = Ran(config)
  assert streamed.shifts[0].lanes == 2
  assert streamed.shifts[0].streamed
  for job, record in streamed.records.items():
    np.testing.assert_allclose(
      record.metrics[0, :40], alone.records[job].metrics[0, :40], atol=1e-4
    )


def test_a_head_that_diverges_stops_alone(alone, config):
  def poison(orders):
    def init(job):
      state = orders.init(job)
      if (job.category, job.seed) != ('nut', 1):
        return state
      return dataclasses.replace(
        state, params=jax.tree.map(lambda x: x + np.nan, state.params)
      )

    return dataclasses.replace(orders, init=init)

  config.engine.lanes = 3
  records = Ran(config, change=poison).records
  errors = {
    job: record.error for job, record in records.items() if record.error
  }
  assert [(job.category, job.seed) for job in errors] == [('nut', 1)]
  (error,) = errors.values()
  assert error.startswith('the loss of seed 1 is nan at step 1 of epoch 1')
  for job, record in records.items():
    if job not in errors:
      np.testing.assert_allclose(
        record.metrics[0, :40], alone.records[job].metrics[0, :40], atol=1e-4
      )


def test_an_error_while_one_head_is_saved_leaves_the_others_saved(
  config, tmp_path, monkeypatch
):
  save, failed, used = Checkpoints.save, [], []

  def full_for_one(self, record, state=None):
    used.append(self)
    if not failed or record.job in failed:
      failed.append(record.job)
      raise OSError('No space left on device')
    save(self, record, state)

  monkeypatch.setattr(Checkpoints, 'save', full_for_one)
  config.data.categories, config.seeds = ('cog',), (0, 1, 2)
  config.engine.checkpoint_seconds, config.engine.lanes = 0.0, 3
  with pytest.raises(OSError, match='No space left on device'):
    Ran(config, workdir=tmp_path)
  used[0].close()
  saved = {path.parent.name for path in tmp_path.glob('cog/*/[0-9]*')}
  assert saved == {f'seed-{n}' for n in range(3) if n != failed[0].seed}


@pytest.mark.parametrize(('stop_after', 'lanes'), [(1, 1), (9, 1), (14, 3)])
def test_a_stopped_training_goes_on_elsewhere(
  config, stop_after, lanes, tmp_path
):
  config.engine.checkpoint_seconds = 0.0
  config.engine.devices, config.engine.lanes = 2, lanes
  whole = Ran(config)
  first = Ran(config, workdir=tmp_path, stop_after=stop_after)
  assert len(first.records) < len(whole.records)
  config.engine.devices = 1
  resumed = Ran(config, workdir=tmp_path)
  assert any(record.resumed for record in resumed.records.values())
  assert resumed.shifts[0].lanes == lanes
  assert resumed == whole


def test_a_stop_ends_an_extraction(config, tmp_path):
  stop, told = threading.Event(), []

  def change(orders):
    return dataclasses.replace(orders, stop=stop)

  def on_batch(name, done, total):
    told.append(done)
    stop.set()

  assert not Ran(config, change=change, on_batch=on_batch).records
  assert told == [4]  # Of 15: the batch under way is the last.


def test_scores_that_are_not_finite_stop_their_head_alone(alone, config):
  def poison(orders):
    def init(job):
      state = orders.init(job)
      if (job.category, job.seed) != ('nut', 1):
        return state
      # Training does not read the running variance, scoring does.
      stats = jax.tree.map(lambda x: x * np.nan, state.stats)
      return dataclasses.replace(state, stats=stats)

    return dataclasses.replace(orders, init=init)

  records = Ran(config, change=poison).records
  errors = {job: r.error for job, r in records.items() if r.error}
  assert [(job.category, job.seed) for job in errors] == [('nut', 1)]
  assert 'scores of seed 1 are not finite after epoch 5' in str(errors.values())
  assert len(records) == len(alone.records)


def test_input_sizes_take_turns_on_their_device(
  tmp_path, backbone, root, config
):
  make_category(tmp_path / 'tall', size=(32, 70), train=5)
  make_category(tmp_path / 'wide', size=(40, 32), train=4)
  config.data.root = str(tmp_path)
  config.train.epochs, config.seeds = 2, (0,)
  ran = Ran(config)
  assert [len(shifts) for shifts in ran.plan.rota] == [2]
  assert all(record.finished for record in ran.records.values())
  config.engine.devices = 2
  assert [len(shifts) for shifts in Ran(config).plan.rota] == [1, 1]


def test_one_program_serves_all_categories(config):
  lanes.advance.clear_cache()
  Ran(config)
  assert lanes.advance._cache_size() == 1


def test_too_many_devices_are_refused(config):
  config.engine.devices = 99
  with pytest.raises(ValueError, match=r'engine\.devices is 99, but there are'):
    Ran(config)
