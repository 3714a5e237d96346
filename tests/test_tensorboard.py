"""TensorBoard's files of a head and of its category."""

import collections
import contextlib
import struct
import types

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from simplenet_jax.config import from_protocol
from simplenet_jax.tensorboard import Scalars
from simplenet_jax.training.progress import HeadProgress
from tests.training.test_lanes import make_job

JOB = make_job(0)  # Four epochs of three steps.
RNG = np.random.default_rng(0)


def make_metrics(steps):
  return RNG.uniform(size=(3, steps)).astype(np.float32)


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


def scalars(events):
  found = collections.defaultdict(list)
  for event in events:
    for value in event.summary.value:
      found[value.tag].append((event.step, value.simple_value))
  assert len(found.pop('settings/text_summary')) == 1
  return dict(found)


@pytest.mark.parametrize('resumed', [0, 7])
def test_a_heads_epochs_are_written(tmp_path, resumed):
  progress, config = HeadProgress(JOB), from_protocol('fast')
  progress.add_metrics(make_metrics(resumed))
  # Of two good and a defective image one good one scores highest.
  progress.add_scores(4, np.arange(3.0)[[0, 2, 1], None, None])
  part = types.SimpleNamespace(
    name='part', labels=np.array([0, 0, 1]), roi=None
  )
  written = Scalars(tmp_path, config, [part])
  with contextlib.closing(written):
    for steps in (1, 2, 12 - 3 - resumed):
      progress.add_metrics(make_metrics(steps))
      written.on_steps(progress)
    last = {'image_auroc': {'mean': 0.75}, 'pixel_auroc': {'mean': None}}
    written.on_result('part', {'last': last})
    written.on_result('other', {'last': last})  # No head of it was trained.
    # A head that is done is on disk at once, each epoch once.
    events = read_events(tmp_path / 'part/seed-0')
  found = scalars(events)
  assert found.pop('image_auroc') == [(4, 0.5)]
  for name in ('adaptor', 'discriminator'):
    rates = [rate for _, rate in found.pop(f'learning_rate/{name}')]
    assert rates == sorted(rates, reverse=True)  # As a cosine falls.
    assert 0 < rates[-1] < rates[0] < config.train[name].learning_rate
  assert found == {
    name: list(enumerate(values.tolist(), 1))
    for name, values in progress.epochs().items()
  }
  # What an earlier run wrote can have gaps, and is to be hidden.
  (start,) = (event for event in events if event.HasField('session_log'))
  assert start.session_log.status == event_pb2.SessionLog.START
  assert start.step == 1
  assert scalars(read_events(tmp_path / 'part/all')) == {
    'image_auroc': [(4, 0.75)]
  }
  assert [path.name for path in tmp_path.iterdir()] == ['part']


def test_nothing_is_written_where_it_is_off(tmp_path):
  config = from_protocol()
  config.engine.tensorboard = False
  progress = HeadProgress(JOB)
  progress.add_metrics(make_metrics(12))
  Scalars(tmp_path, config, []).on_steps(progress)
  assert not list(tmp_path.iterdir())
