"""Distances to a bank of good patches as an ONNX graph, exact and in int8."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from simplenet_jax.detection.onnx_graph import (
  Graph,
  Maps,
  pointwise,
  resized,
  to_int8,
)
from simplenet_jax.models.simplenet import Network

_NAME = 'nearest.bank'  # The layer, in plans.
_SLAB = 512  # Rows of a bank whose distances stay in a processor's cache.
# With so many dimensions, half as many components find neighbours as well.
# ONNX Runtime is slow to say which are nearest.
_MANY = 256


def distances(
  graph: Graph,
  network: Network,
  weights: Mapping[str, np.ndarray],
  levels: Sequence[Maps],
) -> str:
  """Adds what `nearest.apply` computes: `[images, 1, height, width]`.

  In OpenVINO's int8 the nearest of a bank is searched along its principal
  components; the distance to what is found there is that of all dimensions.
  """
  bank = weights[_NAME].astype(np.float64)
  centre = bank.mean(0)
  bank -= centre
  patches = ''
  for level, start in zip(levels, network.level_offsets, strict=True):
    x = resized(graph, level.name, level.shape[1:], levels[0].shape[1:])
    # Two levels may share a dimension: they are widened and added.
    after = len(centre) - start - level.shape[0]
    ends = [0, start, 0, 0, 0, after, 0, 0]
    x = graph.add('Pad', f'{level.name}.wide', x, ends)
    patches = graph.add('Add', f'{x}+', patches, x) if patches else x
  middle = centre[:, None, None]
  patches = graph.add('Sub', 'nearest.centred', patches, middle)
  graph.work[_NAME] = bank.size * math.prod(levels[0].shape[1:])
  is_int8, rows = _NAME in graph.plan.layers, graph.plan.rows
  if is_int8 and not rows and len(centre) >= _MANY:
    # Eigenvalues ascend: the last of their axes are the principal ones.
    axes = np.linalg.eigh(bank.T @ bank)[1][:, len(centre) - len(centre) // 2 :]
    x = _turned(graph, network, axes, centre, levels)
    found = _squares_to_found(graph, patches, bank, x, bank @ axes)
  else:
    found = _squares(graph, patches, bank)
  found = graph.add('Sqrt', 'nearest.root', found)
  scale, shift = weights['nearest.units']
  found = graph.add('Mul', 'nearest.scaled', found, scale)
  return graph.add('Add', 'nearest', found, shift)


def _less(graph: Graph, x: str, bank: np.ndarray) -> Iterator[str]:
  """Adds and yields squared distances to slabs of a bank.

  They are less the patches' own squares, which all of them share.
  """
  squares = np.square(bank).sum(1)
  for i in range(0, len(bank), _SLAB):
    part, base = f'{_NAME}:{i}', squares[i : i + _SLAB]
    some = -2 * bank[i : i + _SLAB].T
    if not graph.plan.rows:
      yield graph.add('Conv', part, x, pointwise(some), base)
    elif _NAME in graph.plan.layers:  # It would sum and multiply in float32.
      less = graph.add('MatMul', part, x, -some)
      yield graph.add('Sub', f'{part}.less', base, less)
    else:
      less = graph.add('MatMul', part, x, some)
      yield graph.add('Add', f'{part}.less', less, base)


def _squares(graph: Graph, x: str, bank: np.ndarray) -> str:
  """Adds squared distances of patches to the nearest of a bank."""
  rows = graph.plan.rows
  if rows:  # ONNX Runtime reduces rows fast, OpenVINO convolves faster.
    x = graph.add('Transpose', 'nearest.rows', x, perm=[0, 2, 3, 1])
  axes, how = [3 if rows else 1], {'keepdims': 1}
  own = graph.add('ReduceSumSquare', 'nearest.own', x, axes, **how)
  parts = [
    graph.add('ReduceMin', f'{less}.least', less, axes, **how)
    for less in _less(graph, x, bank)
  ]
  least = graph.add('Min', 'nearest.least', *parts)
  found = graph.add('Add', 'nearest.squares', least, own)
  if rows:
    found = graph.add('Transpose', 'nearest.grid', found, perm=[0, 3, 1, 2])
  return graph.add('Relu', 'nearest.0', found)


def _turned(
  graph: Graph,
  network: Network,
  axes: np.ndarray,
  centre: np.ndarray,
  levels: Sequence[Maps],
) -> str:
  """Adds the components of patches along `axes`, `[dim, components]`."""
  x, grid = '', levels[0].shape[1:]
  for level, start in zip(levels, network.level_offsets, strict=True):
    some = pointwise(axes[start : start + level.shape[0]])
    more = [] if x else [-centre @ axes]
    part = graph.add('Conv', f'{_NAME}:{level.name}', level.name, some, *more)
    part = resized(graph, part, level.shape[1:], grid)
    x = graph.add('Add', f'nearest.and.{level.name}', x, part) if x else part
  return x


def _squares_to_found(
  graph: Graph, patches: str, bank: np.ndarray, x: str, short: np.ndarray
) -> str:
  """Adds squared distances to what components, `x` and `short`, find."""
  least, places, how = [], [], {'axis': 1}
  x = graph.rounded(x, (short.min(), short.max()))
  for less in _less(graph, x, short):
    best = graph.add('TopK', f'{less}.best', less, [1], largest=0, **how)
    start = len(least) * _SLAB
    place = graph.add('Add', f'{less}.place', f'{best}.place', start)
    least, places = [*least, best], [*places, place]
  best = graph.add('Concat', 'nearest.least', *least, **how)
  best = graph.add('TopK', 'nearest.best', best, [1], largest=0, **how)
  place = graph.add('Concat', 'nearest.places', *places, **how)
  one = f'{best}.place'
  place = graph.add('GatherElements', 'nearest.place', place, one, **how)
  place = graph.add('Squeeze', 'nearest.row', place, [1])
  values, scale = to_int8(bank, 1)
  found = graph.add('Gather', 'nearest.found.int8', values, place)
  found = graph.add('Transpose', 'nearest.turned', found, perm=[0, 3, 1, 2])
  zeros = np.zeros(len(scale), np.int8)
  found = graph.add(
    'DequantizeLinear', 'nearest.found', found, scale, zeros, **how
  )
  apart = graph.add('Sub', 'nearest.apart', patches, found)
  return graph.add('ReduceSumSquare', 'nearest.0', apart, [1], keepdims=1)
