"""Compiled loops over steps, on one device."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simplenet_jax.config import from_protocol
from simplenet_jax.models import resampling
from simplenet_jax.training import lanes, step
from simplenet_jax.training.job import Job, batches

STARTS = (0, 3)
STEPS = 12
SIGMA = 0.5


def make_config():
  config = from_protocol()
  config.patch.target_dim = 8
  config.head.hidden = 6
  config.train.batch_size = 4
  return config


CONFIG = make_config()
RECIPE = step.make_recipe(CONFIG, STARTS)
RNG = np.random.default_rng(0)
LEVELS = tuple(
  jnp.asarray(RNG.normal(size=shape), jnp.float32)
  for shape in ((20, 4, 4, 3), (20, 2, 2, 5))
)


def make_job(seed, category='part', images=10):
  return Job(category, seed, images, 4, epochs=4)


def init(job, recipe=RECIPE):
  key = step.head_key(job.seed, job.category)
  return step.init_head(recipe, key)


def stack(states):
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def work_of(jobs, first=0, count=STEPS, steps=STEPS, sigma=SIGMA):
  parts = [batches(job, first, count) for job in jobs]
  rows, valid = (
    np.stack([np.pad(part[i], ((0, steps - count), (0, 0))) for part in parts])
    for i in (0, 1)
  )
  keys = [
    jax.random.key_data(step.head_key(job.seed, job.category)) for job in jobs
  ]
  return lanes.StepInputs(
    jnp.asarray(rows),
    jnp.asarray(valid),
    jnp.stack(keys),
    jnp.full(len(jobs), first, jnp.int32),
    jnp.full(len(jobs), sigma),
    jnp.ones((len(jobs), steps)),
  )


def train(jobs, cuts=(STEPS,), levels=LEVELS, recipe=RECIPE, sigma=SIGMA):
  states = stack([init(job, recipe) for job in jobs])
  losses, first = [], 0
  for count in cuts:
    states, metrics = lanes.advance(
      recipe,
      states,
      levels,
      work_of(jobs, first, count, sigma=sigma),
      jnp.int32(count),
    )
    losses.append(metrics.loss[:, :count])
    first += count
  return states, np.concatenate(losses, axis=1)


def assert_equal(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def lane(states, index):
  return jax.tree.map(lambda leaf: leaf[index], states)


@pytest.mark.parametrize('patches', [0, 5])
def test_a_lane_repeats_single_steps(patches):
  recipe, job = dataclasses.replace(RECIPE, patches=patches), make_job(3)
  states, losses = train([job], recipe=recipe)
  state = init(job)
  images, valid = batches(job, 0, STEPS)
  key = jax.random.key_data(step.head_key(3, 'part'))
  for i in range(STEPS):
    own = lanes.fold_in(key, i)
    batch = [level[images[i]] for level in LEVELS]
    if patches:
      batch = lanes.draw_patches(LEVELS, images[i], own, patches)
    draw = SIGMA * lanes.normal(own, (*batch[0].shape[:3], 8))
    state, metrics = step.train_step(recipe, state, batch, valid[i], draw)
    np.testing.assert_allclose(metrics.loss, losses[0, i], rtol=1e-4)
  # Kernels alone: a bias before a BatchNorm has no gradient but rounding.
  kernels = [
    [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    for params in (state.params, lane(states, 0).params)
  ]
  for one, other in zip(*kernels, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize('width', [1, 3])
def test_a_schedule_can_be_cut_anywhere(width):
  jobs = [make_job(seed) for seed in range(width)]
  whole, losses = train(jobs)
  cut, cut_losses = train(jobs, cuts=(1, 5, 2, 4))
  assert losses.shape == (width, STEPS)
  np.testing.assert_array_equal(losses, cut_losses)
  assert_equal(whole, cut)


def test_a_head_does_not_depend_on_its_neighbours():
  with_one, losses = train([make_job(0), make_job(1), make_job(2)])
  with_other, other_losses = train(
    [make_job(0), make_job(9, 'small', images=3), make_job(2)]
  )
  np.testing.assert_array_equal(losses[[0, 2]], other_losses[[0, 2]])
  for index in (0, 2):
    assert_equal(lane(with_one, index), lane(with_other, index))


def test_padding_is_never_read():
  job = make_job(0)  # Its third batch of four is short by two.
  poisoned = tuple(level.at[10:].set(jnp.nan) for level in LEVELS)
  work = work_of([job])
  rows = jnp.where(work.valid == 1, work.rows, 5)
  clean, _ = train([job], levels=poisoned)
  padded, _ = lanes.advance(
    RECIPE,
    stack([init(job)]),
    poisoned,
    dataclasses.replace(work, rows=rows),
    jnp.int32(STEPS),
  )
  assert_equal(clean, padded)


def test_scores_are_those_of_each_head_on_each_image():
  states, _ = train([make_job(0), make_job(1)])
  rows = np.array([7, 2, 19, 0, 4, 4, 1, 3], np.int32)
  for index in range(2):
    scores = lanes.score(RECIPE, states, jnp.int32(index), LEVELS, rows)
    alone = step.patch_scores(
      RECIPE, lane(states, index), [level[rows] for level in LEVELS]
    )
    np.testing.assert_allclose(scores, alone, atol=1e-5)


def test_rates_scale_the_steps():
  """Without a rate nothing is learned."""
  job = make_job(3)
  work = work_of([job])
  states, _ = lanes.advance(
    RECIPE,
    stack([init(job)]),
    LEVELS,
    dataclasses.replace(work, rate=work.rate.at[0, 1:].set(0)),
    jnp.int32(STEPS),
  )
  first, _ = train([job], cuts=(1,))
  assert_equal(states.params, first.params)


def test_averages_weigh_the_steps_as_published():
  """Weights of step t of T grow as t to the power of gamma (to first order)."""
  gamma, values = 3.0, np.random.default_rng(0).normal(size=50)
  recipe = dataclasses.replace(RECIPE, average=gamma)
  state = step.HeadState(
    {'a': 0.0}, {}, (), {'params': {'a': 9.0}, 'stats': {}}
  )
  for number, value in enumerate(values):
    state = dataclasses.replace(state, params={'a': value})
    state = step.averaged(recipe, state, jnp.int32(number))
  t = np.arange(1, len(values) + 1)
  # The recurrence, solved: the product of (t)(t+1)...(t+gamma-1).
  weights = np.prod([t + i for i in range(int(gamma))], axis=0)
  expected = np.average(values, weights=weights)
  np.testing.assert_allclose(
    state.weights_to_score['params']['a'], expected, rtol=1e-4
  )


KEY = np.array([3, 4], np.uint32)


@pytest.mark.parametrize('coarse', [(3, 4), (6, 7), (1, 1), (5, 2)])
def test_drawn_patches_are_those_of_resized_images(coarse):
  fine, other = (
    jnp.asarray(RNG.normal(size=(5, *size, 3)), jnp.float32)
    for size in ((6, 7), coarse)
  )
  rows = jnp.array([4, 0, 0])
  drawn, resized = lanes.draw_patches([fine, other], rows, KEY, 50)
  places = np.divmod(np.asarray(lanes.integers(KEY, (3, 50), 42)), 7)
  whole = jax.vmap(lambda grid: resampling.resize(grid, (6, 7)))(other)
  at = (np.asarray(rows)[:, None], *places)
  np.testing.assert_array_equal(drawn[:, :, 0], fine[at])
  np.testing.assert_allclose(resized[:, :, 0], whole[at], atol=1e-6)


def test_every_position_is_drawn_as_likely_and_anew_in_every_step():
  bank, rows = [jnp.arange(12.0).reshape(1, 3, 4, 1)], jnp.zeros(1, jnp.int32)
  one, other = (
    np.asarray(lanes.draw_patches(bank, rows, key, 120_000)[0], int).ravel()
    for key in (KEY, lanes.fold_in(KEY, 1))
  )
  # Five standard deviations of a multinomial's count.
  np.testing.assert_allclose(np.bincount(one), 10_000, atol=480)
  assert abs(np.corrcoef(one, other)[0, 1]) < 0.02
