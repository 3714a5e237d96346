"""A detector by its export: shown images as `simplenet_jax.Detector` is."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from absl import logging

from simplenet_jax.data import images
from simplenet_jax.data.frame import text
from simplenet_jax.detection import engines
from simplenet_jax.detection.card import Card
from simplenet_jax.detection.engines import Exported
from simplenet_jax.detection.thresholds import Prediction as Prediction
from simplenet_jax.files import naming, read_json

_CARD, _ROI = 'detector.json', 'roi.png'
_AGAIN = 'export the detector again'
# What runs each file of a model; the first that is there is taken.
_ENGINES = {
  'model.onnx': engines.load_onnx,
  'model.xml': engines.load_openvino,
}


class Detector(Exported):
  """Scores images of one category by an exported model.

  >>> detector = Detector.load('export/')
  >>> found = detector('part.png')
  >>> found
  <Prediction part.png: NOT OK 5.01 (limit 2.44), 1 region>
  >>> [region.box for region in found.regions]  # x, y, width, height
  [(812, 300, 96, 41)]
  """

  __slots__ = ()

  @classmethod
  def load(
    cls, path: str | Path, *, threads: int = 0, batch_size: int = 1
  ) -> Self:
    """Reads what `simplenet export` has left in a folder.

    The folder's model.onnx runs with ONNX Runtime, else its model.xml with
    OpenVINO; the path of one of them chooses it. `threads` compute, by default
    one for each core, at most `batch_size` images at a time; one is quickest on
    most processors. Warns of what was found wrong when the detector was
    trained. Raises an OSError or a ValueError that says what is wrong.
    """
    if threads < 0:
      raise ValueError(f'threads is {threads}, expected at least 0')
    path = _find(Path(path).expanduser())
    card, precision = _read_card(path.with_name(_CARD))
    for caution in card.cautions:
      logging.warning('%s: %s', path, caution)
    with _naming(path):
      model = _ENGINES[path.name](path, threads=threads)
    if model.shape[1:] != (*card.network.size, 3):
      raise ValueError(
        f'{path}: takes images of {text(model.shape[1:3])} pixels, '
        f'{_CARD} says {text(card.network.size)}; {_AGAIN}'
      )
    drawn = path.with_name(_ROI)
    roi = images.decode(drawn, np.asarray) > 0 if drawn.exists() else None
    if roi is not None and roi.shape != card.network.size:
      raise ValueError(f'{drawn}: is of another export; {_AGAIN}')
    found = cls(card, model, roi, precision, batch_size)
    with _naming(path):
      found.warm_up()  # What is no export may lack outputs.
    return found


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
  """Tells in one line why a model cannot be run."""
  try:
    yield
  except ModuleNotFoundError as error:
    told = f'{path}: needs {error.name}: pip install {error.name}'
    raise ImportError(told) from None
  except ImportError:  # The message says what a system lacks.
    raise
  except Exception as error:  # Engines have errors of their own.
    # OpenVINO's begin with where in its sources they come from.
    *_, why = (str(error).strip() or type(error).__name__).splitlines()
    told = f'{path}: cannot be run: {why}; {_AGAIN}'
    raise ValueError(told) from None


def _find(path: Path) -> Path:
  """Returns the path of the model that a folder, or a path, names."""
  names = ' or '.join(_ENGINES)
  hint = 'simplenet export --format=onnx or --format=openvino leaves one'
  if path.is_dir():
    for name in _ENGINES:
      if (path / name).is_file():
        return path / name
    raise FileNotFoundError(f'{path}: holds no {names}; {hint}')
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such export; {hint}')
  if path.name not in _ENGINES:
    raise ValueError(f'{path}: expected a folder of {names}; {hint}')
  return path


def _read_card(path: Path) -> tuple[Card, str]:
  """Returns an export's card, and the precision that its model computes in."""
  found = read_json(path, _AGAIN)
  known = {'format', *(one.name for one in dataclasses.fields(Card))}
  with naming(path, _AGAIN):
    # What else exports tell is for people.
    card = json.dumps({key: found[key] for key in found if key in known})
    precision = str(found.get('precision', 'float32'))
  try:
    return Card.from_json(card), precision
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
