"""Compiled loops over steps, on one device."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from simplenet_jax.config import from_protocol
from simplenet_jax.models import resampling
from simplenet_jax.training import lanes, step
from simplenet_jax.training.job import Job, batches
from simplenet_jax.training.levels import Levels

STARTS = (0, 3)
STEPS, RATED = 12, 8  # From then on the learning rate is 0.
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
LEVELS = Levels.of(
  [
    jnp.asarray(RNG.normal(size=shape), jnp.float32)
    for shape in ((20, 4, 4, 3), (20, 2, 2, 5))
  ]
)


def make_job(seed, category='part', images=10):
  return Job(category, seed, images, 4, epochs=4)


def init(job, recipe=RECIPE):
  key = step.head_key(job.seed, job.category)
  return step.init_head(recipe, key)


def train(jobs, recipe=RECIPE, count=STEPS, pasted=None):
  fresh = [init(job, recipe) for job in jobs]
  states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fresh)
  parts = [batches(job, 0, STEPS) for job in jobs]
  rows, valid = (jnp.stack(part) for part in zip(*parts, strict=True))
  keys = [
    jax.random.key_data(step.head_key(job.seed, job.category)) for job in jobs
  ]
  inputs = lanes.StepInputs(
    rows,
    valid,
    jnp.stack(keys),
    jnp.zeros(len(jobs), jnp.int32),
    jnp.full(len(jobs), SIGMA),
    jnp.tile(jnp.float32(np.arange(STEPS) < RATED), (len(jobs), 1)),
    pasted=pasted,
  )
  states, metrics = lanes.advance(recipe, states, LEVELS, inputs, count)
  return states, metrics[..., 0]


def assert_equal(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize('patches', [0, 5])
def test_a_lane_repeats_single_steps(patches):
  recipe = dataclasses.replace(RECIPE, patches=patches)
  job = make_job(3)
  states, losses = train([job], recipe)
  state = init(job, recipe)
  images, valid = batches(job, 0, STEPS)
  key = jax.random.key_data(step.head_key(3, 'part'))
  for i in range(STEPS):
    own = lanes.fold_in(key, i)
    batch = LEVELS.images(images[i])
    if patches:
      batch = lanes.draw_patches(LEVELS, images[i], own, patches)
    draw = SIGMA * lanes.normal(own, (*batch[0].shape[:3], 8))
    after, metrics = step.train_step(recipe, state, batch, valid[i], draw)
    params = state.params if i >= RATED else after.params
    state = after._replace(params=params)
    np.testing.assert_allclose(metrics[0], losses[0, i], rtol=1e-4)
  # Kernels alone: a bias before a BatchNorm has no gradient but rounding.
  kernels = [
    [leaf for leaf in jax.tree.leaves(one.params) if leaf.ndim == 2]
    for one in (state, lanes.take(states, 0))
  ]
  for one, other in zip(*kernels, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_lane_draws_from_pasted_patches_of_its_own():
  recipe = dataclasses.replace(RECIPE, patches=5, pasted=2)
  jobs = [make_job(0), make_job(1, 'other')]
  pools = jnp.asarray(RNG.normal(size=(2, 30, RECIPE.dim)), jnp.float32)
  states, losses = train(jobs, recipe, pasted=pools)
  for lane, job in enumerate(jobs):
    alone, loss = train([job], recipe, pasted=pools[lane : lane + 1])
    np.testing.assert_allclose(losses[lane], loss[0], rtol=1e-4)
    for one, other in zip(
      *map(jax.tree.leaves, (states.params, alone.params)), strict=True
    ):
      np.testing.assert_allclose(one[lane], other[0], rtol=1e-3, atol=1e-5)
  _, exchanged = train(jobs, recipe, pasted=pools[::-1])
  assert (np.abs(exchanged - losses) > 1e-4).any()


def test_a_loop_of_known_length_does_the_same():
  jobs = [make_job(0), make_job(1)]
  assert_equal(train(jobs, count=None), train(jobs))


def test_scores_are_those_of_each_head_on_each_image():
  states, _ = train([make_job(0), make_job(1)])
  rows = np.array([7, 2, 19, 0, 4, 4, 1, 3], np.int32)
  for index in range(2):
    scores = lanes.score(RECIPE, states, jnp.int32(index), LEVELS, rows)
    alone = step.patch_scores(
      RECIPE, lanes.take(states, index), LEVELS.images(rows)
    )
    np.testing.assert_allclose(scores, alone, atol=1e-5)


KEY = np.array([3, 4], np.uint32)


@pytest.mark.parametrize('coarse', [(3, 4), (6, 7), (1, 1), (5, 2)])
def test_drawn_patches_are_those_of_resized_images(coarse):
  fine, other = (
    jnp.asarray(RNG.normal(size=(5, *size, 3)), jnp.float32)
    for size in ((6, 7), coarse)
  )
  rows = jnp.array([4, 0, 0])
  drawn, resized = lanes.draw_patches(Levels.of([fine, other]), rows, KEY, 50)
  places = np.divmod(np.asarray(lanes.integers(KEY, (3, 50), 42)), 7)
  whole = jax.vmap(lambda grid: resampling.resize(grid, (6, 7)))(other)
  at = (np.asarray(rows)[:, None], *places)
  np.testing.assert_array_equal(drawn[:, :, 0], fine[at])
  np.testing.assert_allclose(resized[:, :, 0], whole[at], atol=1e-6)


def test_threefry_matches_its_authors_known_answers():
  # Random123, kat_vectors, threefry2x32 20.
  pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
  counter, key = (np.array(words, np.uint32) for words in (pi[:2], pi[2:]))
  words = lanes.threefry(jnp.asarray(key), *jnp.asarray(counter))
  assert [hex(int(word)) for word in words] == ['0xc4923a9c', '0x483df7a0']


def test_draws_are_standard_normal():
  drawn = np.asarray(lanes.normal(KEY, (1_000_001,)))
  assert drawn.dtype == np.float32
  assert stats.kstest(drawn, 'norm').pvalue > 0.01
  assert abs(drawn.mean()) < 4e-3
  assert abs(stats.kurtosis(drawn)) < 0.02
  # The two halves come from the two words of the same counters.
  half = len(drawn) // 2
  assert abs(np.corrcoef(drawn[:half], drawn[half : 2 * half])[0, 1]) < 6e-3
  low, high = np.asarray(lanes._normal(jnp.array([0, 2**32 - 1], jnp.uint32)))
  assert low == -high
  assert 5 < high < 5.5


def test_keys_make_draws_independent_and_a_lane_its_own():
  keys = jnp.stack([lanes.fold_in(KEY, number) for number in range(3)])
  assert len({tuple(key) for key in np.asarray(keys).tolist()}) == 3
  draw = jax.jit(lambda key: lanes.normal(key, (1000,)))
  together = jax.jit(jax.vmap(draw))(keys)
  for key, lane in zip(keys, together, strict=True):
    np.testing.assert_array_equal(draw(key), lane)
  assert np.abs(np.corrcoef(together) - np.eye(3)).max() < 0.15
  # Integers do not depend on normals of the same key.
  places = np.asarray(lanes.integers(KEY, (100_000,), 1000))
  normals = np.asarray(lanes.normal(KEY, (100_000,)))
  assert abs(np.corrcoef(places, normals)[0, 1]) < 0.02
  assert (places.min(), places.max()) == (0, 999)
