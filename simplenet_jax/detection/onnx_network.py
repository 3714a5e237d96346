"""The network as an ONNX graph, node by node, channels first.

Written so, each operation is one node, which runtimes fuse and quantisers
know. `simplenet.detect` is the same in JAX; exports compare the two.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from simplenet_jax.detection.onnx_graph import EXACT, Graph, Plan, to_int8
from simplenet_jax.models import backbone, head, resampling, simplenet
from simplenet_jax.models.simplenet import Network

Weights = Mapping[str, np.ndarray]

_SLAB = 512  # Rows of a bank whose distances stay in a processor's cache.
_UNIT = 256  # Levels of bytes; a scale of 1 makes OpenVINO take float32.


class _Maps:
  """A feature map `[images, channels, *sides]`, as `backbone.apply` needs."""

  def __init__(self, graph: Graph, name: str, channels: int, sides: Any):
    self.graph, self.name = graph, name
    self.shape = channels, *sides

  def __add__(self, other: '_Maps') -> '_Maps':
    sum_ = self.graph.add('Add', f'{self.name}+', self.name, other.name)
    return _Maps(self.graph, sum_, self.shape[0], self.shape[1:])


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
    parts.append(_distances(graph, network, weights, levels))
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


def _pooled(graph: Graph, network: Network, weights: Weights) -> list[_Maps]:
  """Adds the backbone and the pooling of each level's neighbourhoods."""
  spec = network.spec
  # Exact: normalised values are a straight line of levels, 0 to 255.
  table = spec.table.astype(np.float64)
  scale = (table[255] - table[0]) / 255
  (first, *_), (second, *_), *_ = spec.layers(network.levels)
  is_mirrored = network.padding == 'reflect'

  def convolve(name: str, x: _Maps, stride: int) -> _Maps:
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
    return _Maps(graph, made, len(kernel), sides.tolist())

  def clip(x: _Maps, ceiling: float) -> _Maps:
    if ceiling == math.inf:
      made = graph.add('Relu', f'{x.name}.relu', x.name)
    else:
      made = graph.add('Clip', f'{x.name}.relu', x.name, 0.0, ceiling)
    return _Maps(graph, made, x.shape[0], x.shape[1:])

  def max_pool(x: _Maps) -> _Maps:
    how = {'kernel_shape': [3, 3], 'strides': [2, 2], 'pads': [1] * 4}
    # The maximum of rounded values is the rounded maximum.
    is_int8 = second in graph.plan.layers
    value = graph.rounded(x.name) if is_int8 else x.name
    made = graph.add('MaxPool', 'max_pool', value, **how)
    if is_int8 and not graph.plan.rows:
      graph.exact.add(made)
    return _Maps(graph, made, x.shape[0], [-(-n // 2) for n in x.shape[1:]])

  pixels, centre = 'pixels', (table[0] / scale)[:, None, None]
  if not is_mirrored:
    value = _floats(graph, pixels, is_int8=False)
    pixels = graph.add('Add', 'centred', value, centre)
  found = backbone.apply(
    *(network.architecture, network.levels, convolve, max_pool),
    *(_Maps(graph, pixels, 3, network.size), clip),
  )
  levels = []
  for number, one, level in zip(
    network.levels, found, network.pooling, strict=True
  ):
    kernel, side = level.kernel.transpose(3, 2, 0, 1), level.block.shape[1]
    how = {'pads': [(side - 1) // 2] * 4, 'group': level.groups}
    pooled = graph.add('Conv', f'level{number}', one.name, kernel, **how)
    sides = [n - 1 + side % 2 for n in one.shape[1:]]
    levels.append(_Maps(graph, pooled, len(kernel), sides))
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


def _resized(
  graph: Graph, x: str, old: Sequence[int], new: Sequence[int]
) -> str:
  if [*old] == [*new]:
    return x
  if not graph.plan.rows:
    how = {'mode': 'linear', 'axes': [2, 3]}  # Of half a pixel's centres.
    sizes = graph.constant(f'{x}.sizes', np.array(new))
    return graph.add('Resize', f'{x}.resized', x, '', '', sizes, **how)
  rows, cols = (
    resampling.bilinear_matrix(*sides) for sides in zip(old, new, strict=True)
  )
  x = graph.add('MatMul', f'{x}.across', x, cols.T)
  return graph.add('MatMul', f'{x}.down', graph.constant(f'{x}.rows', rows), x)


def _head(
  graph: Graph, network: Network, weights: Weights, levels: Sequence[_Maps]
) -> str:
  """Adds what `head.apply` computes; products are convolutions of one pixel."""
  kernel, bias = weights['head.first.kernel'], weights['head.first.bias']
  x = ''
  for level, start in zip(levels, network.level_offsets, strict=True):
    rows = kernel[start : start + level.shape[0]]
    name = f'head.first.{level.name}'
    part = graph.add(
      'Conv', name, level.name, _pointwise(rows), *([] if x else [bias])
    )
    graph.work[name] = rows.size * math.prod(level.shape[1:])
    part = _resized(graph, part, level.shape[1:], levels[0].shape[1:])
    x = graph.add('Add', f'{name}+', x, part) if x else part
  x = graph.add('LeakyRelu', 'head.first.relu', x, alpha=head.LEAK)
  if 'head.second.kernel' in weights:
    second, bias = weights['head.second.kernel'], weights['head.second.bias']
    kernel = np.concatenate([_pointwise(one) for one in second])
    how = {'group': len(second)}
    x = graph.add('Conv', 'head.second', x, kernel, bias.reshape(-1), **how)
    x = graph.add('LeakyRelu', 'head.second.relu', x, alpha=head.LEAK)
  return graph.add(
    'Conv', 'head.tail', x, _pointwise(weights['head.tail'][:, None])
  )


def _pointwise(matrix: np.ndarray) -> np.ndarray:
  """Returns `[inputs, outputs]` as a kernel of one pixel."""
  return matrix.T[..., None, None]


def _distances(
  graph: Graph, network: Network, weights: Weights, levels: Sequence[_Maps]
) -> str:
  """Adds what `nearest.apply` computes: distances to a bank, in their units."""
  bank = weights['nearest.bank'].astype(np.float64)
  centre = bank.mean(0)
  bank -= centre
  patches = ''
  for level, start in zip(levels, network.level_offsets, strict=True):
    x = _resized(graph, level.name, level.shape[1:], levels[0].shape[1:])
    # Two levels may share a dimension: they are widened and added.
    after = len(centre) - start - level.shape[0]
    ends = [0, start, 0, 0, 0, after, 0, 0]
    x = graph.add('Pad', f'{level.name}.wide', x, ends)
    patches = graph.add('Add', f'{x}+', patches, x) if patches else x
  middle, channels = centre[:, None, None], {'keepdims': 1}
  patches = graph.add('Sub', 'nearest.centred', patches, middle)
  own = graph.add('ReduceSumSquare', 'nearest.own', patches, [1], **channels)
  # Squares less the patches' own, which all of a patch's distances share.
  # ONNX Runtime finds minima of rows fast, OpenVINO convolves faster.
  name, squares = 'nearest.bank', np.square(bank).sum(1)
  grid = levels[0].shape[1:]
  graph.work[name] = bank.size * math.prod(grid)
  rows, flat = graph.plan.rows, [0, len(centre), math.prod(grid)]
  if rows:
    patches = graph.add('Reshape', 'nearest.flat', patches, flat)
    patches = graph.add('Transpose', 'nearest.rows', patches, perm=[0, 2, 1])
  parts = []
  for i in range(0, len(bank), _SLAB):
    part, base = f'{name}:{i}', squares[i : i + _SLAB]
    some = -2 * bank[i : i + _SLAB].T
    if not rows:
      less = graph.add('Conv', part, patches, _pointwise(some), base)
    elif name in graph.plan.layers:  # It would sum and multiply in float32.
      less = graph.add('MatMul', part, patches, -some)
      less = graph.add('Sub', f'{part}.less', base, less)
    else:
      less = graph.add('MatMul', part, patches, some)
      less = graph.add('Add', f'{part}.less', less, base)
    least = graph.add(
      'ReduceMin', f'{part}.least', less, [1 + rows], **channels
    )
    parts.append(least)
  least = graph.add('Min', 'nearest.least', *parts)
  if rows:
    least = graph.add('Reshape', 'nearest.grid', least, [0, 1, *grid])
  found = graph.add('Add', 'nearest.squares', least, own)
  found = graph.add(
    'Sqrt', 'nearest.root', graph.add('Relu', 'nearest.0', found)
  )
  scale, shift = weights['nearest.units']
  found = graph.add('Mul', 'nearest.scaled', found, scale)
  return graph.add('Add', 'nearest', found, shift)


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
