"""An exported detector: the model, its description and a recipe for images."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np

from simplenet_jax.detector import Detector
from simplenet_jax.exporting import onnx, stablehlo
from simplenet_jax.exporting.stablehlo import Runner
from simplenet_jax.files import written_aside
from simplenet_jax.inference.card import Card

FORMATS: dict[str, ModuleType] = {'stablehlo': stablehlo, 'onnx': onnx}
TOLERANCE = 1e-4  # Of the range of scores.

_HEAD = '''"""From an image file to the model's input, {shape}."""
import numpy as np
from PIL import Image

def preprocess(path):
  image = Image.open(path)
  if image.mode.startswith('I'):  # 16 bit
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() >= 2**{bits}:
      raise ValueError(f'{{path}}: pixels beyond {bits} bits')
    image = Image.fromarray((pixels >> {shift}).astype(np.uint8))
  image = image.convert('RGB')
'''
_WHOLE = """  image = image.resize({sides}, Image.Resampling.BILINEAR)
  return np.asarray(image)[None]
"""
_CROPPED = """  short, sides = min(image.size), image.size
  sides = [int({resize} * side / short) for side in sides]
  image = image.resize(sides, Image.Resampling.BILINEAR)
  x, y = ({start} for s in sides)
  return np.asarray(image.crop((x, y, x + {crop}, y + {crop})))[None]
"""


def export(detector: Detector, kind: str, folder: Path) -> float:
  """Exports a detector, if the result agrees with it.

  Args:
    detector: In float32.
    kind: A key of `FORMATS`.
    folder: Where the files go.

  Returns:
    The largest difference, as a share of the range of scores.

  Raises:
    ValueError: If results differ by more than `TOLERANCE`, packages are
      missing, or the folder holds another detector's export.
  """
  form, text = FORMATS[kind], describe(detector.card)
  if (known := folder / 'detector.json').exists() and (
    known.read_text(encoding='utf-8') != text
  ):
    raise ValueError(
      f'{folder} holds the export of another detector; give another --output'
    )
  model = form.build(detector)
  difference = compare(detector, form.runner(model))
  if not difference <= TOLERANCE:
    raise ValueError(
      f'the exported model differs from the detector by {difference:.1e} of '
      f'the range of scores, more than {TOLERANCE:.0e}; nothing is written'
    )
  for name, content in (
    (form.FILE, model),
    ('detector.json', text.encode()),
    ('preprocess.py', recipe(detector.card).encode()),
  ):
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
  """Returns the card as JSON for people and programs."""
  return json.dumps(json.loads(card.to_json()), indent=2) + '\n'


def recipe(card: Card) -> str:
  """Returns a Python file that brings images to the model's input.

  Its function does with Pillow what `Detector.predict` does.
  """
  height, width = card.network.size
  text = _HEAD + (_CROPPED if card.crop else _WHOLE)
  crop = card.crop
  start = f'-(({crop} - s) // 2) if s < {crop} else round((s - {crop}) / 2)'
  return text.format(
    shape=f'uint8 [1, {height}, {width}, 3]',
    sides=(width, height),
    bits=card.bits,
    shift=card.bits - 8,
    resize=card.resize,
    crop=crop,
    start=start,
  )
