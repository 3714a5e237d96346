"""The network with channels first, as ONNX Runtime computes.

jax2onnx keeps the layout of the program that it is given, and wraps what knows
another one in transpositions, which take their time. So the layers of
`simplenet` are written once more for this layout, from operations
that become few nodes.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from simplenet_jax.data import images
from simplenet_jax.models import head, patches, resampling, resnet
from simplenet_jax.models.simplenet import Network

_LAYOUT = ('NCHW', 'OIHW', 'NCHW')


def detect(
  network: Network, weights: Mapping[str, np.ndarray], pixels: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Computes anomaly maps and image scores, in float32.

  Args:
    network: What to compute.
    weights: Folded.
    pixels: RGB `[batch, *size, 3]`, uint8.

  Returns:
    As `simplenet.detect`, to within rounding.
  """
  normalised = images.normalize(pixels, jnp.asarray(images.NORMALIZED))

  def convolve(name, x, stride):
    kernel, bias = weights[f'{name}.kernel'], weights[f'{name}.bias']
    return _convolve(x, _kernel(kernel), bias, stride, network.padding)

  features = resnet.apply(
    network.architecture,
    network.levels,
    convolve,
    _max_pool,
    jnp.transpose(normalised, (0, 3, 1, 2)),
  )
  scores = _head(network, weights, features)
  rows, cols = (
    resampling.gaussian_matrix(side, network.smoothing)
    @ resampling.bilinear_matrix(grid, side)
    for side, grid in zip(network.size, scores.shape[1:], strict=True)
  )
  return _separable(scores, rows, cols), jnp.max(scores, axis=(1, 2))


def _kernel(value: np.ndarray) -> np.ndarray:
  if value.ndim != 4:
    return value
  return np.ascontiguousarray(value.transpose(3, 2, 0, 1))


def _convolve(x, kernel, bias, stride, padding):
  amount = kernel.shape[-1] // 2
  if padding == 'reflect':
    x, amount = _mirrored(x, amount), 0
  return _convolution(x, kernel, stride, amount) + bias[:, None, None]


def _convolution(x, kernel, stride=1, amount=0, groups=1):
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(amount, amount)] * 2,
    dimension_numbers=_LAYOUT,
    feature_group_count=groups,
  )


def _mirrored(x: jax.Array, amount: int) -> jax.Array:
  """Pads by reflection, from slices: a gather would be transposed."""
  for axis in (2, 3):
    side = x.shape[axis]
    before = list(range(amount, 0, -1))
    after = [side - 2 - i for i in range(amount)]
    x = jnp.concatenate(
      [lax.slice_in_dim(x, i, i + 1, axis=axis) for i in before]
      + [x]
      + [lax.slice_in_dim(x, i, i + 1, axis=axis) for i in after],
      axis=axis,
    )
  return x


def _max_pool(x: jax.Array) -> jax.Array:
  # Padded first, the transpositions meet their opposites around the node and
  # are dropped. See `convolution.max_pool` for the way to pad.
  padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
  pooled = nnx.max_pool(
    jnp.transpose(padded, (0, 2, 3, 1)),
    window_shape=(3, 3),
    strides=(2, 2),
    padding='VALID',
  )
  return jnp.transpose(pooled, (0, 3, 1, 2))


def _head(
  network: Network,
  weights: Mapping[str, np.ndarray],
  features: tuple[jax.Array, ...],
) -> jax.Array:
  """Pools levels and scores patches, `[batch, H, W]`."""
  pooled = [
    _convolution(
      maps,
      _kernel(_grouped(level)),
      amount=(network.patch_size - 1) // 2,
      groups=level.groups,
    )
    for maps, level in zip(features, network.pooling, strict=True)
  ]
  grid = pooled[0].shape[2:]
  x = weights['head.first.bias'][:, None, None]
  for maps, level in zip(pooled, network.pooling, strict=True):
    rows = weights['head.first.kernel'][level.start : level.stop]
    part = _convolution(maps, _kernel(rows[None, None]))
    if part.shape[2:] != grid:
      part = _separable(
        part,
        *(
          resampling.bilinear_matrix(old, new)
          for old, new in zip(part.shape[2:], grid, strict=True)
        ),
      )
    x = x + part
  if 'head.second.kernel' in weights:
    kernel = weights['head.second.kernel']
    # One group of channels for each head.
    stacked = np.concatenate(list(kernel), axis=1)
    x = _convolution(
      nnx.leaky_relu(x, head.LEAK),
      _kernel(stacked[None, None]),
      groups=len(kernel),
    )
    x = x + weights['head.second.bias'].reshape(-1)[:, None, None]
  tail = weights['head.tail'][None, :, None, None]
  return _convolution(nnx.leaky_relu(x, head.LEAK), tail)[:, 0]


def _grouped(level: patches.LevelPooling) -> np.ndarray:
  """Returns a level's pooling as the kernel of a grouped convolution."""
  kernel = np.moveaxis(level.block, 0, 2)
  return np.tile(kernel, (1, 1, 1, level.groups)).astype(np.float32)


def _separable(x: jax.Array, rows: np.ndarray, cols: np.ndarray) -> jax.Array:
  """Applies matrices along the last two axes."""
  left = jnp.asarray(rows, jnp.float32)
  right = jnp.asarray(cols.T, jnp.float32)
  return jnp.matmul(left, jnp.matmul(x, right))
