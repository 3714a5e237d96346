"""An ONNX graph in the making, and the verdicts at its end."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.models import resampling
from simplenet_jax.models.simplenet import Network

OPSET = 21
_IR_VERSION = 10  # Of the same release.

# Inputs that may be left out: what is in the file counts then.
LIMITS = ('threshold', 'pixel_threshold')
_LARGE = 1024  # Constants of fewer values keep float32.


class Plan(NamedTuple):
  """How a graph is made: for which runtime, and in which precision."""

  rows: bool = True  # For ONNX Runtime: its products of matrices are faster.
  half: bool = False  # Whether large constants are stored in float16.
  # The layers whose inputs and kernels are int8, and values' ranges.
  layers: frozenset[str] = frozenset()
  ranges: Mapping[str, tuple[float, float]] = {}


EXACT = Plan()


class Graph:
  """Collects nodes and constants; names of values are their nodes'."""

  def __init__(self, plan: Plan) -> None:
    self.plan = plan
    # Layers that can be int8, with their multiplications for an image.
    self.work: dict[str, int] = {}
    self.exact: set[str] = set()  # Values that rounding leaves as they are.
    self.nodes: list[onnx.NodeProto] = []
    self.constants: dict[str, onnx.TensorProto] = {}

  def constant(self, name: str, value: Any) -> str:
    """Adds an array; float64 becomes float32, `half` stores float16."""
    array = np.asarray(value)
    if array.dtype == np.float64:
      array = array.astype(np.float32)
    dtype, most = np.float16, np.abs(array).max(initial=0)
    large = array.dtype == np.float32 and array.size >= _LARGE
    if not (self.plan.half and large and most < np.finfo(dtype).max):
      self.constants[name] = numpy_helper.from_array(array, name)
      return name
    stored = self.constant(f'{name}.half', array.astype(dtype))
    return self.add('Cast', name, stored, to=onnx.TensorProto.FLOAT)

  def add(self, kind: str, name: str, *inputs: Any, **attributes: Any) -> str:
    """Adds a node; inputs that are no names become constants of its name."""
    layer = name.partition(':')[0]  # Whose parts are named `layer:...`.
    if kind in ('Conv', 'MatMul') and layer in self.plan.layers:
      x, kernel, *more = inputs
      axis = 0 if kind == 'Conv' else 1  # Of the kernel's outputs.
      inputs = self.rounded(x), self._kernel(f'{name}.1', kernel, axis), *more
    elif name.endswith('+') and self.plan.rows:
      # ONNX Runtime convolves in int8 only where the result is int8, too, and
      # adds faster what it has in int8.
      both = {x for x in inputs if f'{x}.rounded' in self.exact}
      both |= self.plan.layers.intersection(inputs)
      inputs = tuple(self.rounded(x) if x in both else x for x in inputs)
    given = [
      one if isinstance(one, str) else self.constant(f'{name}.{index}', one)
      for index, one in enumerate(inputs)
    ]
    made = [name, f'{name}.place'] if kind == 'TopK' else [name]
    node = helper.make_node(kind, given, made, name, **attributes)
    self.nodes.append(node)
    return name

  def rounded(self, x: str, limits: tuple[float, float] | None = None) -> str:
    """Adds the rounding of a value to 256 levels of its range, once.

    Without `limits` it is the range that was measured.
    """
    made = f'{x}.rounded'
    if x in self.exact or made in self.exact:
      return x if x in self.exact else made
    low, high = limits or self.plan.ranges[x]
    low, high = min(low, 0.0), max(high, 0.0)  # Borders of 0 stay exact.
    scale = np.float32((high - low) / 255 or 1)
    how = scale, np.uint8(round(-low / float(scale)))
    self.add('QuantizeLinear', f'{x}.int8', x, *how)
    self.exact.add(made)
    return self.add('DequantizeLinear', made, f'{x}.int8', *how)

  def _kernel(self, name: str, kernel: np.ndarray, axis: int) -> str:
    """Adds a kernel in int8, with a scale for each of its outputs."""
    values, scale = to_int8(kernel, axis)
    stored = self.constant(f'{name}.int8', values)
    zeros = np.zeros(scale.size, np.int8)
    return self.add('DequantizeLinear', name, stored, scale, zeros, axis=axis)


def to_int8(kernel: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns a kernel in int8, and a scale for each index of `axis`.

  As many values are rounded up as keep the sum of an index: rounding to the
  nearest would shift what even areas of images give, several times the harm.
  """
  rows = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
  scale = np.abs(rows).max(1, keepdims=True) / 127
  scale[scale == 0] = 1
  low = np.floor(rows / scale)
  rest = rows / scale - low
  place = np.argsort(np.argsort(-rest, 1, kind='stable'), 1)
  low += place < np.rint(rest.sum(1, keepdims=True))
  shape = kernel.shape[axis], *np.delete(kernel.shape, axis)
  values = np.moveaxis(low.clip(-127, 127).reshape(shape), 0, axis)
  return values.astype(np.int8), scale.ravel()


class Maps:
  """A feature map `[images, channels, *sides]`, as `backbone.apply` needs."""

  def __init__(self, graph: Graph, name: str, channels: int, sides: Any):
    """Names a value that the graph has."""
    self.graph, self.name = graph, name
    self.shape = channels, *sides

  def __add__(self, other: 'Maps') -> 'Maps':
    """Adds a sum."""
    sum_ = self.graph.add('Add', f'{self.name}+', self.name, other.name)
    return Maps(self.graph, sum_, self.shape[0], self.shape[1:])


def resized(
  graph: Graph, x: str, old: Sequence[int], new: Sequence[int]
) -> str:
  """Adds what `resampling.resize` computes of `[images, channels, *old]`."""
  if [*old] == [*new]:
    return x
  if not graph.plan.rows:
    how = {'mode': 'linear', 'axes': [2, 3]}  # Of half a pixel's centres.
    sizes = graph.constant(f'{x}.sizes', np.array(new))
    return graph.add('Resize', f'{x}.resized', x, '', '', sizes, **how)
  rows, cols = (
    resampling.bilinear_matrix(*sides) for sides in zip(old, new, strict=True)
  )
  x = graph.add('MatMul', f'across.{x}', x, cols.T)
  return graph.add('MatMul', f'down.{x}', graph.constant(f'rows.{x}', rows), x)


def pointwise(matrix: np.ndarray) -> np.ndarray:
  """Returns `[inputs, outputs]` as a kernel of one pixel."""
  return matrix.T[..., None, None]


def add_verdicts(
  graph: Graph, limits: Thresholds, roi: np.ndarray | None
) -> None:
  """Adds verdicts, whose limits are inputs that have a value already.

  Without a threshold nothing is anomalous; without a median of good images
  below it the normalised score is not a number.
  """
  image = math.inf if limits.image is None else limits.image
  pixel = math.inf if limits.pixel is None else limits.pixel
  median = math.nan if limits.median is None else limits.median
  graph.constant('threshold', _floor(image))
  graph.constant('pixel_threshold', _floor(pixel))
  known = median < image < math.inf
  graph.constant('median', median if known else math.nan)
  graph.add('Greater', 'anomalous', 'score', 'threshold')
  graph.add('Greater', 'beyond', 'anomaly_map', 'pixel_threshold')
  graph.add('And', 'mask', 'beyond', True if roi is None else roi > 0.5)
  above = graph.add('Sub', 'above_median', 'score', 'median')
  unit = graph.add('Sub', 'unit', 'threshold', 'median')
  graph.add('Div', 'normalised_score', above, unit)


def _floor(value: float) -> np.float32:
  """Returns the float32 that as many float32 are above as above the value."""
  near = np.float32(value)
  return near if near <= value else np.nextafter(near, np.float32(-np.inf))


def to_model(
  network: Network,
  graph: Graph,
  name: str,
  images: int = 0,
  watched: Iterable[str] = (),
) -> onnx.ModelProto:
  """Returns a model of some number of images; 0: any number.

  The limits of `add_verdicts` are inputs, too, which may be left out. Numbers
  that are `watched` are outputs, too.
  """
  types, info = onnx.TensorProto, helper.make_tensor_value_info
  size, count = network.size, images or 'images'
  outputs = {
    'anomaly_map': (types.FLOAT, [count, *size]),
    'score': (types.FLOAT, [count]),
    'anomalous': (types.BOOL, [count]),
    'mask': (types.BOOL, [count, *size]),
    'normalised_score': (types.FLOAT, [count]),
    **dict.fromkeys(watched, (types.FLOAT, [])),
  }
  limits = [one for one in LIMITS if one in graph.constants]
  made = helper.make_graph(
    graph.nodes,
    name,
    [info('pixels', types.UINT8, [count, *size, 3])]
    + [info(one, types.FLOAT, []) for one in limits],
    [info(n.name, *outputs[n.name]) for n in graph.nodes if n.name in outputs],
    list(graph.constants.values()),
  )
  opset = [helper.make_opsetid('', OPSET)]
  return helper.make_model(
    made,
    producer_name='simplenet-jax',
    opset_imports=opset,
    ir_version=_IR_VERSION,
  )
