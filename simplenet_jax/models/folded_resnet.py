"""The frozen backbone for inference: its BatchNorms are in its convolutions.

Weights are a flat dictionary, `<torchvision's layer>.kernel` and `.bias`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from simplenet_jax.models import resnet


def fold(graph: nnx.GraphDef, state: nnx.State) -> dict[str, np.ndarray]:
  """Folds every BatchNorm into the convolution before it, in float64.

  Args:
    graph: From `resnet.abstract`.
    state: The weights, with the statistics that are to be used.

  Returns:
    float32 kernels `[size, size, inputs, outputs]` and biases `[outputs]`.
  """
  model = nnx.merge(graph, state)
  weights = {}

  def put(name, conv, bn):
    scale, bias, mean, var = (
      np.asarray(leaf.get_value(), np.float64)
      for leaf in (bn.scale, bn.bias, bn.mean, bn.var)
    )
    factor = scale / np.sqrt(var + resnet.EPSILON)
    kernel = np.asarray(conv.kernel.get_value(), np.float64) * factor
    weights[f'{name}.kernel'] = kernel.astype(np.float32)
    weights[f'{name}.bias'] = (bias - mean * factor).astype(np.float32)

  put('conv1', model.conv1, model.bn1)
  for level, blocks in enumerate(model.layers, start=1):
    for index, block in enumerate(blocks):
      name = f'layer{level}.{index}'
      for i, pair in enumerate(zip(block.convs, block.bns, strict=True)):
        put(f'{name}.conv{i + 1}', *pair)
      if block.downsample:
        put(f'{name}.downsample', block.downsample.conv, block.downsample.bn)
  return weights


def layers(
  architecture: str, levels: Sequence[int]
) -> Iterator[tuple[str, int, tuple[int, int, int, int]]]:
  """Yields each convolution's name, stride and shape of its kernel.

  Args:
    architecture: A key of `resnet.ARCHITECTURES`.
    levels: The levels in use.
  """
  spec = resnet.ARCHITECTURES[architecture]
  yield 'conv1', 2, (7, 7, 3, spec.width)
  inputs = spec.width
  for level in range(1, max(levels) + 1):
    outputs = spec.channels(level)
    inner = outputs // 4 * spec.inner_factor if spec.bottleneck else outputs
    for index in range(spec.depths[level - 1]):
      name, stride = f'layer{level}.{index}', _stride(level, index)
      if spec.bottleneck:
        yield f'{name}.conv1', 1, (1, 1, inputs, inner)
        yield f'{name}.conv2', stride, (3, 3, inner, inner)
        yield f'{name}.conv3', 1, (1, 1, inner, outputs)
      else:
        yield f'{name}.conv1', stride, (3, 3, inputs, outputs)
        yield f'{name}.conv2', 1, (3, 3, outputs, outputs)
      if stride > 1 or inputs != outputs:
        yield f'{name}.downsample', stride, (1, 1, inputs, outputs)
      inputs = outputs


def _stride(level: int, index: int) -> int:
  return 2 if level > 1 and index == 0 else 1


def apply(
  architecture: str,
  levels: Sequence[int],
  convolve: Callable[[jax.Array, jax.Array, jax.Array, int], jax.Array],
  max_pool: Callable[[jax.Array], jax.Array],
  weights: Mapping[str, Any],
  images: jax.Array,
) -> tuple[jax.Array, ...]:
  """Computes the feature maps of the chosen levels.

  Args:
    architecture: A key of `resnet.ARCHITECTURES`.
    levels: Those to return, ascending.
    convolve: Maps x, kernel, bias and stride to the result.
    max_pool: Of 3x3, with a stride of 2.
    weights: From `fold`.
    images: Normalised images, float, in whatever layout the two functions
      have: `[batch, height, width, 3]` or `[batch, 3, height, width]`.

  Returns:
    As `resnet.ResNet.__call__` in that layout, to within rounding.
  """
  spec = resnet.ARCHITECTURES[architecture]

  def conv(name, x, stride=1):
    kernel, bias = weights[f'{name}.kernel'], weights[f'{name}.bias']
    return convolve(x, kernel, bias, stride)

  def block(x, level, index):
    name, stride = f'layer{level}.{index}', _stride(level, index)
    strides = (1, stride, 1) if spec.bottleneck else (stride, 1)
    short = x
    if f'{name}.downsample.kernel' in weights:
      short = conv(f'{name}.downsample', x, stride)
    for i, each in enumerate(strides):
      x = conv(f'{name}.conv{i + 1}', x, each)
      x = nnx.relu(x if i + 1 < len(strides) else x + short)
    return x

  x = max_pool(nnx.relu(conv('conv1', images, 2)))
  found = []
  for level in range(1, max(levels) + 1):
    for index in range(spec.depths[level - 1]):
      x = block(x, level, index)
    if level in levels:
      found.append(x)
  return tuple(found)
