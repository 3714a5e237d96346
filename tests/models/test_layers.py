"""Convolutions against torch's, matrix products against float64."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

from simplenet_jax.fields import PRECISIONS
from simplenet_jax.models import layers

OUTPUTS = 5
RNG = np.random.default_rng(0)


def make(size, inputs, sides):
  """Returns two images, a kernel and a bias, float32."""
  shapes = ((2, *sides, inputs), (size, size, inputs, OUTPUTS), (OUTPUTS,))
  return [RNG.normal(size=shape).astype(np.float32) for shape in shapes]


def judge(x, kernel, bias, stride, padding):
  """torch's convolution, in float64."""
  x = torch.from_numpy(x).double().movedim(-1, 1)
  weight = torch.from_numpy(kernel).double().permute(3, 2, 0, 1)
  mode = 'constant' if padding == 'zeros' else 'reflect'
  x = torch.nn.functional.pad(x, [kernel.shape[0] // 2] * 4, mode)
  bias = torch.from_numpy(bias).double()
  found = torch.nn.functional.conv2d(x, weight, bias, stride)
  return found.movedim(1, -1).numpy()


compiled = jax.jit(layers.convolve, static_argnums=(3, 4, 5))


def assert_convolved(found, expected):
  assert found.dtype == np.float32
  assert_close(found, expected, 1e-5 * np.abs(expected).max())


def assert_close(found, expected, bound):
  assert found.shape == expected.shape
  assert (np.abs(found - expected) <= bound).all()


# Of the deepest level of a small input one row or one column is left.
CASES = [
  (1, 'reflect', 21, (7, 8)),
  (3, 'zeros', 3, (8, 7)),
  (3, 'zeros', 16, (7, 8)),
  (3, 'reflect', 21, (8, 7)),
  (3, 'zeros', 16, (1, 2)),
  (3, 'zeros', 16, (3, 1)),
  (7, 'reflect', 3, (7, 8)),
]


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize(('size', 'padding', 'inputs', 'sides'), CASES)
def test_both_equal_torch(size, stride, padding, inputs, sides):
  x, kernel, bias = make(size, inputs, sides)
  expected = judge(x, kernel, bias, stride, padding)
  how = stride, padding, 'float32'
  assert_convolved(compiled(x, kernel, bias, *how), expected)
  rows = layers.LAYOUTS['rows'](kernel, stride)
  assert rows.shape == (OUTPUTS, size * size * inputs)
  assert_convolved(compiled(x, rows, bias, *how), expected)
  tiles = layers.to_winograd(kernel, stride)
  if (size, stride) == (3, 1) and inputs >= 16:
    assert tiles.shape == (16, inputs, OUTPUTS)
    assert_convolved(compiled(x, tiles, bias, *how), expected)
  else:
    assert tiles is kernel


def make_factors(rows, inputs=32, outputs=7):
  """Returns two factors and a gradient of their product, float32."""
  shapes = ((*rows, inputs), (inputs, outputs), (*rows, outputs))
  return [RNG.normal(size=shape).astype(np.float32) for shape in shapes]


def rounded(values, name):
  """Rounds to the nearest number of a precision, ties to even; float64."""
  if name == 'bfloat16':
    return values.astype(ml_dtypes.bfloat16).astype(np.float64)
  if name == 'tensorfloat32':
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.rint(np.ldexp(mantissa, 11)), exponent - 11)
  return values.astype(np.float64)


def multiply(x, w, gradient):
  """Returns a product and its gradients."""
  lines, ends = (a.reshape(-1, a.shape[-1]) for a in (x, gradient))
  return x @ w, gradient @ w.T, lines.T @ ends


def matmul_and_gradients(x, w, gradient, name):
  product, pull = jax.vjp(lambda x, w: layers.matmul(x, w, name), x, w)
  return product, *pull(jnp.asarray(gradient))


@pytest.mark.parametrize('rows', [(), (5,), (2, 3, 4)])
@pytest.mark.parametrize('name', PRECISIONS)
def test_factors_are_rounded_and_products_summed_in_float32(name, rows):
  factors = make_factors(rows)
  found = matmul_and_gradients(*factors, name)
  expected = multiply(*(rounded(factor, name) for factor in factors))
  scales = multiply(*map(np.abs, factors))
  for value, exact, scale in zip(found, expected, scales, strict=True):
    assert value.dtype == np.float32
    assert_close(value, exact, 32 * 2**-24 * scale)


def test_float64_stays_float64():
  factors = [factor.astype(np.float64) for factor in make_factors((2, 3))]
  with jax.enable_x64(True):
    found = matmul_and_gradients(*map(jnp.asarray, factors), 'float32')
  for value, exact in zip(found, multiply(*factors), strict=True):
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, exact, rtol=1e-12, atol=1e-12)
