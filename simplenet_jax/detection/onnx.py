"""ONNX, for ONNX Runtime; by jax2onnx, which only this file knows."""

import functools
import types
from typing import Any

import numpy as np

from simplenet_jax.detection.stablehlo import Runner
from simplenet_jax.detector import Detector
from simplenet_jax.models import channels_first

FILE = 'model.onnx'
OPSET = 21
_EXTRA = "ONNX needs more packages: pip install 'simplenet-jax[onnx]'"


def build(detector: Detector) -> bytes:
  """Returns a detector as an ONNX model.

  Its input `pixels` is uint8 `[images, *size, 3]`, any number of them, its
  outputs are `anomaly_map` `[images, *size]` and `score` `[images]`, float32.

  Raises:
    ValueError: If packages of the extra `onnx` are missing.
  """
  try:
    import jax2onnx
  except ImportError as error:
    raise ValueError(f'{_EXTRA} ({error})') from None
  structure = detector.card.network
  # Any: a shape with a name in it is no jax.ShapeDtypeStruct.
  pixels: Any = types.SimpleNamespace(
    shape=('images', *structure.size, 3), dtype=np.dtype(np.uint8)
  )
  model = jax2onnx.to_onnx(
    functools.partial(channels_first.detect, structure, detector.weights),
    [pixels],
    model_name=detector.card.name,
    opset=OPSET,
    input_names=['pixels'],
    output_names=['anomaly_map', 'score'],
  )
  entry = model.metadata_props.add()
  entry.key = 'detector'
  entry.value = detector.card.portable().to_json()
  return model.SerializeToString()


def runner(model: bytes) -> Runner:
  """Returns what an exported file computes, as its users would run it."""
  try:
    import onnxruntime
  except ImportError as error:
    raise ValueError(f'{_EXTRA} ({error})') from None
  session = onnxruntime.InferenceSession(
    model, providers=['CPUExecutionProvider']
  )

  def run(pixels):
    maps, scores = session.run(None, {'pixels': pixels})
    return np.asarray(maps), np.asarray(scores)

  return run
