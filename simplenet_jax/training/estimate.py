"""How long a run will take, guessed before it starts."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

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


def step_rate() -> float:
  """Measures the rate of training steps, in FLOP/s; a guess."""
  return _EFFICIENCY * _product_rate()


def flops(
  shapes: Sequence[jax.ShapeDtypeStruct],
  extractor: Extractor,
  weights: Any,
  recipe: step.Recipe,
  state: step.HeadState,
  size: tuple[int, int],
) -> tuple[float, float]:
  """Counts the operations of one image's features and of one step.

  Args:
    shapes: Of one image's features.
    extractor: From pixels to features.
    weights: The backbone's state.
    recipe: How heads are trained.
    state: One head's, or its shapes.
    size: Height and width of an image, in pixels.
  """
  pixels = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
  batch = [
    jax.ShapeDtypeStruct((recipe.batch_size, *shape.shape), shape.dtype)
    for shape in shapes
  ]
  grid = shapes[0].shape[:2]
  noise = jax.ShapeDtypeStruct(
    (recipe.batch_size, *grid, recipe.dim), jnp.float32
  )
  valid = jax.ShapeDtypeStruct((recipe.batch_size,), jnp.float32)

  def one_step(state, levels, valid, noise):
    return step.train_step(recipe, state, levels, valid, noise)

  return (
    _flops(extractor, weights, pixels),
    _flops(one_step, state, batch, valid, noise),
  )
