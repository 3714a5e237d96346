import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from simplenet_jax.models import precision

RNG = np.random.default_rng(0)
ROWS = [(), (5,), (2, 3), (2, 3, 4)]


def make_factors(rows=(6,), inputs=32, outputs=7):
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
  product, pull = jax.vjp(lambda x, w: precision.matmul(x, w, name), x, w)
  return product, *pull(jnp.asarray(gradient))


def assert_close(found, expected, scales, share):
  for value, exact, scale in zip(found, expected, scales, strict=True):
    assert value.shape == exact.shape
    assert (np.abs(value - exact) <= share * scale).all()


@pytest.mark.parametrize('rows', ROWS)
@pytest.mark.parametrize('name', precision.PRECISIONS)
def test_factors_are_rounded_and_products_summed_in_float32(name, rows):
  factors = make_factors(rows)
  found = matmul_and_gradients(*factors, name)
  expected = multiply(*(rounded(factor, name) for factor in factors))
  scales = multiply(*map(np.abs, factors))
  assert all(value.dtype == np.float32 for value in found)
  assert_close(found, expected, scales, 32 * 2**-24)


@pytest.mark.parametrize('name', ['tensorfloat32', 'bfloat16'])
def test_a_single_product_is_that_of_the_rounded_factors(name):
  # It has at most 22 bits, so float32 holds it without an error.
  x, w, _ = make_factors((50,), inputs=1, outputs=40)
  np.testing.assert_array_equal(
    precision.matmul(x, w, name), rounded(x, name) @ rounded(w, name)
  )


@pytest.mark.parametrize('rows', [(), (2, 3)])
def test_float64_stays_float64(rows):
  factors = [factor.astype(np.float64) for factor in make_factors(rows)]
  with jax.enable_x64(True):
    found = matmul_and_gradients(*map(jnp.asarray, factors), 'float32')
    for value, exact in zip(found, multiply(*factors), strict=True):
      assert value.dtype == np.float64
      np.testing.assert_allclose(value, exact, rtol=1e-12, atol=1e-12)


def test_an_unknown_precision_is_refused():
  x, w, _ = make_factors()
  with pytest.raises(
    ValueError,
    match=r"--config\.precision is 'float16'; choose one of float32, "
    'tensorfloat32, bfloat16',
  ):
    precision.matmul(x, w, 'float16')
