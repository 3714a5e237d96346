import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet_jax.evaluation import testset
from simplenet_jax.training.record import (
  METRICS,
  Record,
  flat,
  unflat,
  unlearned,
)
from tests.training.test_lanes import assert_equal, init, make_job

JOB = make_job(2)  # Four epochs of three steps.
RNG = np.random.default_rng(0)


def make_metrics(steps):
  return RNG.uniform(size=(3, steps)).astype(np.float32)


def scores_of(value):
  return np.full((2, 4, 4), value, np.float32)


def rank(scores):
  return float(scores[0, 0, 0])


def add_ranked(ranks):
  record = Record(JOB, rank)
  for epoch, value in enumerate(ranks, 1):
    record.add_scores(epoch, scores_of(value))
  return record


def test_metrics_are_appended():
  record, values = Record(JOB), make_metrics(12)
  for cut in ((0, 1), (1, 8), (8, 12)):
    assert not record.finished
    record.add_metrics(values[:, slice(*cut)])
    assert record.step == cut[1]
    np.testing.assert_array_equal(
      record.metrics[:, : record.step], values[:, : record.step]
    )
    assert not record.metrics[:, record.step :].any()
  assert record.finished


def test_a_head_with_an_error_is_not_finished():
  record = Record(JOB)
  record.add_metrics(make_metrics(12))
  record.error = 'scores of seed 2 are not finite after epoch 4'
  assert not record.finished


# Guessing has the loss 2 ln 2, or twice the margin.
@pytest.mark.parametrize(
  ('loss', 'margin', 'means', 'learned'),
  [
    ('cross_entropy', 0.5, (1.383, 0.0, 0.0), False),
    ('cross_entropy', 0.5, (1.32, 0.4, 0.4), False),
    ('cross_entropy', 0.5, (1.31, 0.4, 0.4), True),
    ('cross_entropy', 0.5, (4.5, 0.4, 0.6), False),
    ('cross_entropy', 0.5, (1.0, 0.04, 0.04), False),
    ('cross_entropy', 0.5, (1.0, 0.04, 0.06), True),
    ('truncated_l1', 0.5, (0.995, 0.0, 0.0), False),
    ('truncated_l1', 0.5, (0.94, 0.1, 0.1), True),
    ('truncated_l1', 1.0, (1.5, 0.1, 0.1), True),
    ('truncated_l1', 0.0, (0.1, 0.9, 0.9), True),
  ],
)
def test_a_head_that_has_not_learned_is_told(loss, margin, means, learned):
  record = Record(JOB)
  # Only the last epoch counts.
  record.add_metrics(np.full((3, 9), 0.01, np.float32))
  record.add_metrics(np.repeat(np.float32(means)[:, None], 3, axis=1))
  told = unlearned(record, loss, margin)
  if learned:
    assert not told
  else:
    assert f'{JOB.category}: the head of seed 2 has not learned' in told
    assert f'its loss is {means[0]:.3g}, that of guessing' in told
    assert told.endswith('train longer (--config.train.epochs)')


@pytest.mark.parametrize('loss', [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_named_by_epoch_and_step(loss):
  record, values = Record(JOB), make_metrics(10)
  record.add_metrics(values[:, :2])
  values[0, [4, 6]] = loss, np.nan
  with pytest.raises(
    ValueError, match=f'loss of seed 2 is {loss} at step 2 of epoch 2; lower'
  ):
    record.add_metrics(values[:, 2:])
  assert record.step == 2
  np.testing.assert_array_equal(record.metrics[:, 2:], 0)


@pytest.mark.parametrize(
  ('ranks', 'kept'),
  [
    ([0.5], [1]),
    ([0.5, 0.4, 0.3], [1, 3]),
    ([0.5, 0.6, 0.7], [3]),
    ([0.5, 0.4, 0.5, 0.1], [1, 3, 4]),
    ([0.5, 0.5, 0.9, 0.1], [3, 4]),
  ],
)
def test_scores_of_the_latest_and_the_best_epochs_are_kept(ranks, kept):
  record = add_ranked(ranks)
  assert list(record.scores) == kept
  for epoch, scores in record.scores.items():
    np.testing.assert_array_equal(scores, scores_of(ranks[epoch - 1]))


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(value):
  record = add_ranked([0.5])
  with pytest.raises(
    ValueError, match=r'seed \d+ are not finite after epoch 2'
  ):
    record.add_scores(2, scores_of(value))
  assert list(record.scores) == [1]


def test_an_undefined_rank_never_wins():
  ranks = iter([np.nan, 0.2, np.nan])
  record = Record(JOB, lambda scores: next(ranks))
  for epoch in (1, 2, 3):
    record.add_scores(epoch, scores_of(0.0))
  assert list(record.scores) == [2, 3]


def test_without_a_rank_only_the_latest_scores_are_kept():
  record = Record(JOB)
  for epoch in (2, 4):
    record.add_scores(epoch, scores_of(1 / epoch))
    assert list(record.scores) == [epoch]


# Few different values, so that ties are common.
SHARES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=8))
def test_what_is_selected_among_all_epochs_is_still_there(pairs):
  ranks, others = zip(*pairs, strict=True)
  record = add_ranked(ranks)

  def select(epochs):
    return testset.select_best(
      epochs,
      [ranks[epoch - 1] for epoch in epochs],
      lambda epoch: others[epoch - 1],
    )

  assert select(list(record.scores)) == select(list(range(1, len(ranks) + 1)))
  assert len(ranks) in record.scores


@pytest.mark.parametrize(('steps', 'whole'), [(2, 0), (3, 1), (8, 2), (12, 4)])
def test_only_whole_epochs_have_means(steps, whole):
  record, values = Record(JOB), make_metrics(steps)
  record.add_metrics(values)
  epochs = record.epochs()
  assert tuple(epochs) == METRICS
  for name, row in zip(METRICS, values, strict=True):
    means = [row[3 * i : 3 * i + 3].mean() for i in range(whole)]
    assert epochs[name].shape == (whole,)
    np.testing.assert_allclose(epochs[name], means, rtol=1e-6)


@pytest.fixture(scope='module')
def state():
  return init(JOB)


def test_a_state_is_flattened_and_put_back(state):
  leaves = flat(state)
  assert {
    'params.discriminator.tail.kernel',
    'stats.discriminator.norm.mean',
  } < (set(leaves))
  assert all(isinstance(leaf, np.ndarray) for leaf in leaves.values())
  assert_equal(unflat(leaves, state), state)
  # Their order is not what matters.
  assert_equal(unflat(dict(reversed(leaves.items())), state), state)


def test_a_missing_leaf_is_named(state):
  leaves = flat(state)
  del leaves['params.discriminator.tail.kernel']
  with pytest.raises(
    ValueError,
    match=r'params\.discriminator\.tail\.kernel is None, expected \(6, 1\)',
  ):
    unflat(leaves, state)


def test_a_leaf_of_another_shape_is_named(state):
  leaves = flat(state)
  leaves['stats.discriminator.norm.mean'] = np.zeros((3, 2), np.float32)
  with pytest.raises(
    ValueError,
    match=r'norm\.mean is \(3, 2\), expected \(6,\)',
  ):
    unflat(leaves, state)
