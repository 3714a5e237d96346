"""Epochs as compiled scans, several heads side by side on one bank."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from simplenet_jax.training import step
from simplenet_jax.training.bank import Bank
from simplenet_jax.training.step import HeadState, Recipe, StepMetrics


def batch_plan(
  key: jax.Array, count: int, batch_size: int
) -> tuple[jax.Array, jax.Array]:
  """Shuffles the images of an epoch into batches; the last may be short.

  Args:
    key: Randomness of this epoch.
    count: Number of images.
    batch_size: Images per batch.

  Returns:
    Image indices, int32 `[steps, batch_size]`, and 1 where they count or 0
    where they pad the last batch, float32 `[steps, batch_size]`.
  """
  steps = -(-count // batch_size)
  order = jax.random.permutation(key, count)
  order = jnp.pad(order, (0, steps * batch_size - count))
  valid = jnp.arange(steps * batch_size) < count
  shape = (steps, batch_size)
  return order.reshape(shape), valid.reshape(shape).astype(jnp.float32)


def _train_epoch(recipe, state, bank, key):
  """Runs one epoch of one head."""
  order_key, noise_key = jax.random.split(key)
  indices, valid = batch_plan(order_key, bank.count, recipe.batch_size)
  noise_keys = jax.random.split(noise_key, len(indices))
  shape = (recipe.batch_size, *bank.grid, recipe.dim)

  def one_step(state, inputs):
    indices, valid, key = inputs
    levels = [jnp.take(level, indices, axis=0) for level in bank.levels]
    noise = recipe.sigma * jax.random.normal(key, shape, levels[0].dtype)
    return step.train_step(recipe, state, levels, valid, noise)

  return jax.lax.scan(one_step, state, (indices, valid, noise_keys))


def _train_head(recipe, state, bank, key, first_epoch, epochs):
  """Runs some epochs of one head; an epoch's draws depend on its number."""

  def one_epoch(state, epoch):
    return _train_epoch(recipe, state, bank, jax.random.fold_in(key, epoch))

  return jax.lax.scan(one_epoch, state, first_epoch + jnp.arange(epochs))


@functools.partial(
  jax.jit, static_argnames=('recipe', 'epochs'), donate_argnames='states'
)
def train_heads(
  recipe: Recipe,
  states: HeadState,
  bank: Bank,
  keys: jax.Array,
  first_epoch: jax.Array,
  *,
  epochs: int,
) -> tuple[HeadState, StepMetrics]:
  """Trains several heads on one bank for some epochs.

  Args:
    recipe: What to minimise and how.
    states: Of all heads, each leaf with the heads axis first. Donated.
    bank: The features that all heads share.
    keys: Randomness of each head, `[heads]`. Epoch `e` of a head draws from its
      key and `e` alone, so a schedule can be cut anywhere.
    first_epoch: Number of the first epoch to run, counted from 0.
    epochs: How many to run.

  Returns:
    The new states, and metrics `[heads, epochs, steps]`.
  """
  return jax.vmap(
    lambda state, key: _train_head(
      recipe, state, bank, key, first_epoch, epochs
    )
  )(states, keys)


@functools.partial(jax.jit, static_argnames=('recipe', 'batch_size'))
def score_heads(
  recipe: Recipe, states: HeadState, bank: Bank, *, batch_size: int = 8
) -> jax.Array:
  """Scores every patch of a bank with several heads.

  Args:
    recipe: For the heads' structure.
    states: Of all heads, each leaf with the heads axis first.
    bank: The features.
    batch_size: Images at a time, to bound the memory.

  Returns:
    Patch scores `[heads, count, H, W]`, unbounded; higher is more anomalous.
  """

  def score_image(image):
    levels = [level[None] for level in image]
    return jax.vmap(lambda state: step.patch_scores(recipe, state, levels)[0])(
      states
    )

  scores = jax.lax.map(score_image, bank.levels, batch_size=batch_size)
  return jnp.moveaxis(scores, 1, 0)[:, : bank.count]


def check_finite(loss: np.ndarray, seeds: Sequence[int], first: int) -> None:
  """Refuses losses that are not finite.

  Args:
    loss: `[seeds, epochs, steps]`.
    seeds: One per head.
    first: Number of epochs before these.

  Raises:
    ValueError: Names the first such step and what to do.
  """
  wrong = np.argwhere(~np.isfinite(loss))
  if len(wrong):
    head, epoch, at = wrong[0]
    raise ValueError(
      f'the loss of seed {seeds[head]} is {loss[head, epoch, at]} at step {at} '
      f'of epoch {first + epoch + 1}; lower the learning rates'
    )
