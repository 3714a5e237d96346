"""Matrix products and convolutions, in the form that suits a device.

On CPUs, where XLA's convolutions are slow, a 3x3 one of stride 1 is done in
tiles of 2x2 results with 16 products in place of 36 (Winograd's F(2x2, 3x3);
Lavin and Gray, arXiv:1509.09308). `benchmarks/kernels.py` measures the gain.
GPUs' convolutions want kernels with the outputs first; XLA would transpose them
in every call.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from simplenet_jax.models.backbone import borders

_CONVOLUTION_PRECISION = {
  'float32': lax.Precision.HIGHEST,
  'tensorfloat32': lax.Precision.HIGH,
  'bfloat16': lax.Precision.DEFAULT,
}
# Winograd's transformation of a 3x3 kernel's rows and columns.
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])

# torch's xavier_normal_; jax's glorot_normal would truncate the normal.
_xavier_normal = nnx.initializers.variance_scaling(1.0, 'fan_avg', 'normal')


def linear(
  inputs: int, outputs: int, *, bias: bool, rngs: nnx.Rngs
) -> nnx.Linear:
  """Returns a layer with torch's initial distributions."""
  bound = inputs**-0.5
  uniform = jax.random.uniform
  return nnx.Linear(
    inputs,
    outputs,
    use_bias=bias,
    kernel_init=_xavier_normal,
    bias_init=lambda k, n, dtype: uniform(k, n, dtype, -bound, bound),
    rngs=rngs,
  )


def _matmul(
  x: jax.Array, w: jax.Array, precision: str, kept: str = ''
) -> jax.Array:
  """Multiplies rows `[..., inputs]` by a matrix `[inputs, outputs]`.

  The factors, and those of the gradients, are rounded to the precision.
  Products are summed in float32 at least, and rounded to what is `kept`.
  """
  return _product(x, w, ((x.ndim - 1,), (0,)), precision, kept)


matmul = jax.custom_vjp(_matmul, nondiff_argnums=(2, 3))


def _forward(x, w, precision, kept):
  return matmul(x, w, precision, kept), (x, w)


def _backward(precision, kept, saved, gradient):
  x, w = saved
  rows = tuple(range(x.ndim - 1))
  last = ((x.ndim - 1,), (1,))
  return (
    _product(gradient, w, last, precision).astype(x.dtype),
    _product(x, gradient, (rows, rows), precision).astype(w.dtype),
  )


matmul.defvjp(_forward, _backward)


def _product(x, w, dims, precision: str, kept: str = '') -> jax.Array:
  def dot(x, w, precision: lax.Precision = lax.Precision.HIGHEST):
    return lax.dot_general(
      x,
      w,
      (dims, ((), ())),
      precision=precision,
      preferred_element_type=kept or jnp.promote_types(x.dtype, jnp.float32),
    )

  # CPUs have no TensorFloat-32; TPUs reach it with three bfloat16 products.
  def imitated(x, w):
    x, w = (lax.reduce_precision(factor, 8, 10) for factor in (x, w))
    return dot(x, w)

  if precision == 'bfloat16':
    return dot(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16))
  if precision == 'tensorfloat32':
    high = functools.partial(dot, precision=lax.Precision.HIGH)
    return lax.platform_dependent(x, w, cpu=imitated, default=high)
  return dot(x, w)


def convolve(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  stride: int,
  padding: str,
  precision: str,
  is_same: bool = False,
) -> jax.Array:
  """Convolves images `[batch, height, width, inputs]`, padded as by `borders`.

  The kernel is `[size, size, inputs, outputs]`, or as one of `LAYOUTS` makes
  it; one with a single input convolves each channel by itself.
  """
  if kernel.ndim == 3:
    return bias + _winograd(x, kernel, padding)
  order = 'OHWI' if kernel.ndim == 2 else 'HWIO'
  if order == 'OHWI':
    size = math.isqrt(kernel.shape[1] // x.shape[-1])
    kernel = kernel.reshape(-1, size, size, x.shape[-1])
  added = borders(x.shape[1:3], kernel.shape[1], stride, is_same)
  if order == 'HWIO' and kernel.shape[2] < x.shape[-1]:
    return bias + _depthwise(pad(x, added, padding), kernel, stride)
  if padding == 'reflect':
    x, added = pad(x, added, padding), [(0, 0)] * 2
  return bias + lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    added,
    dimension_numbers=('NHWC', order, 'NHWC'),
    precision=_CONVOLUTION_PRECISION[precision],
  )


def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Convolves each channel by itself, as a sum of weighted, shifted views."""
  # XLA's grouped convolutions take eight times as long on CPUs.
  size = len(kernel)
  height, width = (1 + (side - size) // stride for side in x.shape[1:3])
  total = jnp.float32(0)
  for i, j in np.ndindex(size, size):
    rows = slice(i, i + stride * height, stride)
    columns = slice(j, j + stride * width, stride)
    view = x[:, rows, columns][:, :height, :width]
    total += view.astype(jnp.float32) * kernel[i, j, 0].astype(jnp.float32)
  return total.astype(x.dtype)


def max_pool(x: jax.Array) -> jax.Array:
  """Returns maxima of 3x3 neighbourhoods of values >= 0, with a stride of 2."""
  # The annotation of `padding` knows 'SAME' and 'VALID' only, and 'SAME' pads
  # even sides on the right alone.
  return nnx.max_pool(pad(x, [(1, 1)] * 2, 'zeros'), (3, 3), (2, 2), 'VALID')


def to_winograd(kernel: np.ndarray, stride: int) -> np.ndarray:
  """Returns a kernel for tiles, `[16, inputs, outputs]`, where that gains."""
  if kernel.shape[0] != 3 or stride != 1 or kernel.shape[2] < 16:
    return kernel
  tiles = np.einsum('ik,jl,klco->ijco', _KERNEL, _KERNEL, kernel)
  return tiles.reshape(16, *kernel.shape[2:]).astype(kernel.dtype)


def to_rows(kernel: np.ndarray, stride: int) -> np.ndarray:
  """Returns a kernel as `[outputs, size * size * inputs]`, if not depthwise."""
  if kernel.shape[2] == 1:
    return kernel
  return kernel.transpose(3, 0, 1, 2).reshape(kernel.shape[3], -1)


# How kernels are stored, by what computes with them best; a kernel's number of
# dimensions tells which it is.
LAYOUTS = {'winograd': to_winograd, 'rows': to_rows}
LAYOUTS['plain'] = lambda kernel, stride: kernel


def _winograd(x: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
  batch, height, width, inputs = x.shape
  rows, cols = -(-height // 2), -(-width // 2)
  x = pad(x, [(1, 1)] * 2, padding)
  # A whole number of tiles; what is added is cut off again.
  x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))

  def combined(part):
    a, b, c, d = part
    return [a - c, b + c, c - b, b - d]

  def summed(part):
    a, b, c, d = part
    return [a + b + c, b - c - d]

  of_rows = combined([x[:, i : i + 2 * rows - 1 : 2] for i in range(4)])
  tiles = [
    tile
    for part in of_rows
    for tile in combined(
      [part[:, :, i : i + 2 * cols - 1 : 2] for i in range(4)]
    )
  ]
  products = jnp.einsum(
    'tpi,tio->tpo', jnp.stack(tiles).reshape(16, -1, inputs), kernel
  ).reshape(4, 4, batch, rows, cols, -1)
  pairs = [jnp.stack(summed(part), axis=3) for part in summed(products)]
  whole = jnp.stack(pairs, axis=2).reshape(batch, 2 * rows, 2 * cols, -1)
  return whole[:, :height, :width]


def pad(
  x: jax.Array, added: Sequence[tuple[int, int]], padding: str
) -> jax.Array:
  """Pads height and width of `[batch, height, width, channels]`."""
  if not np.any(added):
    return x
  if padding == 'zeros':
    return jnp.pad(x, ((0, 0), *added, (0, 0)))
  # Faster than jnp.pad's 'reflect' on CPUs.
  for axis, amounts in zip((1, 2), added, strict=True):
    mirrored = np.pad(np.arange(x.shape[axis]), amounts, mode='reflect')
    x = jnp.take(x, mirrored, axis=axis, mode='clip')
  return x
