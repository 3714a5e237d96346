"""The network with channels first, as ONNX Runtime computes.

jax2onnx keeps the layout of the program that it is given, wraps what knows
another one in transpositions, and pads no arrays of any number of images. So
the backbone's layers are written once more for this layout, from operations
that become few nodes; the head and the map are those of `simplenet`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from simplenet_jax.data import images
from simplenet_jax.models import backbone, layers, resampling, simplenet
from simplenet_jax.models.simplenet import Network


def detect(
  network: Network, weights: Mapping[str, np.ndarray], pixels: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns what `simplenet.detect` does in float32, to within rounding."""

  def convolve(name, x, stride):
    kernel, bias = weights[f'{name}.kernel'], weights[f'{name}.bias']
    sides, groups = x.shape[2:], x.shape[1] // kernel.shape[2]
    added = layers.borders(sides, len(kernel), stride, network.spec.is_same)
    if network.padding == 'reflect':
      x, added = _mirrored(x, added), [(0, 0)] * 2
    return _convolution(x, kernel, stride, added, groups) + bias[:, None, None]

  normalised = images.normalize(pixels, jnp.asarray(network.spec.table))
  first = jnp.transpose(normalised, (0, 3, 1, 2))
  features = backbone.apply(
    network.architecture, network.levels, convolve, _max_pool, first
  )
  levels = []
  for maps, level in zip(features, network.pooling, strict=True):
    # A level's neighbourhoods are pooled by one grouped convolution.
    kernel = level.kernel.astype(np.float32)
    added = [(len(kernel) // 2,) * 2] * 2
    pooled = _convolution(maps, kernel, 1, added, level.groups)
    levels.append(jnp.transpose(pooled, (0, 2, 3, 1)))
  folded = {
    name: jnp.asarray(value)
    for name, value in weights.items()
    if name.startswith(('head.', 'nearest.', 'roi'))
  }
  scores = simplenet.patch_scores(network, folded, levels, 'float32')
  scores = simplenet.inside(scores, folded.get('roi'))
  rows, cols = (
    resampling.upsampling_matrix(grid, side, network.smoothing).astype('f')
    for side, grid in zip(network.size, scores.shape[1:], strict=True)
  )
  across = jnp.matmul(scores, jnp.asarray(cols.T))
  maps = jnp.matmul(jnp.asarray(rows), across)
  maps = simplenet.inside(maps, folded.get('roi'))
  return maps, jnp.max(maps if network.score == 'map' else scores, axis=(1, 2))


def _convolution(x, kernel: np.ndarray, stride, added, groups):
  # Any: a traced array would be a node of its own.
  turned: Any = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
  return lax.conv_general_dilated(
    x,
    turned,
    (stride, stride),
    added,
    dimension_numbers=('NCHW', 'OIHW', 'NCHW'),
    feature_group_count=groups,
  )


def _mirrored(x: jax.Array, added: Sequence[tuple[int, int]]) -> jax.Array:
  """Pads by reflection, from slices: a gather would be transposed."""
  for axis, (before, after) in zip((2, 3), added, strict=True):
    side = x.shape[axis]
    # A side that is shorter than what is added is mirrored more than once.
    places = np.pad(np.arange(side), (before, after), mode='reflect').tolist()
    parts = [
      lax.slice_in_dim(x, i, i + 1, axis=axis)
      for i in (*places[:before], *places[before + side :])
    ]
    x = jnp.concatenate([*parts[:before], x, *parts[before:]], axis=axis)
  return x


def _max_pool(x: jax.Array) -> jax.Array:
  # Padded first, the transpositions meet their opposites around the node and
  # are dropped. jax2onnx takes named arguments only, and drops an explicit
  # padding without a word.
  padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
  last = jnp.transpose(padded, (0, 2, 3, 1))
  pooled = nnx.max_pool(
    last, window_shape=(3, 3), strides=(2, 2), padding='VALID'
  )
  return jnp.transpose(pooled, (0, 3, 1, 2))
