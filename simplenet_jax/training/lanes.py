"""Heads side by side on one device, as compiled loops over their steps.

A lane holds one head at a time, of whatever category. The programs know rows of
the bank and numbers of steps, not categories: each is compiled once.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from simplenet_jax.models import resampling
from simplenet_jax.training import noise, step
from simplenet_jax.training.step import HeadState, Recipe, StepMetrics

# Images whose patches are scored by one call, at most; fewer cost less.
SCORED = 128
_BLOCK = 8  # Images scored at a time.

Levels = tuple[jax.Array, ...]  # The bank's, `[rows, h, w, channels]` each.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepInputs:
  """What each lane does next."""

  rows: jax.Array  # Images by their rows, int32 [lanes, steps, batch].
  valid: jax.Array  # 1 for images, 0 for padding, float32, as `rows`.
  keys: jax.Array  # What heads draw their noise from, uint32 [lanes, 2].
  # Number of the first step, int32 [lanes]: a step draws from the key and its
  # number alone.
  first: jax.Array
  sigma: jax.Array  # Of the noise on adapted features, float32 [lanes].
  rate: jax.Array  # Factor of the learning rates, float32 [lanes, steps].


def _side_by_side(function: Callable, lanes: int) -> Callable:
  """Maps over the leading axis, without batched products for one lane."""
  if lanes > 1:
    return jax.vmap(function)

  def alone(*args):
    result = function(*jax.tree.map(lambda leaf: leaf[0], args))
    return jax.tree.map(lambda leaf: leaf[None], result)

  return alone


@functools.partial(
  jax.jit, static_argnames=('recipe',), donate_argnames='states'
)
def advance(
  recipe: Recipe,
  states: HeadState,
  levels: Levels,
  inputs: StepInputs,
  count: jax.Array,
) -> tuple[HeadState, StepMetrics]:
  """Trains every lane's head for some steps.

  Args:
    recipe: What to minimise and how.
    states: All lanes', each leaf with the lanes axis first. Donated.
    levels: The bank's.
    inputs: Of at least `count` steps.
    count: How many steps to do, int32; not static, so one program serves all.

  Returns:
    The new states, and metrics `[lanes, steps]`, zero from `count` on.
  """
  lanes, steps, _ = inputs.rows.shape

  def one_step(state, rows, valid, key, number, sigma, rate):
    key = noise.fold_in(key, number)
    if recipe.patches:
      batch = draw_patches(levels, rows, key, recipe.patches)
    else:
      batch = [jnp.take(level, rows, axis=0) for level in levels]
    drawn = sigma * noise.normal(key, (*batch[0].shape[:3], recipe.dim))
    state, metrics = step.train_step(recipe, state, batch, valid, drawn, rate)
    if recipe.average:
      state = step.averaged(recipe, state, number)
    return state, metrics

  def body(i, carry):
    states, logged = carry
    states, metrics = _side_by_side(one_step, lanes)(
      states,
      inputs.rows[:, i],
      inputs.valid[:, i],
      inputs.keys,
      inputs.first + i,
      inputs.sigma,
      inputs.rate[:, i],
    )
    logged = jax.tree.map(
      lambda table, value: table.at[:, i].set(value), logged, metrics
    )
    return states, logged

  empty = jnp.zeros((lanes, steps), jnp.float32)
  start = (states, StepMetrics(empty, empty, empty))
  return jax.lax.fori_loop(0, count, body, start)


@functools.partial(jax.jit, static_argnames=('recipe',))
def score(
  recipe: Recipe,
  states: HeadState,
  lane: jax.Array,
  levels: Levels,
  rows: jax.Array,
  count: jax.Array,
) -> jax.Array:
  """Scores the images in the first `count` of `rows`, `[SCORED]`, by one lane.

  Returns:
    Patch scores `[SCORED, H, W]`, see `step.patch_scores`; zero from the first
    block beyond `count` on.
  """
  state = take(states, lane)

  def body(i, scores):
    some = jax.lax.dynamic_slice_in_dim(rows, i * _BLOCK, _BLOCK)
    images = [jnp.take(level, some, axis=0) for level in levels]
    return jax.lax.dynamic_update_slice_in_dim(
      scores, step.patch_scores(recipe, state, images), i * _BLOCK, axis=0
    )

  scores = jnp.zeros((SCORED, *levels[0].shape[1:3]), jnp.float32)
  return jax.lax.fori_loop(0, (count + _BLOCK - 1) // _BLOCK, body, scores)


@jax.jit
def take(states: HeadState, lane: jax.Array) -> HeadState:
  """Returns one lane's state."""
  return jax.tree.map(lambda leaf: leaf[lane], states)


@functools.partial(jax.jit, donate_argnames='states')
def put(states: HeadState, lane: jax.Array, state: HeadState) -> HeadState:
  """Returns the states with one lane's replaced. The old ones are donated."""
  return jax.tree.map(
    lambda leaf, value: leaf.at[lane].set(value), states, state
  )


def draw_patches(
  levels: Sequence[jax.Array], rows: jax.Array, key: jax.Array, count: int
) -> list[jax.Array]:
  """Draws patches of images, each position of the finest grid as likely.

  Neighbouring patches are alike, so a step learns more from patches of many
  images than from as many of a few. Of a coarse level, the four positions
  around a patch are gathered and weighted: no image is resized as a whole.

  Returns:
    `[batch, count, 1, channels]` of each level: grids of one column that need
    no resize.
  """
  height, width = levels[0].shape[1:3]
  places = noise.integers(key, (len(rows), count), height * width)
  y, x = places // width, places % width
  return [
    _at(level, rows[:, None], y, x, (height, width))[:, :, None]
    for level in levels
  ]


def _at(level, rows, y, x, grid) -> jax.Array:
  """Gathers positions of `grid` from a level, resized there if need be."""
  if level.shape[1:3] == grid:
    return level[rows, y, x]
  top, bottom, down = _neighbours(level.shape[1], grid[0], y)
  left, right, across = _neighbours(level.shape[2], grid[1], x)
  above, below = (
    (1 - across) * level[rows, at, left] + across * level[rows, at, right]
    for at in (top, bottom)
  )
  return (1 - down) * above + down * below


def _neighbours(inputs, outputs, at) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns both neighbours along an axis, and the weight of the second."""
  ends, second = resampling.taps(inputs, outputs)
  first, other = jnp.asarray(ends)[:, at]
  return first, other, jnp.asarray(second, jnp.float32)[at, None]
