"""Last epochs against another recipe's best test epoch."""

import numpy as np
import pytest
from scipy import stats

from simplenet_jax.sweeps import gap


def test_intervals_are_those_of_a_paired_t_test():
  rng = np.random.default_rng(0)
  values, bar = rng.uniform(0.8, 1, (2, 6))
  found = gap.compare(values, bar, 0.01)
  expected = stats.ttest_rel(values, bar).confidence_interval(0.95)
  assert found['mean'] == pytest.approx(np.mean(values - bar))
  assert (found['low'], found['high']) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
  ('shift', 'margin', 'expected'),
  [
    (0.0, 0.002, True),
    (-0.0019, 0.002, True),
    (-0.0021, 0.002, False),
    (0.1, 0.0, True),
  ],
)
def test_not_inferior_is_what_surely_lies_above_the_margin(
  shift, margin, expected
):
  bar = np.array([0.9, 0.8, 0.95])
  assert gap.compare(bar + shift, bar, margin)['not_inferior'] is expected


def test_a_wide_interval_shows_nothing():
  bar = np.array([0.9, 0.9])
  assert not gap.compare([0.99, 0.901], bar, 0.002)['not_inferior']


def test_one_seed_has_no_interval():
  found = gap.compare([0.95], [0.9], 0.002)
  assert found['mean'] == pytest.approx(0.05)
  assert (found['low'], found['high']) == (None, None)
  assert not found['not_inferior']
