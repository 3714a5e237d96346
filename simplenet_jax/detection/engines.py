"""Exported models on a CPU, run by ONNX Runtime or OpenVINO."""

import functools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simplenet_jax.detection.card import Card
from simplenet_jax.detection.predictor import Predictor

_CPU = 'CPUExecutionProvider'
_OUTPUTS = ('anomaly_map', 'score')  # Judged by; models may have others.


class Model(NamedTuple):
  """An exported model, ready to compute."""

  # From pixels, uint8 `[images, *size, 3]`, to outputs by name, in order.
  run: Callable[[np.ndarray], dict[str, np.ndarray]]
  shape: tuple[int, ...]  # Of the pixels; 0: any number of images.
  device: str  # What computes.


def load_onnx(model: Path | bytes, threads: int = 0) -> Model:
  """Loads an ONNX model; so many `threads` compute, with 0 one a core."""
  import onnxruntime

  onnxruntime.disable_telemetry_events()  # Builds for Windows have them.
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = threads
  options.log_severity_level = 3  # Limits that may be left out are told.
  # Its threads would wait for the next call at full speed, some 40 ms long.
  options.add_session_config_entry('session.force_spinning_stop', '1')
  session: Any = onnxruntime.InferenceSession(model, options, providers=[_CPU])
  names = [one.name for one in session.get_outputs()]
  sides = session.get_inputs()[0].shape
  shape = tuple(side if isinstance(side, int) else 0 for side in sides)

  def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(names, session.run(None, {'pixels': pixels}), strict=True))

  return Model(run, shape, 'the CPU by ONNX Runtime')


def load_openvino(
  model: Path | bytes, weights: bytes | None = None, threads: int = 0
) -> Model:
  """Loads an OpenVINO model; a file's `weights` lie beside it."""
  core = openvino_core()
  read = core.read_model(model, weights) if weights else core.read_model(model)
  # By itself OpenVINO computes in bfloat16 where a processor can.
  options = {'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY'}
  if threads:
    options['INFERENCE_NUM_THREADS'] = str(threads)
  compiled = core.compile_model(read, 'CPU', options)
  sides = read.input('pixels').partial_shape
  shape = tuple(one.get_length() if one.is_static else 0 for one in sides)
  idle: list[Any] = []  # Requests; several threads may ask at a time.

  def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
    request = idle.pop() if idle else compiled.create_infer_request()
    found = request.infer({'pixels': pixels})  # Copies, which stay.
    idle.append(request)
    return {key.any_name: value for key, value in found.items()}

  return Model(run, shape, 'the CPU by OpenVINO')


class Exported(Predictor):
  """Judges by an exported model."""

  __slots__ = ('_model', '_roi')

  def __init__(
    self,
    card: Card,
    model: Model,
    roi: np.ndarray | None = None,
    precision: str = 'float32',
    batch_size: int = 1,
  ):
    """Prepares; a model of a fixed number of images takes that many.

    `roi` is what the model was exported with, bool `[*size]`.
    """
    super().__init__(card, precision, batch_size)
    self.batch_size = model.shape[0] or batch_size
    self._model, self._roi = model, roi

  @property
  def roi(self) -> np.ndarray | None:
    """Where images are looked at, bool `[*size]`; None: everywhere."""
    return self._roi

  @property
  def device(self) -> str:
    """What computes: 'the CPU by ONNX Runtime', or by OpenVINO."""
    return self._model.device

  def _computed(
    self, batches: Iterable[tuple[Any, np.ndarray]], under_way: int = 2
  ) -> Iterator[tuple[Any, np.ndarray, np.ndarray, float]]:
    del under_way  # The host computes itself.
    for name, pixels in batches:
      start, count = time.perf_counter(), len(pixels)
      if (missing := self._model.shape[0] - count) > 0:
        pixels = np.pad(pixels, [(0, missing), *[(0, 0)] * 3])
      found = self._model.run(pixels)
      maps, scores = (found[output][:count] for output in _OUTPUTS)
      yield name, maps, scores, (time.perf_counter() - start) / count


@functools.cache
def openvino_core() -> Any:
  """Returns OpenVINO's core, which stays as long as the process."""
  # Cores that end can leave a stack for signals that is gone: the next kills.
  return import_openvino().Core()


def import_openvino() -> Any:
  """Imports OpenVINO, which sends usage data to its makers unless stopped."""
  absent: Any = None  # To an import statement.
  sys.modules.setdefault('openvino_telemetry', absent)
  import openvino

  return openvino
