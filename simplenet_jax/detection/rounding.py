"""Which layers are rounded to int8, by what that does to anomaly maps."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from simplenet_jax.detection import engines, onnx_graph, onnx_network
from simplenet_jax.detection.onnx_graph import Plan
from simplenet_jax.detector import Detector

_TRIED = 6  # Images by which layers' harm is measured.

Build = Callable[[Detector, Plan], engines.Model]


def ranges(
  detector: Detector, rows: bool, pixels: Sequence[np.ndarray]
) -> dict[str, tuple[float, float]]:
  """Returns the lowest and highest of the values that can be rounded."""
  network, weights = detector.card.network, detector.weights
  graph = onnx_network.build(network, weights, Plan(rows))
  kinds = 'Conv', 'MatMul', 'MaxPool', 'Pad'
  products = [
    n for n in graph.nodes if n.op_type in kinds and n.input[0] != 'pixels'
  ]
  values = {x: None for one in products for x in (one.input[0], one.name)}
  for value in values:
    graph.add('ReduceMin', f'{value}.low', value, keepdims=0)
    graph.add('ReduceMax', f'{value}.high', value, keepdims=0)
  names = [f'{value}.{end}' for value in values for end in ('low', 'high')]
  model = onnx_graph.to_model(network, graph, 'ranges', watched=names)
  run = engines.load_onnx(model.SerializeToString()).run
  found = [run(one[None]) for one in pixels]
  low = {x: min(float(one[f'{x}.low']) for one in found) for x in values}
  return {
    x: (low[x], max(float(one[f'{x}.high']) for one in found)) for x in values
  }


def harm_of(
  layers: Iterable[str],
  detector: Detector,
  plan: Plan,
  build: Build,
  pixels: Sequence[np.ndarray],
) -> dict[str, float]:
  """Returns the root mean square that rounding a layer alone adds to maps."""
  some = pixels[:: -(-len(pixels) // _TRIED)]

  def maps(*rounded: str) -> np.ndarray:
    run = build(detector, plan._replace(layers=frozenset(rounded))).run
    return np.concatenate([run(one[None])['anomaly_map'] for one in some])

  exact = maps()
  return {
    layer: float(np.sqrt(np.mean(np.square(maps(layer) - exact))))
    for layer in layers
  }


def choose(
  harm: Mapping[str, float], work: Mapping[str, int], most: float
) -> frozenset[str]:
  """Returns layers of much work whose harm together is at most so much."""
  chosen, left = set(), most**2
  for layer in sorted(harm, key=lambda one: harm[one] ** 2 / work[one]):
    if harm[layer] ** 2 <= left:
      chosen.add(layer)
      left -= harm[layer] ** 2
  return frozenset(chosen)
