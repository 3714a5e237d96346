import numpy as np
import pytest
import safetensors

from simplenet_jax import files
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.record import Record, flat, unflat
from tests.training.test_lanes import assert_equal, init, make_job

JOB = make_job(2)  # Four epochs of three steps.
RNG = np.random.default_rng(0)


def rank(scores):
  return float(scores[0, 0, 0])


def make_scores(value):
  scores = RNG.normal(size=(2, 4, 4)).astype(np.float32)
  scores[0, 0, 0] = value
  return scores


def grow(record, epochs=1):
  for _ in range(epochs):
    record.add_metrics(RNG.uniform(size=(3, 3)).astype(np.float32))
  return record


def state_of(record):
  """Stands for a head's state; tells after how many steps it was taken."""
  return {'count': np.array(record.step), 'kernel': np.eye(3, dtype='f')}


def save(folder, *records):
  checkpoints = Checkpoints(folder)
  for record in records:
    state = None if record.finished else state_of(record)
    checkpoints.save(record, state)
  checkpoints.close()


def load(folder, job=JOB):
  checkpoints = Checkpoints(folder)
  try:
    return checkpoints.load(job, rank)
  finally:
    checkpoints.close()


def steps_in(folder, job=JOB):
  home = folder / job.category / f'seed-{job.seed}'
  return {path.name for path in home.iterdir()}


def assert_same(found, expected):
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert found[name].dtype == value.dtype
    np.testing.assert_array_equal(found[name], value)


def test_a_head_under_way_goes_on_from_where_it_was(tmp_path):
  record, state = grow(Record(JOB, rank), 3), init(JOB)
  for epoch, value in ((1, 0.9), (2, 0.5), (3, 0.7)):
    record.add_scores(epoch, make_scores(value))
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(record, flat(state))
  checkpoints.close()
  found, leaves = load(tmp_path)
  assert (found.job, found.step, found.resumed) == (JOB, 9, 9)
  np.testing.assert_array_equal(found.metrics, record.metrics)
  assert list(found.scores) == [1, 3]
  assert_same(found.scores, record.scores)
  assert_same(leaves, flat(state))
  assert_equal(unflat(leaves, state), state)
  assert not found.finished
  assert found.head is None
  # The best epoch is still told from the others.
  grow(found).add_scores(4, make_scores(0.8))
  assert list(found.scores) == [1, 4]


def test_a_finished_head_comes_back_whole(tmp_path):
  record = grow(Record(JOB, rank), 4)
  record.add_scores(4, make_scores(0.5))
  record.head = {
    'params.kernel': np.array([[np.nan, -0.0], [1e-40, np.inf]], np.float32)
  }
  save(tmp_path, record)
  found, state = load(tmp_path)
  assert found.finished
  assert found.resumed == 12
  assert state == {}
  np.testing.assert_array_equal(found.metrics, record.metrics)
  assert_same(found.scores, record.scores)
  (kernel,) = found.head.values()
  assert kernel.tobytes() == record.head['params.kernel'].tobytes()


def test_a_head_can_be_saved_before_its_first_evaluation(tmp_path):
  record = Record(JOB)
  record.add_metrics(np.ones((3, 1), np.float32))
  save(tmp_path, record)
  found, _ = load(tmp_path)
  assert found.step == 1
  assert found.scores == {}


def test_where_nothing_was_saved_nothing_is_found(tmp_path):
  assert load(tmp_path / 'none') is None
  assert not list(tmp_path.iterdir())
  save(tmp_path, grow(Record(JOB)))
  assert load(tmp_path, make_job(7)) is None
  assert load(tmp_path, make_job(2, 'other')) is None


def test_the_latest_wins_and_the_one_before_is_kept(tmp_path):
  record = Record(JOB)
  for kept in ({'3'}, {'3', '6'}, {'6', '9'}):
    save(tmp_path, grow(record))
    assert steps_in(tmp_path) == kept
    found, state = load(tmp_path)
    assert found.step == state['count'] == record.step


def test_no_save_is_left_out_however_soon_it_follows(tmp_path):
  record, checkpoints = Record(JOB), Checkpoints(tmp_path)
  for _ in range(3):
    checkpoints.save(grow(record), state_of(record))
  record.head = {'kernel': np.eye(2, dtype='f')}
  checkpoints.save(grow(record))
  checkpoints.close()
  assert steps_in(tmp_path) == {'12'}  # Nothing goes on from the others.
  found, _ = load(tmp_path)
  assert found.finished
  assert_same(found.head, record.head)


def test_a_head_can_be_saved_twice_as_it_is(tmp_path):
  record, checkpoints = Record(JOB), Checkpoints(tmp_path)
  for _ in range(2):
    grow(record)
    for _ in range(2):
      checkpoints.save(record, state_of(record))
  checkpoints.close()
  assert steps_in(tmp_path) == {'3', '6'}
  assert load(tmp_path)[0].step == 6


def test_a_save_is_of_the_moment_it_was_made(tmp_path):
  record, checkpoints = grow(Record(JOB)), Checkpoints(tmp_path)
  before = record.metrics.copy()
  checkpoints.save(record, state_of(record))
  record.metrics[:] = -1
  grow(record)
  checkpoints.close()
  np.testing.assert_array_equal(load(tmp_path)[0].metrics, before)


@pytest.mark.parametrize(
  'missing', [None, '_CHECKPOINT_METADATA', 'arrays.safetensors']
)
def test_a_half_written_checkpoint_is_never_taken(tmp_path, missing):
  record = Record(JOB)
  for _ in range(2):
    save(tmp_path, grow(record))
  home = tmp_path / JOB.category / f'seed-{JOB.seed}'
  # Until it is whole, a checkpoint has another name.
  partial = (home / '6').rename(home / '6.orbax-checkpoint-tmp')
  if missing:
    (partial / missing).unlink()
  found, state = load(tmp_path)
  assert found.step == state['count'] == 3
  save(tmp_path, grow(found))
  assert steps_in(tmp_path) == {'3', '6'}
  assert load(tmp_path)[0].step == 6
  for path in home.iterdir():
    path.rename(path.with_name(f'{path.name}.orbax-checkpoint-tmp'))
  assert load(tmp_path) is None


@pytest.mark.parametrize('name', ['two words', 'part [1]', '$HOME', 'ü%20*?'])
def test_any_folder_name_will_do(tmp_path, name):
  job = make_job(0, name)
  record = grow(Record(job))
  folder = tmp_path / name / 'checkpoints'
  save(folder, record)
  assert steps_in(folder, job) == {'3'}
  found, state = load(folder, job)
  np.testing.assert_array_equal(found.metrics, record.metrics)
  assert_same(state, state_of(record))


def test_heads_do_not_see_each_other(tmp_path):
  jobs = [make_job(0), make_job(1), make_job(0, 'other'), make_job(1, 'part2')]
  records = [
    grow(Record(job), epochs) for epochs, job in enumerate(jobs, start=1)
  ]
  records[-1].head = {'kernel': np.eye(2, dtype='f')}
  save(tmp_path, *records)
  checkpoints = Checkpoints(tmp_path)
  for record in records:
    found, _ = checkpoints.load(record.job)
    assert found.job == record.job
    np.testing.assert_array_equal(found.metrics, record.metrics)
  checkpoints.close()


@pytest.mark.parametrize('damage', ['flipped', 'truncated', 'emptied', 'lost'])
def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(
  tmp_path, damage, capsys
):
  record = Record(JOB)
  for _ in range(2):
    save(tmp_path, grow(record))
  path = tmp_path / JOB.category / f'seed-{JOB.seed}/6/arrays.safetensors'
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  if damage == 'flipped':
    path.write_bytes(content)
  elif damage == 'truncated':
    path.write_bytes(content[:-5])
  elif damage == 'emptied':
    path.write_bytes(b'')
  else:
    path.unlink()
  checkpoints = Checkpoints(tmp_path)
  found, state = checkpoints.load(JOB)
  assert found.step == state['count'] == 3
  told = capsys.readouterr().out
  assert f'{path.parent} cannot be read' in told
  assert 'the one before it is taken' in told
  assert checkpoints.progress(JOB) == 3
  assert not capsys.readouterr().out  # Once is enough.
  # The next save puts a whole one in its place.
  checkpoints.save(grow(found), state_of(found))
  checkpoints.close()
  assert load(tmp_path)[0].step == 6


def test_progress_counts_steps(tmp_path):
  checkpoints, record = Checkpoints(tmp_path), Record(JOB)
  assert checkpoints.progress(JOB) == 0
  checkpoints.save(grow(record), state_of(record))
  checkpoints.close()
  assert Checkpoints(tmp_path).progress(JOB) == 3


def test_what_a_kill_left_beside_a_finished_head_is_removed(tmp_path):
  record = grow(Record(JOB, rank), 3)
  save(tmp_path, record)
  home = tmp_path / JOB.category / f'seed-{JOB.seed}'
  (earlier,) = home.iterdir()
  left = earlier.rename(tmp_path / 'left')
  grow(record).head = {'kernel': np.ones(3)}
  save(tmp_path, record)
  left.rename(earlier)
  (home / '6.orbax-checkpoint-tmp').mkdir()
  checkpoints = Checkpoints(tmp_path)
  assert checkpoints.progress(JOB) == JOB.steps
  checkpoints.close()
  assert steps_in(tmp_path) == {str(JOB.steps)}


def test_progress_leaves_a_head_under_way_as_it_is(tmp_path):
  record = Record(JOB)
  save(tmp_path, grow(record))
  save(tmp_path, grow(record))
  checkpoints = Checkpoints(tmp_path)
  assert checkpoints.progress(JOB) == 6
  checkpoints.close()
  assert steps_in(tmp_path) == {'3', '6'}


def test_processes_take_up_each_others_heads(tmp_path):
  record, checkpoints = Record(JOB), Checkpoints(tmp_path)
  checkpoints.save(grow(record), state_of(record))
  checkpoints.save(grow(record), state_of(record))
  checkpoints.close()
  other = Checkpoints(tmp_path)
  found, _ = other.load(JOB)
  other.save(grow(found), state_of(found))
  other.close()
  # What the first has seen does not hide it.
  assert checkpoints.progress(JOB) == 9
  assert steps_in(tmp_path) == {'6', '9'}


def fail(*_, **__):
  raise safetensors.SafetensorError('No space left on device')


def test_a_full_disk_is_told_and_loses_nothing(tmp_path, monkeypatch):
  record = grow(Record(JOB))
  save(tmp_path, record)
  checkpoints = Checkpoints(tmp_path)
  monkeypatch.setattr(files, 'save_file', fail)
  grow(record)
  checkpoints.save(record, state_of(record))
  with pytest.raises(OSError, match=r'arrays.safetensors: cannot be written'):
    checkpoints.close()
  assert load(tmp_path)[0].step == 3


@pytest.mark.parametrize('epochs', [2, 4])  # Under way, or finished.
def test_a_save_that_failed_does_not_take_the_next_one_with_it(
  tmp_path, monkeypatch, caplog, epochs
):
  record, checkpoints = grow(Record(JOB)), Checkpoints(tmp_path)
  with monkeypatch.context() as full:
    full.setattr(files, 'save_file', fail)
    checkpoints.save(record, state_of(record))
    checkpoints._thread.submit(int).result()  # It is through.
  grow(record, epochs - 1)
  record.head = {'kernel': np.eye(2)} if record.finished else None
  checkpoints.save(record, None if record.finished else state_of(record))
  checkpoints.close()
  assert load(tmp_path)[0].step == 3 * epochs
  (told,) = [r.getMessage() for r in caplog.records if r.name == 'absl']
  assert 'a checkpoint could not be saved (' in told
  assert 'No space left on device' in told


def test_a_second_save_that_fails_ends_the_run(tmp_path, monkeypatch):
  record, checkpoints = grow(Record(JOB)), Checkpoints(tmp_path)
  monkeypatch.setattr(files, 'save_file', fail)
  checkpoints.save(record, state_of(record))
  with pytest.raises(OSError, match='No space left on device'):
    checkpoints.save(grow(record), state_of(record))
  with pytest.raises(OSError, match='No space left on device'):
    checkpoints.close()
