"""Heads on disk: whole or not there."""

import numpy as np
import pytest

from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.progress import HeadProgress, flat, unflat
from tests.training.test_lanes import assert_equal, init, make_job

JOB = make_job(2)  # Four epochs of three steps.
RNG = np.random.default_rng(0)


def rank(scores):
  return float(scores[0, 0, 0])


def make_scores(value):
  scores = RNG.normal(size=(2, 4, 4)).astype(np.float32)
  scores[0, 0, 0] = value
  return scores


def grow(progress, epochs=1):
  for _ in range(epochs):
    progress.add_metrics(RNG.uniform(size=(3, 3)).astype(np.float32))
  return progress


def state_of(progress):
  """Stands for a head's state; tells after how many steps it was taken."""
  return {'count': np.array(progress.step), 'kernel': np.eye(3, dtype='f')}


def save(folder, *heads):
  for progress in heads:
    state = None if progress.finished else state_of(progress)
    Checkpoints(folder).save(progress, state)


def load(folder):
  return Checkpoints(folder).load(JOB, rank)


def path_in(folder):
  return folder / JOB.category / f'seed-{JOB.seed}.safetensors'


def assert_same(found, expected):
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert found[name].dtype == value.dtype
    assert found[name].tobytes() == value.tobytes()


def test_a_head_under_way_goes_on_from_where_it_was(tmp_path):
  progress, state = grow(HeadProgress(JOB, rank), 3), init(JOB)
  for epoch, value in ((1, 0.9), (2, 0.5), (3, 0.7)):
    progress.add_scores(epoch, make_scores(value))
  Checkpoints(tmp_path).save(progress, flat(state))
  found, leaves = load(tmp_path)
  assert (found.job, found.step) == (JOB, 9)
  np.testing.assert_array_equal(found.metrics, progress.metrics)
  assert list(found.scores) == [1, 3]
  assert_same(found.scores, progress.scores)
  assert_equal(unflat(leaves, state), state)
  assert not found.finished
  assert found.head is None
  # The best epoch is still told from the others.
  grow(found).add_scores(4, make_scores(0.8))
  assert list(found.scores) == [1, 4]


def test_a_finished_head_comes_back_whole(tmp_path):
  progress = grow(HeadProgress(JOB, rank), 3)
  save(tmp_path, progress)
  grow(progress).add_scores(4, make_scores(0.5))
  progress.head = {
    'params.kernel': np.array([[np.nan, -0.0], [1e-40, np.inf]], np.float32)
  }
  save(tmp_path, progress)
  found, state = load(tmp_path)
  assert found.finished
  assert (found.step, state) == (12, {})
  np.testing.assert_array_equal(found.metrics, progress.metrics)
  assert_same(found.scores, progress.scores)
  assert_same(found.head, progress.head)


def test_the_latest_wins_and_a_half_written_one_is_never_taken(tmp_path):
  progress = HeadProgress(JOB)
  for _ in range(3):
    grow(progress)
    for _ in range(2):  # It can be saved twice as it is.
      save(tmp_path, progress)
    found, state = load(tmp_path)
    assert found.step == state['count'] == progress.step
  # Until it is whole, a checkpoint has another name.
  path_in(tmp_path).rename(path_in(tmp_path).with_name('.partial-1'))
  assert load(tmp_path) is None


@pytest.mark.parametrize('damage', ['flipped', 'truncated', 'emptied'])
def test_a_damaged_checkpoint_is_told_and_made_again(tmp_path, damage, capsys):
  save(tmp_path, grow(HeadProgress(JOB)))
  path = path_in(tmp_path)
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  size = {'flipped': None, 'truncated': -5, 'emptied': 0}[damage]
  path.write_bytes(content[:size])
  checkpoints = Checkpoints(tmp_path)
  assert checkpoints.progress(JOB) == 0
  told = capsys.readouterr().out
  assert f'{path} cannot be read' in told
  assert 'trained from its first step' in told
  assert checkpoints.load(JOB) is None
  assert not capsys.readouterr().out  # Once is enough.


def test_a_full_disk_is_told_and_the_one_before_stays(tmp_path, file_limit):
  progress = grow(HeadProgress(JOB))
  save(tmp_path, progress)
  file_limit(150_000)
  state = {'kernel': np.zeros(50_000, 'f')}
  with pytest.raises(OSError, match=r'File too large: .*seed-2\.safetensors'):
    Checkpoints(tmp_path).save(grow(progress), state)
  assert load(tmp_path)[0].step == 3
