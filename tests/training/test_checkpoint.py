"""Heads on disk: whole or not there, and the latest that can be read."""

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


def load(folder, job=JOB):
  return Checkpoints(folder).load(job, rank)


def home_of(folder, job=JOB):
  return folder / job.category / f'seed-{job.seed}'


def steps_in(folder, job=JOB):
  return {path.name for path in home_of(folder, job).iterdir()}


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


def test_a_finished_head_comes_back_whole_and_alone(tmp_path):
  progress = grow(HeadProgress(JOB, rank), 3)
  save(tmp_path, progress)
  grow(progress).add_scores(4, make_scores(0.5))
  progress.head = {
    'params.kernel': np.array([[np.nan, -0.0], [1e-40, np.inf]], np.float32)
  }
  save(tmp_path, progress)
  assert steps_in(tmp_path) == {'12'}  # Nothing goes on from the others.
  found, state = load(tmp_path)
  assert found.finished
  assert (found.step, state) == (12, {})
  np.testing.assert_array_equal(found.metrics, progress.metrics)
  assert_same(found.scores, progress.scores)
  assert_same(found.head, progress.head)


def test_the_latest_wins_and_the_one_before_is_kept(tmp_path):
  progress = HeadProgress(JOB)
  for kept in ({'3'}, {'3', '6'}, {'6', '9'}):
    grow(progress)
    for _ in range(2):  # It can be saved twice as it is.
      save(tmp_path, progress)
    assert steps_in(tmp_path) == kept
    found, state = load(tmp_path)
    assert found.step == state['count'] == progress.step


def test_a_half_written_checkpoint_is_never_taken(tmp_path):
  progress = HeadProgress(JOB)
  for _ in range(2):
    save(tmp_path, grow(progress))
  home = home_of(tmp_path)
  # Until it is whole, a checkpoint has another name.
  (home / '6').rename(home / '6.orbax-checkpoint-tmp')
  found, state = load(tmp_path)
  assert found.step == state['count'] == 3
  save(tmp_path, grow(found))
  assert steps_in(tmp_path) == {'3', '6'}
  assert load(tmp_path)[0].step == 6


@pytest.mark.parametrize('damage', ['flipped', 'truncated', 'emptied', 'lost'])
def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(
  tmp_path, damage, capsys
):
  progress = HeadProgress(JOB)
  for _ in range(2):
    save(tmp_path, grow(progress))
  path = home_of(tmp_path) / '6/arrays.safetensors'
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  if damage == 'lost':
    path.unlink()
  else:
    size = {'flipped': None, 'truncated': -5, 'emptied': 0}[damage]
    path.write_bytes(content[:size])
  checkpoints = Checkpoints(tmp_path)
  found, state = checkpoints.load(JOB)
  assert found.step == state['count'] == 3
  told = capsys.readouterr().out
  assert f'{path.parent} cannot be read' in told
  assert 'the one before it is taken' in told
  assert checkpoints.progress(JOB) == 3
  assert not capsys.readouterr().out  # Once is enough.
  # A save before it takes its place, and so does one of the same step.
  later = HeadProgress(JOB)
  later.add_metrics(found.metrics[:, :4])
  save(tmp_path, later)
  assert steps_in(tmp_path) == {'3', '4'}
  save(tmp_path, grow(found))
  assert load(tmp_path)[0].step == 6


def test_a_save_that_failed_is_told_and_a_second_one_raises(
  tmp_path, file_limit, caplog
):
  progress = grow(HeadProgress(JOB))
  save(tmp_path, progress)
  checkpoints, much = Checkpoints(tmp_path), {'kernel': np.zeros(50_000, 'f')}
  file_limit(150_000)
  for _ in range(2):  # A save that succeeds makes up for it.
    caplog.clear()
    checkpoints.save(grow(progress), much)
    (told,) = [r.getMessage() for r in caplog.records if r.name == 'absl']
    assert 'a checkpoint could not be saved (' in told
    assert 'File too large' in told
    if progress.step == 6:
      checkpoints.save(progress, state_of(progress))
  with pytest.raises(OSError, match='File too large'):
    checkpoints.save(progress, much)
  assert load(tmp_path)[0].step == 6
  done = grow(HeadProgress(make_job(3)), 4)
  done.head = much
  with pytest.raises(OSError, match='File too large'):
    checkpoints.save(done)
