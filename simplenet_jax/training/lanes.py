"""Heads side by side on one device, as compiled loops over their steps.

A lane holds one head at a time, of whatever category. The programs know rows of
the bank and numbers of steps, not categories: each is compiled once.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from simplenet_jax.training import noise, sampling, step
from simplenet_jax.training.step import HeadState, Recipe, StepMetrics

# Images whose patches are scored by one call, at most; fewer cost less.
SCORED = 128
_BLOCK = 8  # Images scored at a time.

Levels = tuple[jax.Array, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Work:
  """What each lane does next.

  Attributes:
    rows: Of the bank, int32 `[lanes, steps, batch]`.
    valid: 1 for the images of a batch, 0 for padding, float32 of that shape.
    keys: From which a head draws its noise, uint32 `[lanes, 2]`.
    first: Number of a head's first step among these, int32 `[lanes]`; each
      step draws from the key and its number alone.
    sigma: Standard deviation of its noise, in units of adapted features,
      float32 `[lanes]`.
    rate: Factor of a step's learning rates, float32 `[lanes, steps]`.
  """

  rows: jax.Array
  valid: jax.Array
  keys: jax.Array
  first: jax.Array
  sigma: jax.Array
  rate: jax.Array


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
  work: Work,
  count: jax.Array,
) -> tuple[HeadState, StepMetrics]:
  """Trains every lane's head for some steps.

  Args:
    recipe: What to minimise and how.
    states: Of all lanes, each leaf with the lanes axis first. Donated.
    levels: Of the bank, `[rows, h, w, channels]` of each level.
    work: Of at least `count` steps.
    count: How many steps to do, int32; a number, so that the program serves
      any.

  Returns:
    The new states, and metrics `[lanes, steps]`, zero from `count` on.
  """
  lanes, steps, _ = work.rows.shape

  def one_step(state, rows, valid, key, number, sigma, rate):
    key = noise.fold_in(key, number)
    if recipe.patches:
      batch = sampling.draw(levels, rows, key, recipe.patches)
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
      work.rows[:, i],
      work.valid[:, i],
      work.keys,
      work.first + i,
      work.sigma,
      work.rate[:, i],
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
  """Scores every patch of some images with one lane's head.

  Args:
    recipe: For the heads' structure.
    states: Of all lanes.
    lane: Whose head, int32.
    levels: Of the bank.
    rows: Of the images, int32 `[SCORED]`.
    count: How many of them are meant, int32.

  Returns:
    Patch scores `[SCORED, H, W]`, unbounded; higher is more anomalous; zero
    from `count` on, or a block later.
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
