"""A sweep's last epochs beside a baseline, without training."""

import numpy as np
import pytest
from scipy import stats

from simplenet_jax.sweeps import tables


def test_intervals_are_those_of_a_paired_t_test():
  values, baseline = np.random.default_rng(0).uniform(0.8, 1, (2, 6))
  found = tables.compare(values, baseline, 0.01)
  expected = stats.ttest_rel(values, baseline).confidence_interval(0.95)
  assert found['mean'] == pytest.approx(np.mean(values - baseline))
  assert (found['low'], found['high']) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
  ('values', 'tolerated', 'expected'),
  [
    ([0.9, 0.8, 0.95], 0.002, True),
    ([0.8981, 0.7981, 0.9481], 0.002, True),
    ([0.8979, 0.7979, 0.9479], 0.002, False),
    ([1.0, 0.9, 1.05], 0.0, True),
    ([0.99, 0.801], 0.002, False),  # A wide interval shows nothing.
    ([0.95], 0.002, False),  # One seed has none.
  ],
)
def test_not_inferior_is_what_surely_lies_above_the_margin(
  values, tolerated, expected
):
  baseline = [0.9, 0.8, 0.95][: len(values)]
  found = tables.compare(values, baseline, tolerated)
  assert found['not_inferior'] is expected
  assert (found['low'] is None) == (len(values) == 1)
