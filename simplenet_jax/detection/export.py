"""A detector for programs without this package: model, card and preparation.

The model is StableHLO for programs with nothing but JAX, or ONNX for ONNX
Runtime. It is compared with the detector before it is written.
"""

import functools
import inspect
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simplenet_jax.data import decoding, preprocess
from simplenet_jax.detection.file import Card
from simplenet_jax.detector import Detector
from simplenet_jax.files import atomic_write, refuse_existing
from simplenet_jax.models import channels_first, simplenet

TOLERANCE = 1e-4  # Of the range of scores.
PLATFORMS = ('cpu', 'cuda', 'tpu')  # Of StableHLO.
_OPSET = 21
_FOLDERS = 'jax_hlo_source_file_canonicalization_regex'

Runner = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def to_stablehlo(detector: Detector) -> bytes:
  """Returns a detector as a serialised `jax.export.Exported`.

  It maps pixels uint8 `[images, *size, 3]`, any number of them, to float32
  anomaly maps `[images, *size]` and scores `[images]`.
  """
  network = detector.card.network
  (images,) = jax.export.symbolic_shape('images')
  pixels = jax.ShapeDtypeStruct((images, *network.size, 3), np.uint8)
  # Traced functions do not take NumPy's arrays everywhere.
  weights = jax.tree.map(jax.numpy.asarray, detector.weights)
  run = jax.jit(functools.partial(simplenet.detect, network, weights))
  # Operations know the source files that they come from: by name alone.
  known = jax.config.values[_FOLDERS]
  jax.config.update(_FOLDERS, r'.*[/\\]')
  try:
    exported = jax.export.export(run, platforms=PLATFORMS)(pixels)
    return bytes(exported.serialize())
  finally:
    jax.config.update(_FOLDERS, known)


def to_onnx(detector: Detector) -> bytes:
  """Returns the same as an ONNX model, with the card as metadata."""
  import jax2onnx

  card = detector.card
  # Any: a shape with a name in it is no jax.ShapeDtypeStruct.
  pixels: Any = types.SimpleNamespace(
    shape=('images', *card.network.size, 3), dtype=np.dtype(np.uint8)
  )
  model = jax2onnx.to_onnx(
    functools.partial(channels_first.detect, card.network, detector.weights),
    [pixels],
    model_name=card.name,
    opset=_OPSET,
    input_names=['pixels'],
    output_names=['anomaly_map', 'score'],
  )
  model.metadata_props.add(key='detector', value=card.to_json())
  return model.SerializeToString()


def run_onnx(model: bytes) -> Runner:
  """Returns what an exported file computes, as its users would run it."""
  import onnxruntime

  providers = ['CPUExecutionProvider']
  session: Any = onnxruntime.InferenceSession(model, providers=providers)
  return lambda pixels: session.run(None, {'pixels': pixels})


# What makes each kind of model, `model.<kind>`, and what runs it.
FORMATS = {
  'stablehlo': (
    to_stablehlo,
    lambda model: jax.jit(jax.export.deserialize(bytearray(model)).call),
  ),
  'onnx': (to_onnx, run_onnx),
}


def export(
  detector: Detector, kind: str, folder: Path, overwrite: bool = False
) -> float:
  """Exports a detector in float32 and returns how far it is off, in `compare`.

  With `overwrite` what exports of other detectors left is removed.
  """
  build, runner = FORMATS[kind]
  card = json.dumps(json.loads(detector.card.to_json()), indent=2) + '\n'
  texts = {
    'detector.json': card.encode(),
    'preprocess.py': recipe(detector.card).encode(),
  }
  others = [
    path
    for name, text in texts.items()
    if (path := folder / name).exists() and path.read_bytes() != text
  ]
  for path in (folder / f'model.{kind}', *others):
    refuse_existing(path, overwrite)
  try:
    model = build(detector)
    difference = compare(detector, runner(model))
  except ImportError as error:  # Perhaps of a package that these need.
    told = f"{kind} needs more packages: pip install '.[onnx]' ({error})"
    raise ValueError(told) from error
  if not difference <= TOLERANCE:
    raise ValueError(
      f'the exported model differs from the detector by {difference:.1e} of '
      f'the range of scores, more than {TOLERANCE:.0e}; nothing is written'
    )
  if others:  # Another detector's models must not stay beside these texts.
    for other in FORMATS:
      (folder / f'model.{other}').unlink(missing_ok=True)
  for name, content in {f'model.{kind}': model, **texts}.items():
    with atomic_write(folder / name) as aside:
      aside.write_bytes(content)
  return difference


def compare(detector: Detector, run: Runner) -> float:
  """Returns the largest difference on noise, of the range of the maps."""
  shape = (3, *detector.size, 3)
  pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  pixels[1:] //= np.array([[4], [16]], np.uint8)[..., None, None]
  maps, scores = detector.infer(pixels)
  differences = [
    np.abs(np.asarray(found) - expected[rows]).max()
    for rows in (np.s_[:], np.s_[:1], np.s_[1:2], np.s_[2:])
    for found, expected in zip(run(pixels[rows]), (maps, scores), strict=True)
  ]
  # NumPy's maximum, unlike Python's, keeps what is not a number.
  return float(np.max(differences) / np.ptp(maps))


def recipe(card: Card) -> str:
  """Returns a Python file whose `preprocess` does what the detector does."""
  # Without the docstring, which speaks of the package.
  _, _, code = inspect.getsource(decoding).split('"""', 2)
  height, width = card.network.size
  return f'''"""From an image to the model's input, {height} x {width}."""{code}

BITS = {card.bits}  # That 16-bit gray images make use of.
SIZE = {height}, {width}  # Of the model's input, height and width.
RESIZE, CROP = {card.resize}, {card.crop}  # Without a crop all is resized.


{inspect.getsource(preprocess.preprocess)}'''
