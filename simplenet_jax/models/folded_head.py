"""Heads for inference: adaptor, first layer and BatchNorm as one matrix.

An ensemble of heads, whose scores are averaged, is one head with the hidden
units of all of them. Weights are a flat dictionary:

  head.first.kernel   [dim, heads * width]     head.first.bias   [heads * width]
  head.second.kernel  [heads, width, hidden]   head.second.bias  [heads, hidden]
  head.tail           [heads * hidden]         from hidden units to patch scores

The second layer is there for the non-linear adaptor only.
"""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from flax import nnx

from simplenet_jax.models import resampling
from simplenet_jax.models.head import EPSILON, LEAK
from simplenet_jax.models.precision import matmul

Layer = tuple[np.ndarray, np.ndarray]


def fold(heads: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
  """Folds the linear layers of heads, in float64.

  Args:
    heads: Of one kind; each with the leaves of `head.Head` by their dotted
      path under `params` and `stats`, as a finished head is saved.

  Returns:
    float32 weights, see the module.
  """
  folded = [_layers(head) for head in heads]
  first, *second = zip(*(layers for layers, _ in folded), strict=True)
  weights = {
    'head.first.kernel': np.concatenate([kernel for kernel, _ in first], 1),
    'head.first.bias': np.concatenate([bias for _, bias in first]),
    # The score is the logit's opposite, and the mean over heads.
    'head.tail': np.concatenate([tail for _, tail in folded]) / -len(heads),
  }
  for layers in second:
    weights['head.second.kernel'] = np.stack([kernel for kernel, _ in layers])
    weights['head.second.bias'] = np.stack([bias for _, bias in layers])
  return {name: value.astype(np.float32) for name, value in weights.items()}


def _layers(head: Mapping[str, np.ndarray]) -> tuple[list[Layer], np.ndarray]:
  """Returns a head's linear layers, as few as can be, and its tail."""

  def get(name):
    return np.asarray(head[name], np.float64)

  def linear(name):
    kernel = get(f'params.{name}.kernel')
    bias = f'params.{name}.bias'
    return kernel, get(bias) if bias in head else np.zeros(kernel.shape[1])

  layers = []
  while f'params.adaptor.{len(layers)}.kernel' in head:
    layers.append(linear(f'adaptor.{len(layers)}'))
  kernel, bias = linear('discriminator.first')
  if layers:
    before, its_bias = layers.pop()
    kernel, bias = before @ kernel, its_bias @ kernel + bias
  norm, stats = 'params.discriminator.norm', 'stats.discriminator.norm'
  factor = get(f'{norm}.scale') / np.sqrt(get(f'{stats}.var') + EPSILON)
  bias = (bias - get(f'{stats}.mean')) * factor + get(f'{norm}.bias')
  layers.append((kernel * factor, bias))
  return layers, get('params.discriminator.tail.kernel')[:, 0]


def apply(
  weights: Mapping[str, jax.Array],
  levels: Sequence[jax.Array],
  level_offsets: Sequence[int],
  precision: str,
) -> jax.Array:
  """Scores patches: the mean over heads of `-D(adaptor(z))` (equation 9).

  Args:
    weights: From `fold`.
    levels: Pooled features `[batch, h, w, channels]` of each level.
    level_offsets: The first patch dimension of each level.
    precision: Of the products, one of `precision.PRECISIONS`.

  Returns:
    Patch scores `[batch, H, W]` on the first level's grid, float32.
  """
  grid = levels[0].shape[1:3]
  x = weights['head.first.bias']
  for level, offset in zip(levels, level_offsets, strict=True):
    rows = weights['head.first.kernel'][offset : offset + level.shape[-1]]
    part = matmul(level, rows, precision)
    # After the product: fewer numbers are multiplied.
    x += jax.vmap(lambda each: resampling.resize_by_taps(each, grid))(part)
  if 'head.second.kernel' in weights:
    kernel = weights['head.second.kernel']
    x = nnx.leaky_relu(x, LEAK).reshape(*x.shape[:3], *kernel.shape[:2])
    x = jax.vmap(lambda x, w: matmul(x, w, precision), (-2, 0), -2)(x, kernel)
    x += weights['head.second.bias']
    x = x.reshape(*x.shape[:3], -1)
  tail = weights['head.tail'][:, None]
  return matmul(nnx.leaky_relu(x, LEAK), tail, precision)[..., 0]
