"""How long a run will take, guessed before it starts."""

import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from simplenet_jax.training import step
from simplenet_jax.training.bank import Extractor

# What convolutions and training steps reach of a plain matrix product's rate:
# a third and two thirds, seen on CPUs; the guess is announced as one.
_EFFICIENCY = 0.5


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
  """Counts the operations of a function's products and convolutions."""
  # XLA's own count is not to be had on every platform. It leaves out what
  # nobody reads, such as the gradient of features; so does this.
  jaxpr = jax.make_jaxpr(function)(*args).jaxpr
  return _flops_of(
    partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0]
  )


def _flops_of(jaxpr) -> float:
  total = 0.0
  for equation in jaxpr.eqns:
    shapes = [v.aval.shape for v in (*equation.invars, *equation.outvars)]
    inside = [
      _flops_of(getattr(value, 'jaxpr', value))
      for parameter in equation.params.values()
      for value in _several(parameter)
      if hasattr(getattr(value, 'jaxpr', value), 'eqns')
    ]
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      length = math.prod(shapes[0][axis] for axis in contracted)
      total += 2 * math.prod(shapes[-1]) * length
    elif equation.primitive.name == 'conv_general_dilated':
      numbers = equation.params['dimension_numbers']
      outputs = shapes[1][numbers.rhs_spec[0]]
      total += 2 * math.prod(shapes[-1]) * math.prod(shapes[1]) / outputs
    elif equation.primitive.name == 'cond':
      total += max(inside)
    else:
      total += sum(inside) * equation.params.get('length', 1)
  return total


def _several(parameter) -> tuple:
  return parameter if isinstance(parameter, tuple) else (parameter,)


def step_rate() -> float:
  """Measures the rate of training steps, in FLOP/s; a guess."""
  return _EFFICIENCY * _product_rate()


def image_flops(
  extractor: Extractor, weights: Any, size: tuple[int, int]
) -> float:
  """Counts the operations of one image's features.

  Args:
    extractor: From pixels to features.
    weights: The backbone's state.
    size: Height and width of an image, in pixels.
  """
  pixels = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
  return _flops(extractor, weights, pixels)


def step_flops(
  shapes: Sequence[jax.ShapeDtypeStruct],
  recipe: step.Recipe,
  state: step.HeadState,
) -> float:
  """Counts the operations of one head's step.

  Args:
    shapes: Of one image's features.
    recipe: How heads are trained.
    state: One head's, or its shapes.
  """
  drawn = (recipe.patches, 1)  # In place of the grids of whole images.
  batch = [
    jax.ShapeDtypeStruct(
      (
        recipe.batch_size,
        *(drawn if recipe.patches else shape.shape[:2]),
        shape.shape[2],
      ),
      shape.dtype,
    )
    for shape in shapes
  ]
  noise = jax.ShapeDtypeStruct((*batch[0].shape[:3], recipe.dim), jnp.float32)
  valid = jax.ShapeDtypeStruct((recipe.batch_size,), jnp.float32)

  def one_step(state, levels, valid, noise):
    return step.train_step(recipe, state, levels, valid, noise)

  return _flops(one_step, state, batch, valid, noise)
