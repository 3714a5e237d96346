import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_jax.config import from_protocol
from simplenet_jax.training import job as heads
from simplenet_jax.training.job import Job

MVTEC = (209, 224, 219, 280, 264, 391, 245, 220)
MVTEC += (267, 320, 230, 60, 213, 247, 240)


def make_jobs(images=MVTEC, seeds=1, batch_size=8, epochs=160):
  return [
    Job(f'part{i:02}', seed, count, batch_size, epochs)
    for i, count in enumerate(images)
    for seed in range(seeds)
  ]


@pytest.mark.parametrize(
  ('seeds', 'parts'), [(1, 2), (1, 4), (3, 4), (3, 8), (5, 4), (5, 8)]
)
def test_heads_are_balanced_and_seeds_stay_together(seeds, parts):
  jobs = make_jobs(seeds=seeds)
  assigned = heads.assign(jobs, parts)
  names = [(job.category, job.seed) for part in assigned for job in part]
  assert sorted(names) == [(job.category, job.seed) for job in jobs]
  loads = [sum(job.steps for job in part) for part in assigned]
  assert max(loads) <= 1.1 * sum(loads) / parts
  homes = [
    sum(any(job.category == name for job in part) for part in assigned)
    for name in {job.category for job in jobs}
  ]
  # Scattered at will, most categories would be in `seeds` parts.
  assert np.mean(homes) <= 2


FULL, SMALL = 1.2e11, 2.7e10  # Operations of a step of `reference`, `fast`.


@pytest.mark.parametrize(
  ('step', 'seeds', 'devices', 'lanes'),
  [
    (FULL, 5, 1, 3),  # A longer step is launched in no time.
    (SMALL, 5, 1, 5),
    (SMALL, 1, 1, 1),  # As many as the seeds: each needs the features.
    (SMALL, 5, 12, 3),  # Six or seven heads each: five would idle.
    (SMALL, 5, 99, 1),
  ],
)
def test_heads_go_side_by_side_where_that_is_quicker(
  step, seeds, devices, lanes
):
  parts = heads.assign(make_jobs(seeds=seeds), devices)
  assert heads.quickest(parts, seeds, step) == lanes
  assert heads.quickest(parts, min(seeds, 2), step) == min(2, lanes)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.data())
def test_steps_do_not_depend_on_how_they_are_cut(images, batch_size, data):
  job = Job('part', 0, images, batch_size, 3)
  whole = heads.batches(job, 0, job.steps)
  first = data.draw(st.integers(0, job.steps - 1))
  count = data.draw(st.integers(1, job.steps - first))
  cut = heads.batches(job, first, count)
  for part, everything in zip(cut, whole, strict=True):
    np.testing.assert_array_equal(part, everything[first : first + count])
  for epoch in np.split(np.arange(job.steps), 3):  # Each image once.
    seen = whole[0][epoch][whole[1][epoch] == 1]
    np.testing.assert_array_equal(np.sort(seen), np.arange(images))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 30), st.integers(2, 6), st.integers(1, 5))
def test_each_image_is_left_out_by_one_head(images, parts, batch_size):
  left_out = heads.parts_of('part', images, parts)
  sizes = np.bincount(left_out, minlength=parts)
  assert np.ptp(sizes) <= 1
  for part in range(parts):
    job = Job('part', part, images, batch_size, 2, (part, parts))
    rows, valid = heads.batches(job, 0, job.steps)
    for epoch in np.split(np.arange(job.steps), 2):
      seen = rows[epoch][valid[epoch] == 1]
      assert len({*seen}) == len(seen) == images - sizes.max()
      assert {*seen} <= {*np.flatnonzero(left_out != part)}


def test_orders_differ_by_seed_and_category_and_never_change():
  orders = [
    heads.shuffled(Job(name, seed, 12, 4, 1), 0).tolist()
    for name in ('part', 'other')
    for seed in (0, 1)
  ]
  assert len({tuple(order) for order in orders}) == 4
  assert orders[0] == heads.shuffled(Job('part', 0, 12, 1, 9), 0).tolist()
  assert orders[0] == RECORDED


# Written down when it was first run: runs of other versions must repeat it.
RECORDED = [4, 7, 10, 2, 9, 6, 5, 11, 1, 3, 0, 8]


def test_learning_rates_rise_and_fall():
  job = Job('part', 0, images=80, batch_size=8, epochs=10)
  config = from_protocol()
  assert (heads.rates(config, job, 0, 100) == 1).all()
  config.train.schedule, config.train.warmup = 'cosine', 0.1
  every = heads.rates(config, job, 0, 100)
  np.testing.assert_allclose(every[:10], np.arange(1, 11) / 10, rtol=1e-6)
  passed = np.arange(90) / 90
  np.testing.assert_allclose(
    every[10:], (1 + np.cos(np.pi * passed)) / 2, rtol=1e-5
  )
  assert 0 < every[-1] < 1e-3
  cut = [heads.rates(config, job, first, 25) for first in (0, 25, 50, 75)]
  np.testing.assert_array_equal(np.concatenate(cut), every)
