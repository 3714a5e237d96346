"""ResNet backbones that can be trained, in Flax NNX, and their weights' names.

What features are computed with is `models/resnet.py`, BatchNorms folded.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from simplenet_jax.models import resnet

_HWIO_TO_OIHW = (3, 2, 0, 1)
_LEAVES = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}


def _conv(
  inputs: int,
  outputs: int,
  size: int,
  stride: int,
  rngs: nnx.Rngs,
) -> nnx.Conv:
  # torch pads by size // 2 on both sides; 'SAME' pads an even input on the
  # right only when the stride is 2.
  return nnx.Conv(
    inputs,
    outputs,
    (size, size),
    strides=stride,
    padding=size // 2,
    use_bias=False,
    kernel_init=nnx.initializers.he_normal(),
    rngs=rngs,
  )


def _norm(features: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
  return nnx.BatchNorm(
    features,
    momentum=0.9,
    epsilon=resnet.ResNet.epsilon,
    use_fast_variance=False,
    rngs=rngs,
  )


class Shortcut(nnx.Module):
  """A 1x1 convolution and its norm, where a block changes the shape."""

  def __init__(self, inputs: int, outputs: int, stride: int, rngs: nnx.Rngs):
    self.conv = _conv(inputs, outputs, 1, stride, rngs)
    self.bn = _norm(outputs, rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[batch, h, w, inputs]` to `[batch, h', w', outputs]`."""
    return self.bn(self.conv(x))


class Block(nnx.Module):
  """A residual block: two 3x3 convolutions, or a 1x1-3x3-1x1 bottleneck."""

  def __init__(
    self,
    architecture: resnet.ResNet,
    inputs: int,
    level: int,
    stride: int,
    rngs: nnx.Rngs,
  ):
    outputs = architecture.channels(level)
    if architecture.bottleneck:
      inner = outputs // 4 * architecture.inner_factor
      shapes = [(inputs, inner, 1, 1), (inner, inner, 3, stride)]
      shapes.append((inner, outputs, 1, 1))
    else:
      shapes = [(inputs, outputs, 3, stride), (outputs, outputs, 3, 1)]
    self.convs = nnx.List([_conv(*shape, rngs) for shape in shapes])
    self.bns = nnx.List([_norm(shape[1], rngs) for shape in shapes])
    reshapes = stride != 1 or inputs != outputs
    self.downsample = (
      Shortcut(inputs, outputs, stride, rngs) if reshapes else None
    )

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[batch, h, w, inputs]` to `[batch, h', w', outputs]`."""
    residual = x if self.downsample is None else self.downsample(x)
    last = len(self.convs) - 1
    for i, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
      x = bn(conv(x))
      x = nnx.relu(x if i < last else x + residual)
    return x


def _max_pool(x: jax.Array) -> jax.Array:
  # The annotation knows 'SAME' and 'VALID' only.
  padding: Any = ((1, 1), (1, 1))
  return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=padding)


class ResNet(nnx.Module):
  """A ResNet that returns the feature maps of the chosen levels.

  Attributes:
    levels: The levels returned, ascending.
  """

  def __init__(
    self,
    architecture: str,
    levels: Sequence[int],
    *,
    rngs: nnx.Rngs,
  ):
    """Builds the network, randomly initialised.

    Args:
      architecture: A key of `resnet.ARCHITECTURES`.
      levels: Any of 1, 2 and 3; nothing above the highest is built.
      rngs: Randomness for the initial weights.
    """
    spec = resnet.ARCHITECTURES[architecture]
    self.levels = tuple(levels)
    self.conv1 = _conv(3, spec.width, 7, 2, rngs)
    self.bn1 = _norm(spec.width, rngs)
    inputs = spec.width
    layers = []
    for level in range(1, levels[-1] + 1):
      blocks = []
      for index in range(spec.depths[level - 1]):
        stride = 2 if index == 0 and level > 1 else 1
        blocks.append(Block(spec, inputs, level, stride, rngs))
        inputs = spec.channels(level)
      layers.append(nnx.List(blocks))
    self.layers = nnx.List(layers)

  def __call__(self, images: jax.Array) -> tuple[jax.Array, ...]:
    """Computes the feature maps, with the batch's statistics.

    Args:
      images: Normalised images `[batch, height, width, 3]`, float.

    Returns:
      One `[batch, ceil(height / s), ceil(width / s), channels]` per level, with
      strides `s` of 4, 8 and 16.
    """
    x = self.bn1(self.conv1(images))
    x = _max_pool(nnx.relu(x))
    features = []
    for level, blocks in enumerate(self.layers, start=1):
      for block in blocks:
        x = block(x)
      if level in self.levels:
        features.append(x)
    return tuple(features)


def to_torch_names(state: nnx.State) -> dict[str, np.ndarray]:
  """Turns a backbone's state into tensors with torchvision's names.

  Args:
    state: Of a `ResNet`, parameters and statistics.

  Returns:
    NumPy arrays in the state's type, kernels
    `[outputs, inputs, height, width]`.
  """
  tensors = {}
  for path, leaf in nnx.to_flat_state(state):
    value = np.asarray(leaf.get_value())
    if value.ndim == 4:
      value = np.ascontiguousarray(value.transpose(_HWIO_TO_OIHW))
    tensors[_torch_name(path)] = value
  return tensors


def _torch_name(path: tuple[Any, ...]) -> str:
  """Returns torchvision's name for the leaf at a path of the Flax state."""
  *module, leaf = path
  match module:
    case ['conv1' | 'bn1' as stem]:
      prefix = stem
    case ['layers', int(level), int(block), 'convs' | 'bns' as kind, int(i)]:
      prefix = f'layer{level + 1}.{block}.{kind[:-1]}{i + 1}'
    case ['layers', int(level), int(block), 'downsample', 'conv']:
      prefix = f'layer{level + 1}.{block}.downsample.0'
    case ['layers', int(level), int(block), 'downsample', 'bn']:
      prefix = f'layer{level + 1}.{block}.downsample.1'
    case _:
      raise AssertionError(f'no torch name for {path}')
  return f'{prefix}.{_LEAVES[leaf]}'
