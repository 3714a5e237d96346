"""Devices that are out of memory: told, or gone on with on less of it."""

import dataclasses

import jax
import numpy as np
import pytest

from simplenet_jax.training import bank, engine, lanes
from simplenet_jax.training.record import Record
from tests.small import make_config
from tests.training import test_engine
from tests.training.test_engine import Ran

root = test_engine.root
EXHAUSTED = RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes')


def configure(root, backbone):
  config = make_config(root, backbone)
  config.data.categories, config.seeds = ('cog', 'pin'), (0, 1)
  config.train.epochs = config.evaluation.every = 10
  return config


@pytest.fixture
def config(root, backbone):
  return configure(root, backbone)


@pytest.fixture(scope='module')
def alone(root, backbone):
  return Ran(configure(root, backbone))


@pytest.fixture
def small(monkeypatch):
  """A device that holds one head, after a few calls, and two images a pass."""
  advance, extract, calls = lanes.advance, bank.Bank.extract, []

  def one_head(recipe, states, *others):
    calls.append(jax.tree.leaves(states)[0].shape[0])
    if calls[-1] > 1 and len(calls) > 3:
      raise EXHAUSTED
    return advance(recipe, states, *others)

  def two_images(self, extractor, weights, pixels, rows, size):
    if size > 2:
      raise EXHAUSTED
    return extract(self, extractor, weights, pixels, rows, size)

  monkeypatch.setattr(lanes, 'advance', one_head)
  monkeypatch.setattr(bank.Bank, 'extract', two_images)
  return calls


def test_it_goes_on_with_less_where_it_may(
  alone, config, small, tmp_path, capsys
):
  config.engine.shrink, config.engine.lanes = True, 4
  config.backbone.batch_size, config.engine.checkpoint_seconds = 4, 0.0
  found = Ran(config, tmp_path / 'heads')
  # Four heads and four images, two of each, then one.
  assert small[:4] == [2, 2, 2, 2]
  assert set(small[4:]) == {1}
  assert all(record.finished for record in found.records.values())
  assert found.records.keys() == alone.records.keys()
  for job, record in found.records.items():
    expected = alone.records[job].metrics[0, :40]
    np.testing.assert_allclose(record.metrics[0, :40], expected, atol=1e-4)
  told = capsys.readouterr().out
  assert told.count('is out of memory; goes on with') == 2
  assert '1 head at a time, 1 image a pass' in told


def test_it_is_told_where_it_may_not(config, small):
  with pytest.raises(
    ValueError,
    match=r'out of memory .* lower .*device_gb, .*give --config.engine.shrink',
  ):
    Ran(config)


def test_heads_that_have_ended_are_not_trained_again(alone):
  (shift,) = alone.shifts
  given, first = [], shift.jobs[0]

  def work(part, size, emit):
    given.append((part, size))
    if len(given) == 1:
      emit(Record(first))
      raise EXHAUSTED
    for job in part.jobs:
      emit(Record(job))

  ended = []
  engine.shrinking(work, shift, 8, ended.append, True)
  assert [record.job for record in ended] == list(shift.jobs)
  (_, first_size), (part, size) = given
  assert (first_size, size) == (8, 4)
  assert part.jobs == shift.jobs[1:]


def test_other_errors_are_not_taken_for_it(alone):
  def work(*_):
    raise RuntimeError('INTERNAL: out of ideas')

  with pytest.raises(RuntimeError, match='out of ideas'):
    engine.shrinking(work, alone.shifts[0], 8, print, True)


def test_features_are_the_last_to_be_halved(alone):
  (shift,), size, seen = alone.shifts, 4, []
  load = shift, size
  while load := engine.smaller(*load):
    seen.append((load[0].lanes, load[1], load[0].rows))
  rows = shift.rows
  assert seen[:3] == [(1, 2, rows), (1, 1, rows), (1, 1, rows // 2)]
  # A step's images have to be there.
  assert seen[-1] == (1, 1, 4)


def test_nothing_is_tried_again_where_all_have_ended(alone):
  (shift,), calls = alone.shifts, []

  def work(part, size, emit):
    calls.append(part)
    for job in part.jobs:
      emit(Record(job))
    raise EXHAUSTED

  engine.shrinking(work, shift, 8, lambda record: None, True)
  assert len(calls) == 1


def test_the_message_is_of_what_was_tried_last(alone):
  (shift,) = alone.shifts

  def work(*_):
    raise EXHAUSTED

  wide = dataclasses.replace(shift, lanes=4)
  with pytest.raises(ValueError, match=r'4 heads at a time; .*give --config'):
    engine.shrinking(work, wide, 8, print, False)
  with pytest.raises(ValueError, match=r'1 head at a time; .*device_gb$'):
    engine.shrinking(work, wide, 8, print, True)


def test_the_hosts_memory_is_another_matter():
  assert '--config.bank.host_gb' in str(engine._explained(MemoryError()))
  other = KeyError('x')
  assert engine._explained(other) is other
