"""Heads on several devices: each as if it were alone, none lost."""

import jax
import numpy as np
import pytest

from simplenet_jax.training import bank, lanes, step, worker
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.worker import LOOP, DeviceLoop
from tests.small import make_categories, make_category, make_config
from tests.training.ran import Ran

SIZES = {'bolt': 9, 'cog': 4, 'nut': 7, 'pin': 5}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return make_categories(tmp_path_factory.mktemp('data'), SIZES)


def configure(root, backbone):
  config = make_config(root, backbone)
  config.train.epochs, config.evaluation.every = 20, 5
  return config


@pytest.fixture
def config(root, backbone):
  return configure(root, backbone)


@pytest.fixture(scope='module')
def alone(root, backbone):
  """All heads, one after the other on one device."""
  return Ran(configure(root, backbone))


def room_for(config, alone, images):
  """Lets the bank hold so many images."""
  task = alone.tasks[0]
  config.bank.device_gb = (images + 0.5) * task.bank_bytes / task.rows / 1e9


def assert_close(found, expected):
  for job, head in found.heads.items():
    single = expected.heads[job]
    np.testing.assert_allclose(
      head.metrics[0, :40], single.metrics[0, :40], atol=1e-4
    )


def test_all_heads_end_with_all_there_is(alone):
  assert len(alone.heads) == len(SIZES) * 2
  (task,) = alone.tasks
  assert (task.lanes, task.streamed) == (1, [])
  for head in alone.heads.values():
    assert head.finished
    assert (head.metrics[0] > 0).all()
    assert max(head.scores) == 20
    assert head.scores[20].shape == (6, 4, 5)
    assert set(head.head) >= {'stats.discriminator.norm.mean'}


def test_a_head_does_not_depend_on_devices_and_neighbours(alone, config):
  config.engine.devices = 3
  spread = Ran(config)
  assert len(spread.tasks) == 3
  assert spread == alone
  # Measured is as planned: every device did the steps of its own heads.
  for task in spread.tasks:
    done = spread.steps[task.device]
    assert done == {job: job.steps for job in task.jobs}
  config.data.categories, config.seeds = ('cog', 'nut'), (1,)
  for job, head in Ran(config).heads.items():
    np.testing.assert_array_equal(head.metrics, alone.heads[job].metrics)


@pytest.mark.parametrize('host_gb', [0.0, 1e-6])
def test_a_category_that_does_not_fit_is_streamed(alone, config, host_gb):
  room_for(config, alone, 11)  # Of bolt, 15 images with the test.
  config.bank.host_gb = host_gb
  streamed = Ran(config)
  (task,) = streamed.tasks
  assert task.rows == 11
  assert task.streamed == ['bolt', 'nut']
  assert streamed == alone


def test_a_bank_too_small_for_a_step_is_refused(alone, config):
  room_for(config, alone, 3)
  with pytest.raises(ValueError, match='of 3 images, a step needs 4; raise'):
    Ran(config)


def test_lanes_are_as_many_as_the_bank_can_serve(alone, config):
  config.engine.lanes = 8
  room_for(config, alone, 11)  # Two batches of four.
  streamed = Ran(config)
  assert streamed.tasks[0].lanes == 2
  assert streamed.tasks[0].streamed
  assert_close(streamed, alone)


@pytest.mark.parametrize(
  ('field', 'lanes', 'message'),
  [
    ('params', 3, 'the loss of seed 1 is nan at step 1 of epoch 1'),
    # Training does not read the running variance, scoring does.
    ('stats', 1, 'scores of seed 1 are not finite after epoch 5'),
  ],
)
def test_a_head_that_diverges_stops_alone(alone, config, field, lanes, message):
  def poison(job, state):
    if (job.category, job.seed) != ('nut', 1):
      return state
    wrong = jax.tree.map(lambda x: x * np.nan, getattr(state, field))
    return state._replace(**{field: wrong})

  config.engine.lanes = lanes
  ran = Ran(config, init=poison)
  (wrong,) = (job for job, head in ran.heads.items() if head.error)
  assert (wrong.category, wrong.seed) == ('nut', 1)
  assert ran.heads.pop(wrong).error.startswith(message)
  assert len(ran.heads) == len(alone.heads) - 1
  assert_close(ran, alone)


def test_an_error_while_one_head_is_saved_leaves_the_others_saved(
  config, tmp_path, monkeypatch
):
  save, failed = Checkpoints.save, []

  def full_for_one(self, progress, state=None):
    if not failed or progress.job in failed:
      failed.append(progress.job)
      raise OSError('No space left on device')
    save(self, progress, state)

  monkeypatch.setattr(Checkpoints, 'save', full_for_one)
  config.data.categories, config.seeds = ('cog',), (0, 1, 2)
  config.engine.checkpoint_seconds, config.engine.lanes = 0.0, 3
  with pytest.raises(OSError, match='No space left on device'):
    Ran(config, workdir=tmp_path)
  saved = {path.parent.name for path in tmp_path.glob('cog/*/[0-9]*')}
  assert saved == {f'seed-{n}' for n in range(3) if n != failed[0].seed}


# What a recipe can have beside the protocols.
DRAWN = {
  'train.patches': 5,
  'train.pasted': 9,
  'train.schedule': 'cosine',
  'train.warmup': 0.1,
  'train.noise': 'relative',
  'train.sigma': 0.3,
}


@pytest.mark.parametrize(
  ('stop_after', 'lanes', 'recipe'), [(1, 1, {}), (14, 3, {}), (2, 1, DRAWN)]
)
def test_a_stopped_training_goes_on_elsewhere(
  config, stop_after, lanes, recipe, tmp_path
):
  config.update_from_flattened_dict(recipe)
  config.engine.checkpoint_seconds = 0.0
  config.engine.devices, config.engine.lanes = 2, lanes
  whole = Ran(config)
  first = Ran(config, workdir=tmp_path, stop_after=stop_after)
  assert len(first.heads) < len(whole.heads)
  config.engine.devices = 1
  if recipe:
    room_for(config, whole, 11)
  resumed = Ran(config, workdir=tmp_path)
  assert resumed.resumed
  assert resumed.tasks[0].lanes == lanes
  assert bool(resumed.tasks[0].streamed) == bool(recipe)
  assert resumed == whole


def test_relative_noise_is_in_units_of_the_spread(config, monkeypatch):
  config.data.categories, config.seeds = ('nut',), (0,)
  config.train.noise, config.train.sigma = 'relative', 0.3
  measure, found = bank.spread, []
  monkeypatch.setattr(
    bank, 'spread', lambda parts: found.append(measure(parts)) or found[-1]
  )
  relative = Ran(config)
  config.train.noise, config.train.sigma = 'absolute', 0.3 * found[0]
  assert Ran(config) == relative


def test_a_stop_ends_an_extraction(config):
  told = []

  def on_batch(stop, name, done, total):
    told.append(done)
    stop.set()

  assert not Ran(config, on_batch=on_batch).heads
  assert told == [4]  # Of 15: the batch under way is the last.


def test_input_sizes_take_turns_on_their_device(tmp_path, config):
  make_category(tmp_path / 'tall', size=(32, 70), train=5)
  make_category(tmp_path / 'wide', size=(40, 32), train=4)
  config.data.root = str(tmp_path)
  config.train.epochs, config.seeds = 2, (0,)
  ran = Ran(config)
  assert [len(tasks) for tasks in ran.schedule] == [2]
  assert all(head.finished for head in ran.heads.values())
  config.engine.devices = 2
  assert [len(tasks) for tasks in Ran(config).schedule] == [1, 1]


def test_programs_serve_all_categories_seeds_and_sigmas(config):
  """Nothing is compiled again for what a sweep of noise changes."""
  programs = (lanes.advance, lanes.score, step.init_head, bank.extract)
  for program in programs:
    program.clear_cache()
  Ran(config)
  compiled = [program._cache_size() for program in programs]
  assert compiled == [1, 1, 1, 1]
  config.train.sigma, config.seeds = 0.3, (7, 8, 9)
  Ran(config)
  assert [program._cache_size() for program in programs] == compiled


def test_too_many_devices_are_refused(config):
  config.engine.devices = 99
  with pytest.raises(ValueError, match=r'engine\.devices is 99, but there are'):
    Ran(config)


def test_a_chunk_is_of_several_programs_and_can_fail_between_them(
  config, tmp_path, monkeypatch
):
  config.data.categories, config.seeds = ('cog',), (0,)
  config.train.epochs = config.evaluation.every = 200
  whole = Ran(config)
  inputs, begun = DeviceLoop._inputs, []

  def short(self, heads, count):
    begun.append(heads[0].step)
    if begun[-1] - begun[0] > 2 * LOOP and begun[-1] == begun[-2] + LOOP:
      raise MemoryError
    return inputs(self, heads, count)

  with monkeypatch.context() as patched:
    patched.setattr(DeviceLoop, '_inputs', short)
    with pytest.raises(ValueError, match='this machine is out of memory'):
      Ran(config, workdir=tmp_path)
  assert Ran(config, workdir=tmp_path) == whole
  monkeypatch.setattr(worker, 'LOOP', 512)
  assert Ran(config) == whole


OUT_OF_MEMORY = RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating')


@pytest.mark.parametrize(
  ('error', 'lanes', 'told'),
  [
    (OUT_OF_MEMORY, 1, r'memory with .*device_gb or \S*batch_size; the same'),
    (OUT_OF_MEMORY, 2, r'memory with .*device_gb or \S*lanes'),
    (MemoryError(), 1, '--config.bank.host_gb'),
    (RuntimeError('INTERNAL: out of ideas'), 1, '^INTERNAL: out of ideas$'),
  ],
)
def test_a_device_out_of_memory_names_flags_and_loses_nothing(
  config, tmp_path, monkeypatch, error, lanes, told
):
  advance, calls = DeviceLoop._advance, []

  def exhausted(self):
    calls.append(self)
    if len(calls) == 4:
      raise error
    return advance(self)

  config.data.categories, config.engine.lanes = ('cog',), lanes
  config.train.epochs = config.evaluation.every = 200
  with monkeypatch.context() as patched:
    patched.setattr(DeviceLoop, '_advance', exhausted)
    with pytest.raises((ValueError, RuntimeError), match=told):
      Ran(config, workdir=tmp_path)
  assert Ran(config, workdir=tmp_path).resumed == lanes
