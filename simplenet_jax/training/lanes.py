"""Heads side by side on one device, as compiled loops over their steps.

A lane holds one head at a time, of whatever category. The programs know rows of
the features and numbers of steps, not categories: each is compiled once, but
`advance` for any number of steps and, on accelerators, for all of them, too.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simplenet_jax.models import simplenet
from simplenet_jax.training import step
from simplenet_jax.training.job import Job
from simplenet_jax.training.levels import Levels
from simplenet_jax.training.progress import HeadProgress
from simplenet_jax.training.step import METRICS, HeadState, Recipe
from simplenet_jax.training.store import Features

SCORED = 8  # Images whose patches are scored at a time.

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # Threefry's.
_PARITY = np.uint32(0x1BD11BDA)


class StepInputs(NamedTuple):
  """What each lane does next."""

  rows: jax.Array  # Images by their rows, int32 [lanes, steps, batch].
  valid: jax.Array  # 1 for images, 0 for padding, float32, as `rows`.
  keys: jax.Array  # What heads draw their noise from, uint32 [lanes, 2].
  # Number of the first step, int32 [lanes]: a step draws from the key and its
  # number alone.
  first: jax.Array
  sigma: jax.Array  # Of the noise on adapted features, float32 [lanes].
  rate: jax.Array  # Factor of the learning rates, float32 [lanes, steps].
  # Which patches of the finest level are drawn, int32 [lanes, H * W], and how
  # many of these count, int32 [lanes]; None: all.
  places: tuple[jax.Array, jax.Array] | None = None
  # Patches of defects that are drawn from, float32 [lanes, count, dim].
  pasted: jax.Array | None = None


@dataclasses.dataclass
class ActiveHead:
  """A head in a lane."""

  job: Job
  lane: int
  progress: HeadProgress
  features: Features
  key: np.ndarray
  sigma: float
  period: int  # Steps between evaluations.
  step: int  # How many the device was told to do.
  saved: float  # When it was, or began.

  @property
  def most_steps(self) -> int:
    """Steps that its evaluations and streamed images allow in one chunk."""
    to_evaluation = self.period - self.step % self.period
    to_end = self.job.steps - self.step
    in_window = self.features.limit // self.job.batch_size
    return min(to_evaluation, to_end, in_window)


def _side_by_side(function: Callable, lanes: int) -> Callable:
  """Maps over the leading axis, without batched products for one lane."""
  if lanes > 1:
    return jax.vmap(function)

  def alone(*args):
    result = function(*jax.tree.map(lambda leaf: leaf[0], args))
    return jax.tree.map(lambda leaf: leaf[None], result)

  return alone


@functools.partial(jax.jit, static_argnames='recipe', donate_argnames='states')
def advance(
  recipe: Recipe,
  states: HeadState,
  levels: Levels,
  inputs: StepInputs,
  count: jax.Array | None = None,
) -> tuple[HeadState, jax.Array]:
  """Trains every lane's head for `count` of the steps of `inputs`.

  The states, each leaf with the lanes axis first, are donated. `count`, int32,
  is not static: one program serves all. Without it all steps are done: a GPU
  can then go from one to the next without an answer of the host. Returns the
  new states, and `METRICS`, `[lanes, steps, 3]`, zero from `count` on.
  """
  lanes, steps, _ = inputs.rows.shape

  def one_step(state, batch, valid, key, number, sigma, rate, places, pasted):
    key = fold_in(key, number)
    if recipe.patches:
      batch = draw_patches(levels, batch, key, recipe.patches, places)
    noise = sigma * normal(key, (*batch[0].shape[:3], recipe.dim))
    if recipe.pasted:
      shape = len(valid), recipe.pasted
      pasted = pasted[integers(fold_in(key, 0), shape, len(pasted))]
    return step.train_step(recipe, state, batch, valid, noise, rate, pasted)

  def body(i, carry):
    states, logged = carry
    rows, valid, rate = inputs.rows[:, i], inputs.valid[:, i], inputs.rate[:, i]
    batch = rows
    if not recipe.patches:  # Of all lanes: a slice in a `vmap` were a gather.
      batch = [
        images.reshape(*rows.shape, *images.shape[1:])
        for images in levels.images(rows.ravel())
      ]
    states, metrics = _side_by_side(one_step, lanes)(
      *(states, batch, valid, inputs.keys, inputs.first + i),
      *(inputs.sigma, rate, inputs.places, inputs.pasted),
    )
    return states, logged.at[:, i].set(metrics)

  logged = jnp.zeros((lanes, steps, len(METRICS)), jnp.float32)
  end = steps if count is None else count
  return jax.lax.fori_loop(0, end, body, (states, logged))


@functools.partial(jax.jit, static_argnames='recipe')
def score(
  recipe: Recipe,
  states: HeadState,
  lane: jax.Array,
  levels: Levels,
  rows: jax.Array,
) -> jax.Array:
  """Returns a lane's patch scores `[rows, H, W]` of the images in `rows`."""
  return step.patch_scores(recipe, take(states, lane), levels.images(rows))


@jax.jit
def take(states: HeadState, lane: jax.Array) -> HeadState:
  """Returns one lane's state."""
  return jax.tree.map(lambda leaf: leaf[lane], states)


@functools.partial(jax.jit, donate_argnames='states')
def put(states: HeadState, lane: jax.Array, state: HeadState) -> HeadState:
  """Returns the states with one lane's replaced. The old ones are donated."""
  return jax.tree.map(lambda old, new: old.at[lane].set(new), states, state)


def places(
  regions: Sequence[np.ndarray | None], grid: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
  """Returns `StepInputs.places` of each lane's region of interest."""
  found = np.zeros((len(regions), math.prod(grid)), np.int32)
  ends = np.zeros(len(regions), np.int32)
  for lane, roi in enumerate(regions):
    shown = np.flatnonzero(simplenet.seen(roi, grid))
    found[lane, : len(shown)], ends[lane] = shown, len(shown)
  return jnp.asarray(found), jnp.asarray(ends)


def draw_patches(
  levels: Levels,
  rows: jax.Array,
  key: jax.Array,
  count: int,
  among: tuple[jax.Array, jax.Array] | None = None,
) -> list[jax.Array]:
  """Draws patches of images, each position of the finest grid as likely.

  `among` are those that can be drawn, flat, and how many of these count.
  Neighbouring patches are alike: a step learns more from patches of many images
  than from as many of a few. Returns grids of one column, which need no resize,
  `[batch, count, 1, channels]` of each level.
  """
  grid = levels.grids[0]
  end = math.prod(grid) if among is None else among[1]
  places = integers(key, (len(rows), count), end)
  if among is not None:
    places = among[0][places]
  y, x = places // grid[1], places % grid[1]
  found = levels.patches(rows[:, None], y, x)
  return [level[:, :, None] for level in found]


# Draws are Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random
# numbers: as easy as 1, 2, 3", 2011) of a key and a counter. `jax.random` has
# it too; here the rounds are laid out flat, so that they fuse with what comes
# next, and both output words are used. A draw depends on its key alone, under
# `vmap` as well. The counter's second word is 0 for normals, 1 for derived keys
# and 2 for integers.


def threefry(
  key: jax.Array, high: jax.Array, low: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Enciphers counters of two words, uint32 each, with a key, uint32 `[2]`."""
  schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
  high, low = high + schedule[0], low + schedule[1]
  for group in range(5):
    for by in _ROTATIONS[group % 2]:
      high = high + low
      low = ((low << np.uint32(by)) | (low >> np.uint32(32 - by))) ^ high
    high = high + schedule[(group + 1) % 3]
    low = low + schedule[(group + 2) % 3] + np.uint32(group + 1)
  return high, low


def fold_in(key: jax.Array, number: jax.Array | int) -> jax.Array:
  """Derives a key, uint32 `[2]`, from another and a number below 2**32."""
  number = jnp.asarray(number, jnp.uint32)
  return jnp.stack(threefry(key, number, jnp.uint32(1)))


def _unit(word: jax.Array) -> jax.Array:
  """Maps words to numbers from 0 to below 1, float32."""
  ones = np.uint32(0x3F800000)  # The bits of 1.0: the word fills its mantissa.
  bits = (word >> np.uint32(9)) | ones
  return jax.lax.bitcast_convert_type(bits, jnp.float32) - 1


def _normal(word: jax.Array) -> jax.Array:
  """Maps words to normals by the inverse of the distribution function."""
  # In (-1, 1), symmetric about zero, neither end included.
  return np.float32(math.sqrt(2)) * jax.lax.erf_inv(
    2 * _unit(word) - np.float32(1 - 2**-23)
  )


def normal(key: jax.Array, shape: Sequence[int]) -> jax.Array:
  """Draws fewer than 2**33 standard normals, float32, below 5.4 in size."""
  size = math.prod(shape)
  counters = jax.lax.iota(jnp.uint32, -(-size // 2))
  words = threefry(key, counters, jnp.uint32(0))
  drawn = jnp.concatenate([_normal(word) for word in words])
  return drawn[:size].reshape(shape)


def integers(
  key: jax.Array, shape: Sequence[int], end: int | jax.Array
) -> jax.Array:
  """Draws int32 numbers from 0 to below `end`, which is far below 2**23."""
  counters = jax.lax.iota(jnp.uint32, math.prod(shape))
  drawn, _ = threefry(key, counters, jnp.uint32(2))
  return (_unit(drawn) * end).astype(jnp.int32).reshape(shape)
