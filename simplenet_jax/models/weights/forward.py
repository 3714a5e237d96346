"""A frozen backbone run once, in NumPy.

`resnet.apply` is what features come from. Compiling it takes seconds for every
size of images, on some devices many; for one look at a few small images this is
faster, and the same on every machine.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from flax import nnx

from simplenet_jax.models import patches, resnet


def features(
  state: nnx.State, levels: Sequence[int], images: np.ndarray
) -> list[np.ndarray]:
  """Runs a backbone with padding `zeros`.

  Args:
    state: As for `resnet.apply`, with NumPy leaves.
    levels: The levels to return, ascending.
    images: Normalised images `[batch, height, width, 3]`, float32.

  Returns:
    `[batch, h, w, channels]` float32 of each level.
  """
  tree: Any = nnx.to_pure_dict(state)
  x = np.maximum(_conv_norm(images, tree['conv1'], tree['bn1'], 2), 0)
  # Nothing is below 0 there, so the border can be 0.
  x = np.max(list(_views(x, 3, 2)), axis=0)
  found = []
  for level in range(1, levels[-1] + 1):
    for index, block in tree['layers'][level - 1].items():
      x = _block(x, block, 2 if index == 0 and level > 1 else 1)
    if level in levels:
      found.append(x)
  return found


def pool(features: np.ndarray, pooling: patches.LevelPooling) -> np.ndarray:
  """Pools the neighbourhoods of one level, as `patches.pool_level` does.

  Args:
    features: `[batch, height, width, channels]`, float32.
    pooling: The level's entry of `patches.pooling_for`, of an odd patch size.

  Returns:
    `[batch, height, width, stop - start]` float32.
  """
  size, outputs = pooling.block.shape[1], pooling.block.shape[-1]
  taps = np.stack(list(_views(features, size, 1)), axis=-1)
  block = pooling.block.reshape(-1, outputs).astype(np.float32)
  pooled = taps.reshape(-1, len(block)) @ block
  return pooled.reshape(*features.shape[:3], -1)


def _block(x: np.ndarray, block: Any, stride: int) -> np.ndarray:
  residual = x
  if short := block.get('downsample'):
    residual = _conv_norm(x, short['conv'], short['bn'], stride)
  last = len(block['convs']) - 1
  for i, conv in block['convs'].items():
    # The first of two, or the 3x3 one of three.
    x = _conv_norm(x, conv, block['bns'][i], stride if i == last - 1 else 1)
    x = np.maximum(x if i < last else x + residual, 0)
  return x


def _conv_norm(x: np.ndarray, conv: Any, norm: Any, stride: int) -> np.ndarray:
  size, _, inputs, outputs = conv['kernel'].shape
  taps = conv['kernel'].reshape(-1, inputs, outputs)
  views = list(_views(x, size, stride))
  out = 0
  for view, tap in zip(views, taps, strict=True):
    out += view.reshape(-1, inputs) @ tap
  scale = norm['scale'] / np.sqrt(norm['var'] + resnet.EPSILON)
  out = (out - norm['mean']) * scale + norm['bias']
  return out.reshape(*views[0].shape[:3], outputs)


def _views(x: np.ndarray, size: int, stride: int) -> Iterator[np.ndarray]:
  """Yields what each tap of a kernel sees, padded with 0 as torch does."""
  height, width = (-(-length // stride) for length in x.shape[1:3])
  pad = size // 2
  x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  for row in range(size):
    for column in range(size):
      rows = slice(row, row + stride * (height - 1) + 1, stride)
      columns = slice(column, column + stride * (width - 1) + 1, stride)
      yield x[:, rows, columns]
