"""Convolutions with a bias, in the form that suits a device.

Accelerators have convolutions. XLA's for the CPU are slow, above all without
padding and in batches, while its matrix products are fast: there a convolution
becomes products, and a 3x3 one of stride 1 is done in tiles of 2x2 results with
16 products in place of 36 (Winograd's F(2x2, 3x3); Lavin and Gray,
arXiv:1509.09308).
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

PRECISION = {
  'float32': lax.Precision.HIGHEST,
  'tensorfloat32': lax.Precision.HIGH,
  'bfloat16': lax.Precision.DEFAULT,
}
# Of a 3x3 kernel's rows and columns.
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def convolve(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  stride: int,
  padding: str,
  precision: str,
) -> jax.Array:
  """Convolves as the device does.

  Args:
    x: `[batch, height, width, inputs]`, float.
    kernel: `[size, size, inputs, outputs]` with an odd size.
    bias: `[outputs]`.
    stride: In both directions.
    padding: One of `resnet.PADDINGS`; of `size // 2` pixels.
    precision: A key of `PRECISION`.

  Returns:
    `[batch, ceil(height / stride), ceil(width / stride), outputs]` in the dtype
    of `x`.
  """
  amount = kernel.shape[0] // 2
  if padding == 'reflect':
    x, amount = pad(x, amount, padding), 0
  return bias + lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(amount, amount)] * 2,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision=PRECISION[precision],
  )


def max_pool(x: jax.Array) -> jax.Array:
  """Returns maxima of 3x3 neighbourhoods, with a stride of 2.

  Args:
    x: `[batch, height, width, channels]`; not negative, so zeros do as border.
  """
  # Padded beforehand and with named arguments: jax2onnx drops an explicit
  # padding without a word.
  return nnx.max_pool(
    pad(x, 1, 'zeros'), window_shape=(3, 3), strides=(2, 2), padding='VALID'
  )


def convolve_as_matmul(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  stride: int,
  padding: str,
  precision: str,
) -> jax.Array:
  """Does what `convolve` does, by matrix products, to within rounding.

  Its arguments and result are those of `convolve`; kernels are from `prepare`.
  It is fastest for one image at a time.
  """
  if kernel.ndim == 3:
    return bias + _in_tiles(x, kernel, padding)
  size = kernel.shape[0]
  # The stem has too few inputs for products.
  if kernel.shape[2] < 16:
    return convolve(x, kernel, bias, stride, padding, precision)
  height, width = (-(-side // stride) for side in x.shape[1:3])
  padded = pad(x, size // 2, padding)
  return bias + sum(
    jnp.dot(
      padded[
        :,
        row : row + stride * (height - 1) + 1 : stride,
        col : col + stride * (width - 1) + 1 : stride,
      ],
      kernel[row, col],
    )
    for row in range(size)
    for col in range(size)
  )


def prepare(kernel: np.ndarray, stride: int) -> np.ndarray:
  """Returns a kernel as `convolve_as_matmul` wants it.

  Args:
    kernel: `[size, size, inputs, outputs]`.
    stride: Of the convolution.

  Returns:
    `[16, inputs, outputs]` for size 3 and stride 1, others as they are.
  """
  if kernel.shape[0] != 3 or stride != 1:
    return kernel
  tiles = np.einsum('ik,jl,klco->ijco', _KERNEL, _KERNEL, kernel)
  return tiles.reshape(16, *kernel.shape[2:]).astype(kernel.dtype)


def _in_tiles(x: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
  batch, height, width, inputs = x.shape
  rows, cols = -(-height // 2), -(-width // 2)
  x = pad(x, 1, padding)
  # A whole number of tiles; what is added is cut off again.
  odd = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
  x = jnp.pad(x, odd)

  def combined(part):
    return [
      part[0] - part[2],
      part[1] + part[2],
      part[2] - part[1],
      part[1] - part[3],
    ]

  def summed(part):
    return [part[0] + part[1] + part[2], part[1] - part[2] - part[3]]

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


def pad(x: jax.Array, amount: int, padding: str) -> jax.Array:
  """Pads height and width.

  Args:
    x: `[batch, height, width, channels]`.
    amount: Pixels on each side.
    padding: One of `resnet.PADDINGS`.
  """
  if not amount:
    return x
  if padding == 'zeros':
    return jnp.pad(x, ((0, 0), (amount, amount), (amount, amount), (0, 0)))
  # Faster than jnp.pad's 'reflect' on CPUs.
  for axis in (1, 2):
    mirrored = np.pad(np.arange(x.shape[axis]), amount, mode='reflect')
    x = jnp.take(x, mirrored, axis=axis, mode='clip')
  return x
