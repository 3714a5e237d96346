"""What is known of heads in training, and how people follow them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet_jax import console
from simplenet_jax.evaluation import testset
from simplenet_jax.training import progress as heads
from simplenet_jax.training.progress import METRICS, HeadProgress, Watch
from tests.training.test_lanes import make_job

JOB = make_job(2)  # Four epochs of three steps.
JOBS = [make_job(seed) for seed in (0, 1)]
RNG = np.random.default_rng(0)


def make_metrics(steps):
  return RNG.uniform(size=(3, steps)).astype(np.float32)


def constant(job, steps, *values):
  """Returns the progress of a head with the same metrics in every step."""
  progress = HeadProgress(job)
  progress.add_metrics(np.tile(np.array([values], 'f').T, steps))
  return progress


def add_ranked(ranks):
  """Returns the progress of a head whose epochs have these ranks."""
  values = iter(ranks)
  progress = HeadProgress(JOB, lambda scores: next(values))
  for epoch in range(1, len(ranks) + 1):
    progress.add_scores(epoch, np.full((2, 4, 4), epoch, np.float32))
  return progress


def test_metrics_are_appended():
  progress, values = HeadProgress(JOB), make_metrics(12)
  for cut in ((0, 1), (1, 8), (8, 12)):
    assert not progress.finished
    progress.add_metrics(values[:, slice(*cut)])
    assert len(progress.epochs()['loss']) == cut[1] // 3  # Whole ones alone.
    known = progress.metrics[:, : progress.step]
    np.testing.assert_array_equal(known, values[:, : cut[1]])
    assert not progress.metrics[:, progress.step :].any()
  assert progress.finished
  for name, row in zip(METRICS, values, strict=True):
    means = row.reshape(4, 3).mean(1)
    np.testing.assert_allclose(progress.epochs()[name], means, rtol=1e-6)
  progress.error = 'scores of seed 2 are not finite after epoch 4'
  assert not progress.finished


# Guessing has the loss 2 ln 2, or twice the margin.
@pytest.mark.parametrize(
  ('loss', 'margin', 'means', 'learned'),
  [
    ('cross_entropy', 0.5, (1.32, 0.4, 0.4), False),
    ('cross_entropy', 0.5, (1.31, 0.4, 0.4), True),
    ('cross_entropy', 0.5, (1.0, 0.04, 0.04), False),
    ('cross_entropy', 0.5, (1.0, 0.04, 0.06), True),
    ('truncated_l1', 0.5, (0.995, 0.0, 0.0), False),
    ('truncated_l1', 1.0, (1.5, 0.1, 0.1), True),
    ('truncated_l1', 0.0, (0.1, 0.9, 0.9), True),
  ],
)
def test_a_head_that_has_not_learned_is_told(loss, margin, means, learned):
  progress = constant(JOB, 9, 0.01, 0.01, 0.01)  # Only the last epoch counts.
  progress.add_metrics(np.repeat(np.float32(means)[:, None], 3, axis=1))
  told = heads.unlearned(progress, loss, margin)
  if learned:
    assert not told
  else:
    assert f'{JOB.category}: the head of seed 2 has not learned' in told
    assert f'its loss is {means[0]:.3g}, that of guessing' in told
    assert told.endswith('longer (--config.train.epochs, .min_steps)')


@pytest.mark.parametrize('loss', [np.nan, -np.inf])
def test_a_loss_that_is_not_finite_is_named_by_epoch_and_step(loss):
  progress, values = HeadProgress(JOB), make_metrics(10)
  progress.add_metrics(values[:, :2])
  values[0, [4, 6]] = loss, np.nan
  said = f'loss of seed 2 is {loss} at step 2 of epoch 2; lower'
  with pytest.raises(ValueError, match=said):
    progress.add_metrics(values[:, 2:])
  assert progress.step == 2


@pytest.mark.parametrize(
  ('ranks', 'kept'),
  [
    ([0.5, 0.4, 0.3], [1, 3]),
    ([0.5, 0.6, 0.7], [3]),
    ([0.5, 0.4, 0.5, 0.1], [1, 3, 4]),
    ([np.nan, 0.2, np.nan], [2, 3]),  # What is undefined never wins.
  ],
)
def test_scores_of_the_latest_and_the_best_epochs_are_kept(ranks, kept):
  progress = add_ranked(ranks)
  assert list(progress.scores) == kept
  assert [scores.max() for scores in progress.scores.values()] == kept
  said = 'scores of seed 2 are not finite after epoch 9'
  with pytest.raises(ValueError, match=said):
    progress.add_scores(9, np.full((2, 4, 4), np.inf))
  assert list(progress.scores) == kept


# Few different values, so that ties are common.
SHARES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=8))
def test_what_is_selected_among_all_epochs_is_still_there(pairs):
  ranks, others = zip(*pairs, strict=True)
  progress = add_ranked(ranks)

  def select(epochs):
    return testset.select_best(
      {epoch: ranks[epoch - 1] for epoch in epochs},
      lambda epoch: others[epoch - 1],
    )

  assert select(list(progress.scores)) == select(list(range(1, len(ranks) + 1)))
  assert len(ranks) in progress.scores


@pytest.fixture
def told(capsys):
  """Returns a function that returns the lines printed since its last call."""
  return lambda: capsys.readouterr().out.splitlines()


def test_a_category_leaves_one_line_with_its_last_losses(told):
  watch = Watch(console.Board(), dict.fromkeys(JOBS[:1], 0))
  watch.on_batch('part', 4, 10)
  assert not told()
  watch.on_batch('part', 10, 10)
  assert told()[0].startswith('  part, features: 10 images in ')
  progress = constant(JOBS[0], 9, 5, 0, 0)
  watch.on_steps(progress)
  progress.add_metrics(np.tile(np.array([[0.25, 0.5, 1]], 'f').T, 3))
  watch.on_steps(progress)
  assert not told()
  watch.end('part')
  (line,) = told()
  assert line.startswith(
    '  part: tells 75.0% of good patches and counterfeit defects apart, '
    'epoch 4 of 4 in '
  )
  watch.end('part')  # There is nothing more to say.
  assert not told()
  watch = Watch(console.Board(), dict.fromkeys(JOBS, 0))
  for job, loss in zip(JOBS, (1, 2), strict=True):
    watch.on_steps(constant(job, 12, loss, 0, 1))
  watch.end('part')
  (line,) = told()
  assert 'apart, epoch 8 of 2 x 4 in ' in line


@pytest.mark.parametrize(
  ('jobs', 'lines'), [(JOBS[:1], ['part']), (JOBS, ['part', 'all heads'])]
)
def test_several_heads_have_a_line_for_all_of_them(monkeypatch, jobs, lines):
  shown, board = [], console.Board()
  monkeypatch.setattr(board, 'show', lambda name, *_: shown.append(name))
  watch = Watch(board, dict.fromkeys(jobs, 0))
  assert shown == ['part']  # What it begins with.
  watch.on_steps(constant(JOBS[0], 9, 5, 0, 0))
  assert shown[1:] == lines


def test_time_left_is_told_once_the_speed_is_known(monkeypatch, capsys):
  board = console.Board()
  for at, done in ((0, 0), (20, 1), (21, 2), (24, 20), (26, 40)):
    monkeypatch.setattr(console.time, 'monotonic', lambda at=at: float(at))
    board.get_time = console.time.monotonic
    board.show('part', done, 100, f'{done} of 100')
  assert capsys.readouterr().out == '  part: 40 of 100, 10 s left\n'
