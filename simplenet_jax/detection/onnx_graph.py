"""An ONNX graph in the making, and the verdicts at its end."""

import math
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.models.simplenet import Network

OPSET = 21
_IR_VERSION = 10  # Of the same release.

# Inputs that may be left out: what is in the file counts then.
LIMITS = ('threshold', 'pixel_threshold')


class Graph:
  """Collects nodes and constants; names of values are their nodes'."""

  def __init__(self) -> None:
    self.nodes: list[onnx.NodeProto] = []
    self.constants: dict[str, onnx.TensorProto] = {}

  def constant(self, name: str, value: Any) -> str:
    """Adds an array, int64, bool or float32."""
    array = np.asarray(value)
    if array.dtype == np.float64:
      array = array.astype(np.float32)
    self.constants[name] = numpy_helper.from_array(array, name)
    return name

  def add(self, kind: str, name: str, *inputs: Any, **attributes: Any) -> str:
    """Adds a node; inputs that are no names become constants of its name."""
    given = [
      one if isinstance(one, str) else self.constant(f'{name}.{index}', one)
      for index, one in enumerate(inputs)
    ]
    node = helper.make_node(kind, given, [name], name, **attributes)
    self.nodes.append(node)
    return name

  def conv(
    self, name: str, x: str, kernel: np.ndarray, bias: Any = None, **how: Any
  ) -> str:
    """Convolves `[images, inputs, H, W]` with `[outputs, inputs, h, w]`."""
    more = [] if bias is None else [bias]
    return self.add('Conv', name, x, kernel, *more, **how)


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
  if roi is None:
    graph.add('Greater', 'mask', 'anomaly_map', 'pixel_threshold')
  else:
    graph.add('Greater', 'beyond', 'anomaly_map', 'pixel_threshold')
    graph.add('And', 'mask', 'beyond', roi > 0.5)
  above = graph.add('Sub', 'above_median', 'score', 'median')
  unit = graph.add('Sub', 'unit', 'threshold', 'median')
  graph.add('Div', 'normalised_score', above, unit)


def _floor(value: float) -> np.float32:
  """Returns the float32 that as many float32 are above as above the value."""
  rounded = np.float32(value)
  return (
    np.nextafter(rounded, np.float32(-np.inf)) if rounded > value else rounded
  )


def to_model(
  network: Network, graph: Graph, name: str, images: int = 0
) -> onnx.ModelProto:
  """Returns a model of some number of images; 0: any number.

  The limits of `add_verdicts` are inputs, too, which may be left out.
  """
  types, count = onnx.TensorProto, images or 'images'
  info = helper.make_tensor_value_info
  size = [*network.size]
  outputs = {
    'anomaly_map': (types.FLOAT, size),
    'score': (types.FLOAT, []),
    'anomalous': (types.BOOL, []),
    'mask': (types.BOOL, size),
    'normalised_score': (types.FLOAT, []),
  }
  made = {node.name for node in graph.nodes}
  return helper.make_model(
    helper.make_graph(
      graph.nodes,
      name,
      [info('pixels', types.UINT8, [count, *size, 3])]
      + [
        info(one, types.FLOAT, []) for one in LIMITS if one in graph.constants
      ],
      [
        info(one, kind, [count, *shape])
        for one, (kind, shape) in outputs.items()
        if one in made
      ],
      list(graph.constants.values()),
    ),
    producer_name='simplenet-jax',
    opset_imports=[helper.make_opsetid('', OPSET)],
    ir_version=_IR_VERSION,
  )
