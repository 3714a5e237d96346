"""How long a run will take, guessed before it starts."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from simplenet_jax.data.inputs import Inputs
from simplenet_jax.training import step
from simplenet_jax.training.bank import Extractor

# What convolutions and training steps reach of a plain matrix product's rate:
# about a third, seen on CPUs; the guess is announced as one.
_EFFICIENCY = 0.35


def _product_rate() -> float:
  """Measures the rate of a matrix product, in FLOP/s."""
  side = 1024
  product = jax.jit(lambda a: a @ a)
  a = jnp.ones((side, side))
  product(a).block_until_ready()
  start = time.perf_counter()
  repeats = 4
  for _ in range(repeats):
    product(a).block_until_ready()
  return 2 * side**3 * repeats / (time.perf_counter() - start)


def _flops(function, *args) -> float:
  """Counts a function's floating-point operations without compiling it."""
  analysis = jax.jit(function).lower(*args).cost_analysis()
  return analysis['flops'] if analysis else 0.0


def run_seconds(
  inputs: Sequence[Inputs],
  extractor: Extractor,
  weights: Any,
  recipe: step.Recipe,
  state: step.HeadState,
  *,
  epochs: int,
  seeds: int,
) -> float:
  """Guesses the time of extraction and training.

  Args:
    inputs: All categories.
    extractor: From pixels to features.
    weights: The backbone's state.
    recipe: How heads are trained.
    state: One head's.
    epochs: Of each head.
    seeds: Heads of each category.

  Returns:
    Seconds; right within a factor of two or so, without compilation,
    evaluation and slow storage.
  """
  rate = _EFFICIENCY * _product_rate()
  total, known = 0.0, {}
  for one in inputs:
    if one.size not in known:
      known[one.size] = _flops_of(one, extractor, weights, recipe, state)
    image_flops, step_flops = known[one.size]
    steps = -(-len(one.train) // recipe.batch_size) * epochs * seeds
    total += image_flops * (len(one.train) + len(one.test)) + step_flops * steps
  return total / rate


def bank_bytes(inputs: Inputs, extractor: Extractor, weights: Any) -> int:
  """Returns the size of a category's features, training and test, in bytes."""
  pixels = jax.ShapeDtypeStruct((1, *inputs.size, 3), jnp.uint8)
  levels = jax.eval_shape(extractor, weights, pixels)
  image = sum(level.size * level.dtype.itemsize for level in levels)
  return image * (len(inputs.train) + len(inputs.test))


def _flops_of(inputs, extractor, weights, recipe, state) -> tuple[float, float]:
  """Counts the operations of one image's features and of one step."""
  pixels = jax.ShapeDtypeStruct((1, *inputs.size, 3), jnp.uint8)
  levels = jax.eval_shape(extractor, weights, pixels)
  size = recipe.batch_size
  batch = [
    jax.ShapeDtypeStruct((size, *level.shape[1:]), level.dtype)
    for level in levels
  ]
  grid = levels[0].shape[1:3]
  noise = jax.ShapeDtypeStruct((size, *grid, recipe.dim), jnp.float32)
  valid = jax.ShapeDtypeStruct((size,), jnp.float32)

  def one_step(state, levels, valid, noise):
    return step.train_step(recipe, state, levels, valid, noise)

  return (
    _flops(extractor, weights, pixels),
    _flops(one_step, state, batch, valid, noise),
  )
