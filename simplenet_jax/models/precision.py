"""Matrix products at a named precision, the same on every kind of device."""

import functools

import jax
import jax.numpy as jnp

from simplenet_jax.fields import PRECISIONS

_Dims = tuple[tuple[int, ...], tuple[int, ...]]


def matmul(x: jax.Array, w: jax.Array, precision: str) -> jax.Array:
  """Multiplies rows by a matrix; its gradients have the same precision.

  The factors are rounded to the precision, products are summed in float32 (or
  wider, if the arrays are). On CPUs, which have no TensorFloat-32, the rounding
  of the factors to 10 bits is imitated; TPUs reach it with three bfloat16
  products.

  Args:
    x: `[..., inputs]`, float.
    w: `[inputs, outputs]`, float.
    precision: One of `PRECISIONS`.
  """
  return jnp.asarray(_matmul(x, w, precision))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _matmul(x, w, precision):
  return _product(x, w, ((x.ndim - 1,), (0,)), precision)


def _forward(x, w, precision):
  return _matmul(x, w, precision), (x, w)


def _backward(precision, saved, gradient):
  x, w = saved
  rows = tuple(range(x.ndim - 1))
  last = ((x.ndim - 1,), (1,))
  return (
    _product(gradient, w, last, precision),
    _product(x, gradient, (rows, rows), precision),
  )


_matmul.defvjp(_forward, _backward)


def _product(x, w, dims: _Dims, precision: str) -> jax.Array:
  if precision not in PRECISIONS:
    raise ValueError(
      f'--config.precision is {precision!r}; choose one of '
      f'{", ".join(PRECISIONS)}'
    )
  highest = jax.lax.Precision.HIGHEST

  def dot(x, w, precision: jax.lax.Precision = highest):
    return jax.lax.dot_general(
      x,
      w,
      (dims, ((), ())),
      precision=precision,
      preferred_element_type=jnp.promote_types(x.dtype, jnp.float32),
    )

  def imitated(x, w):
    x, w = (jax.lax.reduce_precision(factor, 8, 10) for factor in (x, w))
    return dot(x, w)

  if precision == 'bfloat16':
    return dot(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16))
  if precision == 'tensorfloat32':
    high = functools.partial(dot, precision=jax.lax.Precision.HIGH)
    return jax.lax.platform_dependent(x, w, cpu=imitated, default=high)
  return dot(x, w)
