import collections
import concurrent.futures
import struct

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from simplenet_jax import console
from simplenet_jax.training.job import Job
from simplenet_jax.training.record import METRICS, Record
from simplenet_jax.training.watch import Watch

JOBS = [Job('part', seed, 10, 4, epochs=4) for seed in (0, 1)]  # 12 steps.
RNG = np.random.default_rng(0)


def grow(record, steps=12):
  record.add_metrics(RNG.uniform(size=(3, steps)).astype(np.float32))
  return record


def flat_record(job, steps, *values):
  """Returns a record with the same metrics in every step."""
  record = Record(job)
  record.add_metrics(np.tile(np.array([values], 'f').T, steps))
  return record


@pytest.fixture
def make_watch(capsys):
  """Returns a function that makes a watch; without a terminal to show it."""

  def make(jobs=JOBS, scalars=None):
    return Watch(console.Board(), jobs, {'': scalars})

  return make


@pytest.fixture
def told(capsys):
  """Returns a function that returns the lines printed since its last call."""
  return lambda: capsys.readouterr().out.splitlines()


def read_events(folder):
  """Reads the records of TensorBoard's files: length, checksum, data, sum."""
  events = []
  for path in sorted(folder.iterdir()):
    data = path.read_bytes()
    while data:
      (length,) = struct.unpack('<Q', data[:8])
      events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
      data = data[16 + length :]
  return events


def scalars_in(folder):
  """Returns steps and values of every tag, as they were written."""
  found = collections.defaultdict(list)
  for event in read_events(folder):
    for value in event.summary.value:
      found[value.tag].append((event.step, value.simple_value))
  return found


def assert_scalars(folder, record, first=1):
  """Checks for each epoch's means from the epoch `first` on, once each."""
  found = scalars_in(folder)
  assert set(found) == set(METRICS)
  for name, values in record.epochs().items():
    assert found[name] == [
      (epoch, value)
      for epoch, value in enumerate(values.tolist(), 1)
      if epoch >= first
    ]


def test_features_are_told_when_all_are_there(make_watch, told):
  watch = make_watch()
  for done in (4, 8):
    watch.on_batch('part', done, 10)
  assert not told()
  watch.on_batch('part', 10, 10)
  (line,) = told()
  assert line.startswith('  part, features: 10 images in ')


def test_a_category_leaves_one_line_with_its_last_losses(make_watch, told):
  watch = make_watch(JOBS[:1])
  record = flat_record(JOBS[0], 9, 5, 0, 0)
  watch.on_steps(record)
  record.add_metrics(np.tile(np.array([[0.25, 0.5, 1]], 'f').T, 3))
  watch.on_steps(record)
  assert not told()
  watch.end(JOBS[0])
  (line,) = told()
  assert line.startswith(
    '  part: epoch 4/4, loss 0.250, beyond margin 50% / 100% in '
  )
  watch.end(JOBS[0])  # There is nothing more to say.
  assert not told()


def test_seeds_are_told_together(make_watch, told):
  watch = make_watch()
  for job, loss in zip(JOBS, (1, 2), strict=True):
    watch.on_steps(flat_record(job, 12, loss, 0, 1))
  watch.end(JOBS[0])
  (line,) = told()
  assert line.startswith(
    '  part: epoch 4/4, 2 of 2 seeds through, loss 1.500, '
    'beyond margin 0% / 100% in '
  )


def test_a_head_that_was_given_up_is_not_in_the_last_line(make_watch, told):
  watch = make_watch()
  watch.on_steps(flat_record(JOBS[0], 5, 9, 0, 0))
  watch.on_steps(flat_record(JOBS[1], 12, 2, 0, 0))
  watch.end(JOBS[0])
  (line,) = told()
  assert line.startswith('  part: epoch 4/4, loss 2.000, ')
  watch.on_steps(flat_record(JOBS[0], 5, 9, 0, 0))
  watch.end(JOBS[0])
  assert not told()


def test_without_a_terminal_a_line_comes_now_and_then(
  make_watch, told, monkeypatch
):
  monkeypatch.setattr(console, '_EVERY', 0.0)
  watch = make_watch()
  watch.on_steps(flat_record(JOBS[0], 12, 1, 0, 0))
  watch.on_steps(flat_record(JOBS[1], 2, 2, 0, 0))
  first, second = told()
  assert first.startswith('  part: epoch 4/4, 1 of 2 seeds through, loss 1.0')
  assert second.startswith('  part: epoch 1/4, 1 of 2 seeds through, loss 1.5')
  assert first.endswith(' left')


def test_epochs_are_written_for_tensorboard(make_watch, tmp_path):
  watch, record = make_watch(scalars=tmp_path), Record(JOBS[0])
  for steps in (1, 1, 6, 2):
    watch.on_steps(grow(record, steps))
  watch.close()
  assert len(record.epochs()['loss']) == 3
  assert_scalars(tmp_path / 'part/seed-0', record)


def test_a_head_that_is_through_is_on_disk_at_once(make_watch, tmp_path):
  watch, record = make_watch(scalars=tmp_path), Record(JOBS[0])
  for steps in (5, 7):
    watch.on_steps(grow(record, steps))
  assert_scalars(tmp_path / 'part/seed-0', record)
  watch.close()
  assert_scalars(tmp_path / 'part/seed-0', record)


def test_a_resumed_head_is_written_from_its_start(make_watch, tmp_path):
  record = grow(Record(JOBS[0]), 7)
  record.resumed = 7
  watch = make_watch(scalars=tmp_path)
  watch.on_steps(grow(record, 1))
  watch.on_steps(grow(record, 4))
  watch.close()
  assert_scalars(tmp_path / 'part/seed-0', record)
  # What the earlier run wrote can have gaps, and is to be hidden.
  (start,) = (
    event
    for event in read_events(tmp_path / 'part/seed-0')
    if event.HasField('session_log')
  )
  assert start.session_log.status == event_pb2.SessionLog.START
  assert start.step == 1


def test_heads_of_all_threads_have_folders_of_their_own(make_watch, tmp_path):
  jobs = [*JOBS, Job('a part [1]', 0, 4, 4, epochs=4)]
  watch = make_watch(jobs, tmp_path)

  def train(job):
    record = Record(job)
    while not record.finished:
      watch.on_steps(grow(record, 1))
    return record

  with concurrent.futures.ThreadPoolExecutor() as pool:
    records = list(pool.map(train, jobs))
  watch.close()
  for record in records:
    job = record.job
    assert_scalars(tmp_path / job.category / f'seed-{job.seed}', record)


def test_nothing_is_written_that_is_not_wanted(make_watch, tmp_path):
  watch = make_watch()
  watch.on_steps(grow(Record(JOBS[0])))
  watch.close()
  assert not list(tmp_path.iterdir())
