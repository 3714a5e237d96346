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
from typing import Any, NamedTuple

import jax
import numpy as np

from simplenet_jax.data import decoding
from simplenet_jax.detection.card import Card
from simplenet_jax.detector import Detector
from simplenet_jax.files import atomic_write, refuse_existing
from simplenet_jax.models import channels_first, simplenet

TOLERANCE = 1e-4  # Of the range of scores.
PLATFORMS = ('cpu', 'cuda', 'tpu')  # Of StableHLO.
_OPSET = 21
_EXTRA = "ONNX needs more packages: pip install 'simplenet-jax[onnx]'"
_FOLDERS = 'jax_hlo_source_file_canonicalization_regex'

Runner = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def to_stablehlo(detector: Detector) -> bytes:
  """Returns a detector as a serialised `jax.export.Exported`.

  Its one function maps pixels uint8 `[images, *size, 3]`, any number of them,
  to anomaly maps `[images, *size]` and scores `[images]`, float32, on all of
  `PLATFORMS`.
  """
  structure = detector.card.network
  (images,) = jax.export.symbolic_shape('images')
  pixels = jax.ShapeDtypeStruct((images, *structure.size, 3), np.uint8)
  # Operations know the source files that they come from: by name alone.
  known = jax.config.values[_FOLDERS]
  jax.config.update(_FOLDERS, r'.*[/\\]')
  try:
    exported = jax.export.export(
      jax.jit(simplenet.plain(structure, detector.weights)), platforms=PLATFORMS
    )(pixels)
    return bytes(exported.serialize())
  finally:
    jax.config.update(_FOLDERS, known)


def run_stablehlo(model: bytes) -> Runner:
  """Returns what an exported file computes, as its users would run it."""
  return jax.jit(jax.export.deserialize(bytearray(model)).call)


def to_onnx(detector: Detector) -> bytes:
  """Returns a detector as an ONNX model, with its card as metadata.

  Its input `pixels` and outputs `anomaly_map` and `score` are those of
  `to_stablehlo`.
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
    opset=_OPSET,
    input_names=['pixels'],
    output_names=['anomaly_map', 'score'],
  )
  entry = model.metadata_props.add()
  entry.key = 'detector'
  entry.value = detector.card.portable().to_json()
  return model.SerializeToString()


def run_onnx(model: bytes) -> Runner:
  """Returns what an exported file computes, as its users would run it."""
  try:
    import onnxruntime
  except ImportError as error:
    raise ValueError(f'{_EXTRA} ({error})') from None
  session: Any = onnxruntime.InferenceSession(
    model, providers=['CPUExecutionProvider']
  )
  return lambda pixels: session.run(None, {'pixels': pixels})


class Format(NamedTuple):
  """A format: the model's file, what makes it and what runs it."""

  file: str
  build: Callable[[Detector], bytes]
  runner: Callable[[bytes], Runner]


FORMATS = {
  'stablehlo': Format('model.stablehlo', to_stablehlo, run_stablehlo),
  'onnx': Format('model.onnx', to_onnx, run_onnx),
}


def export(
  detector: Detector, kind: str, folder: Path, overwrite: bool = False
) -> float:
  """Exports a detector, if the result agrees with it.

  Args:
    detector: In float32.
    kind: A key of `FORMATS`.
    folder: Where the files go; it may hold the same detector in another format.
    overwrite: Whether what exports left in the folder may be replaced.

  Returns:
    The largest difference, as a share of the range of scores; above `TOLERANCE`
    that is a ValueError.
  """
  form = FORMATS[kind]
  texts = {
    'detector.json': describe(detector.card).encode(),
    'preprocess.py': recipe(detector.card).encode(),
  }
  refuse_existing(folder / form.file, overwrite)
  others = [
    folder / name
    for name, text in texts.items()
    if (folder / name).exists() and (folder / name).read_bytes() != text
  ]
  for path in others:
    refuse_existing(path, overwrite)
  model = form.build(detector)
  difference = compare(detector, form.runner(model))
  if not difference <= TOLERANCE:
    raise ValueError(
      f'the exported model differs from the detector by {difference:.1e} of '
      f'the range of scores, more than {TOLERANCE:.0e}; nothing is written'
    )
  if others:  # Another detector's models must not stay beside these texts.
    for other in FORMATS.values():
      (folder / other.file).unlink(missing_ok=True)
  for name, content in {form.file: model, **texts}.items():
    with atomic_write(folder / name) as aside:
      aside.write_bytes(content)
  return difference


def compare(detector: Detector, run: Runner) -> float:
  """Returns how far a model is off, as a share of the range of the maps.

  That is the largest difference over images of noise of several grains, alone
  and in company.
  """
  rng = np.random.default_rng(0)
  height, width = detector.size
  pixels = np.stack(
    [
      np.kron(
        rng.integers(0, 256, (-(-height // n), -(-width // n), 3), np.uint8),
        np.ones((n, n, 1), np.uint8),
      )[:height, :width]
      for n in (1, 8, max(height, width))
    ]
  )
  maps, scores = detector.infer(pixels)
  differences = [
    np.abs(np.asarray(found) - expected[rows]).max()
    for rows in (np.s_[:], np.s_[:1], np.s_[1:2], np.s_[2:])
    for found, expected in zip(run(pixels[rows]), (maps, scores), strict=True)
  ]
  # NumPy's maximum, unlike Python's, keeps what is not a number.
  return float(np.max(differences) / np.ptp(maps))


def describe(card: Card) -> str:
  """Returns the card as JSON without folders, for people and programs."""
  return json.dumps(json.loads(card.portable().to_json()), indent=2) + '\n'


def recipe(card: Card) -> str:
  """Returns a Python file that brings images to the model's input.

  Its function `preprocess` takes, refuses and does what the detector does.
  """
  height, width = card.network.size
  # Without the docstring, which speaks of the package.
  _, _, code = inspect.getsource(decoding).split('"""', 2)
  docstring = f'"""From an image to the model\'s input, {height} x {width}."""'
  return f'{docstring}{code}' + _PREPROCESS.format(
    bits=card.bits,
    height=height,
    width=width,
    resize=card.resize,
    crop=card.crop,
  )


# What `inputs.prepare` and `Frame` do, after the text of `data/decoding.py`.
_PREPROCESS = '''

BITS = {bits}  # That 16-bit gray images make use of.
SIZE = {height}, {width}  # Of the model's input.
RESIZE, CROP = {resize}, {crop}  # No crop: the whole image is resized.


def preprocess(image: Any, channels: str = 'rgb') -> np.ndarray:
  """Brings an image to the model's input, exactly as the detector does.

  Args:
    image: A path, a Pillow image, or an array as `from_array` takes it.
    channels: The order of its channels, 'rgb' or 'bgr' (OpenCV's arrays).

  Returns:
    uint8 `[1, {height}, {width}, 3]`.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If the image cannot be used.
  """
  if channels not in CHANNELS:
    raise ValueError(f"channels is {{channels!r}}, expected 'rgb' or 'bgr'")
  if isinstance(image, np.ndarray):
    rgb = from_array(image, BITS, channels)
  else:
    opened = isinstance(image, Image.Image)
    rgb = to_rgb(image, BITS) if opened else read(image, BITS)
    if channels == 'bgr':
      rgb = Image.merge('RGB', rgb.split()[::-1])
  short = min(rgb.size)
  if short < 1:
    raise ValueError('an image has no pixels')
  box = (0, 0, SIZE[1], SIZE[0])
  sides = box[2:]
  if CROP:
    sides = tuple(int(RESIZE * side / short) for side in rgb.size)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and sides[0] * sides[1] > limit:
      raise ValueError('an image is too elongated to be resized and cropped')
    left, top = (_start(side) for side in sides)
    box = (left, top, left + CROP, top + CROP)
  resized = rgb.resize(sides, Image.Resampling.BILINEAR)
  return np.array(resized.crop(box))[None]


def _start(side: int) -> int:
  if side < CROP:
    return -((CROP - side) // 2)
  return round((side - CROP) / 2)
'''
