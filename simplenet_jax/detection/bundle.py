"""An exported detector: the model, its description and a recipe for images."""

import inspect
import json
from pathlib import Path
from types import ModuleType

import numpy as np

from simplenet_jax.data import decoding
from simplenet_jax.detection import onnx, stablehlo
from simplenet_jax.detection.card import Card
from simplenet_jax.detection.stablehlo import Runner
from simplenet_jax.detector import Detector
from simplenet_jax.files import refuse_existing, written_aside

FORMATS: dict[str, ModuleType] = {'stablehlo': stablehlo, 'onnx': onnx}
TOLERANCE = 1e-4  # Of the range of scores.

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
    The largest difference, as a share of the range of scores.

  Raises:
    ValueError: If results differ by more than `TOLERANCE`, packages are
      missing, or the folder holds an export that must stay.
  """
  form = FORMATS[kind]
  texts = {
    'detector.json': describe(detector.card).encode(),
    'preprocess.py': recipe(detector.card).encode(),
  }
  refuse_existing(folder / form.FILE, overwrite)
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
      (folder / other.FILE).unlink(missing_ok=True)
  for name, content in {form.FILE: model, **texts}.items():
    with written_aside(folder / name) as aside:
      aside.write_bytes(content)
  return difference


def compare(detector: Detector, run: Runner) -> float:
  """Returns how far an exported model's maps and scores are off.

  Args:
    detector: It.
    run: The model.

  Returns:
    The largest difference as a share of the range of the maps; over images of
    noise of several grains, alone and in company.
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
  found = [run(pixels), *(run(one[None]) for one in pixels)]
  expected = [
    (maps, scores),
    *((maps[i : i + 1], scores[i : i + 1]) for i in range(len(pixels))),
  ]
  differences = [
    np.abs(a - b).max()
    for pair, truth in zip(found, expected, strict=True)
    for a, b in zip(pair, truth, strict=True)
  ]
  # NumPy's maximum, unlike Python's, keeps what is not a number.
  return float(np.max(differences) / np.ptp(maps))


def describe(card: Card) -> str:
  """Returns the card as JSON for people and programs.

  It names no folder of the machine on which the detector was made.
  """
  return json.dumps(json.loads(card.portable().to_json()), indent=2) + '\n'


def recipe(card: Card) -> str:
  """Returns a Python file that brings images to the model's input.

  Its function `preprocess` takes, refuses and does what the detector does.
  """
  height, width = card.network.size
  # Without the docstring, which speaks of the package.
  _, _, code = inspect.getsource(decoding).split('"""', 2)
  docstring = f'"""From an image to the model\'s input, {height} x {width}."""'
  return (
    docstring
    + code
    + _PREPROCESS.format(
      bits=card.bits,
      height=height,
      width=width,
      resize=card.resize,
      crop=card.crop,
    )
  )
