"""The network as an ONNX graph, node by node, channels first.

Written so, each operation is one node, which runtimes fuse and quantisers
know. `simplenet.detect` is the same in JAX; exports compare the two.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from simplenet_jax.detection import onnx_nearest
from simplenet_jax.detection.onnx_graph import (
  EXACT,
  Graph,
  Maps,
  Plan,
  pointwise,
  resized,
  to_int8,
)
from simplenet_jax.models import backbone, head, resampling, simplenet
from simplenet_jax.models.simplenet import Network

Weights = Mapping[str, np.ndarray]

_UNIT = 256  # Levels of bytes; a scale of 1 makes OpenVINO take float32.


def build(network: Network, weights: Weights, plan: Plan = EXACT) -> Graph:
  """Returns the graph from `pixels` to `anomaly_map` and `score`.

  Pixels are uint8 `[images, *size, 3]`, maps float32 `[images, *size]`, scores
  `[images]`. The weights are folded, as a detector keeps them.
  """
  graph = Graph(plan)
  levels = _pooled(graph, network, weights)
  parts = []
  if 'head.tail' in weights:
    parts.append(_head(graph, network, weights, levels))
  if 'nearest.bank' in weights:
    parts.append(onnx_nearest.distances(graph, network, weights, levels))
  scores = graph.add('Add', 'scores', *parts) if parts[1:] else parts[0]
  scores = _inside(graph, scores, levels[0].shape[1:], weights.get('roi'))
  rows, cols = (
    resampling.upsampling_matrix(grid, side, network.smoothing)
    for side, grid in zip(network.size, levels[0].shape[1:], strict=True)
  )
  maps = graph.add('MatMul', 'across', scores, cols.T)
  maps = graph.add('MatMul', 'down', graph.constant('rows', rows), maps)
  maps = _inside(graph, maps, network.size, weights.get('roi'))
  graph.add('Squeeze', 'anomaly_map', maps, [1])
  ranked = maps if network.score == 'map' else scores
  graph.add('ReduceMax', 'score', ranked, [1, 2, 3], keepdims=0)
  return graph


def _pooled(graph: Graph, network: Network, weights: Weights) -> list[Maps]:
  """Adds the backbone and the pooling of each level's neighbourhoods."""
  spec = network.spec
  # Exact: normalised values are a straight line of levels, 0 to 255.
  table = spec.table.astype(np.float64)
  scale = (table[255] - table[0]) / 255
  (first, *_), (second, *_), *_ = spec.layers(network.levels)
  is_mirrored = network.padding == 'reflect'

  def convolve(name: str, x: Maps, stride: int) -> Maps:
    kernel = weights[f'{name}.kernel'].transpose(3, 2, 0, 1)
    bias, is_int8 = weights[f'{name}.bias'], name in graph.plan.layers
    if name == first:
      kernel = kernel * scale[:, None, None]
    size, (channels, *sides) = kernel.shape[-1], x.shape
    added = backbone.borders(sides, size, stride, spec.is_same)
    value, pads = x.name, np.transpose(added).ravel().tolist()
    if is_mirrored:
      pads, at = [0] * 4, 1 if name == first else 2
      if is_int8 and name != first:
        value = graph.rounded(value)
      value = _mirrored(graph, f'{name}.pad', value, at, sides, added)
      if name == first:  # No border is 0, so that the bias can hold the mean.
        sums = kernel.sum((2, 3))
        if is_int8:  # The mean is as the rounded kernel sees it.
          rounded, steps = to_int8(kernel, 0)
          sums, kernel = steps[:, None] * rounded.sum((2, 3)), kernel * _UNIT
        bias = bias + sums @ (table[0] / scale)
        value = _floats(graph, value, is_int8)
      elif is_int8 and not graph.plan.rows:
        graph.exact.add(value)  # ONNX Runtime wants it rounded once more.
    groups = channels // kernel.shape[1]
    how = {'strides': [stride] * 2, 'pads': pads, 'group': groups}
    made = graph.add('Conv', name, value, kernel, bias, **how)
    graph.work[name] = kernel.size * math.prod(sides) // stride**2
    outside = np.sum(added, axis=1) - size
    sides = (np.array(sides) + outside) // stride + 1
    return Maps(graph, made, len(kernel), sides.tolist())

  def clip(x: Maps, ceiling: float) -> Maps:
    if ceiling == math.inf:
      made = graph.add('Relu', f'{x.name}.relu', x.name)
    else:
      made = graph.add('Clip', f'{x.name}.relu', x.name, 0.0, ceiling)
    return Maps(graph, made, x.shape[0], x.shape[1:])

  def max_pool(x: Maps) -> Maps:
    how = {'kernel_shape': [3, 3], 'strides': [2, 2], 'pads': [1] * 4}
    # The maximum of rounded values is the rounded maximum.
    is_int8 = second in graph.plan.layers
    value = graph.rounded(x.name) if is_int8 else x.name
    made = graph.add('MaxPool', 'max_pool', value, **how)
    if is_int8 and not graph.plan.rows:
      graph.exact.add(made)
    return Maps(graph, made, x.shape[0], [-(-n // 2) for n in x.shape[1:]])

  pixels, centre = 'pixels', (table[0] / scale)[:, None, None]
  if not is_mirrored:
    value = _floats(graph, pixels, is_int8=False)
    pixels = graph.add('Add', 'centred', value, centre)
  found = backbone.apply(
    *(network.architecture, network.levels, convolve, max_pool),
    *(Maps(graph, pixels, 3, network.size), clip),
  )
  levels = []
  for number, one, level in zip(
    network.levels, found, network.pooling, strict=True
  ):
    kernel, side = level.kernel.transpose(3, 2, 0, 1), level.block.shape[1]
    how = {'pads': [(side - 1) // 2] * 4, 'group': level.groups}
    pooled = graph.add('Conv', f'level{number}', one.name, kernel, **how)
    sides = [n - 1 + side % 2 for n in one.shape[1:]]
    levels.append(Maps(graph, pooled, len(kernel), sides))
  return levels


def _floats(graph: Graph, x: str, is_int8: bool) -> str:
  """Adds the way from bytes `[images, *sides, 3]` to floats, channels first."""
  rows, turn = graph.plan.rows, {'perm': [0, 3, 1, 2]}
  x = graph.add('Transpose', 'turned', x, **turn) if rows else x
  if is_int8:
    how = np.float32(1 / _UNIT), np.uint8(0)
    x = graph.add('DequantizeLinear', 'floats', x, *how)
  else:
    x = graph.add('Cast', 'floats', x, to=onnx.TensorProto.FLOAT)
  # OpenVINO moves nothing where a convolution follows.
  x = x if rows else graph.add('Transpose', 'turned', x, **turn)
  graph.exact.add(x)
  return x


def _mirrored(
  graph: Graph,
  name: str,
  x: str,
  first: int,
  sides: Sequence[int],
  added: Sequence[tuple[int, int]],
) -> str:
  """Adds what `layers.pad` does with 'reflect', from axis `first`."""
  if not np.any(added):
    return x
  if all(max(both) < side for both, side in zip(added, sides, strict=True)):
    ends = np.zeros((2, 4), int)
    ends[:, first : first + 2] = np.transpose(added)
    return graph.add('Pad', name, x, ends.ravel(), mode='reflect')
  # A side that is shorter than what is added is mirrored more than once.
  for axis, (side, both) in enumerate(zip(sides, added, strict=True), first):
    places = np.pad(np.arange(side), both, mode='reflect')
    x = graph.add('Gather', f'{name}.{axis}', x, places, axis=axis)
  return x


def _head(
  graph: Graph, network: Network, weights: Weights, levels: Sequence[Maps]
) -> str:
  """Adds what `head.apply` computes; products are convolutions of one pixel."""
  kernel, bias = weights['head.first.kernel'], weights['head.first.bias']
  x = ''
  for level, start in zip(levels, network.level_offsets, strict=True):
    rows = kernel[start : start + level.shape[0]]
    name = f'head.first.{level.name}'
    part = graph.add(
      'Conv', name, level.name, pointwise(rows), *([] if x else [bias])
    )
    graph.work[name] = rows.size * math.prod(level.shape[1:])
    part = resized(graph, part, level.shape[1:], levels[0].shape[1:])
    x = graph.add('Add', f'{name}+', x, part) if x else part
  x = graph.add('LeakyRelu', 'head.first.relu', x, alpha=head.LEAK)
  if 'head.second.kernel' in weights:
    second, bias = weights['head.second.kernel'], weights['head.second.bias']
    kernel = np.concatenate([pointwise(one) for one in second])
    how = {'group': len(second)}
    x = graph.add('Conv', 'head.second', x, kernel, bias.reshape(-1), **how)
    x = graph.add('LeakyRelu', 'head.second.relu', x, alpha=head.LEAK)
  return graph.add(
    'Conv', 'head.tail', x, pointwise(weights['head.tail'][:, None])
  )


def _inside(
  graph: Graph, x: str, sides: Sequence[int], roi: np.ndarray | None
) -> str:
  """Adds what `simplenet.inside` computes of `[images, 1, *sides]`."""
  if roi is None:
    return x
  here = graph.constant(f'{x}.roi', simplenet.seen(roi, tuple(sides)))
  shown = graph.add('Where', f'{x}.shown', here, x, math.inf)
  axes = [2, 3]
  lowest = graph.add('ReduceMin', f'{x}.lowest', shown, axes, keepdims=1)
  low = graph.add('Min', f'{x}.low', x, lowest)
  return graph.add('Where', f'{x}.inside', here, x, low)
