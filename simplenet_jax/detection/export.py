"""A detector for programs without this package: model, card and preparation.

The model is StableHLO for programs with nothing but JAX, or ONNX, or OpenVINO's
IR. It is compared with the detector before it is written.
"""

import contextlib
import functools
import inspect
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from simplenet_jax.data import decoding, preprocess
from simplenet_jax.data.images import encoded
from simplenet_jax.detection import engines
from simplenet_jax.detection.file import Card
from simplenet_jax.detector import Detector
from simplenet_jax.files import atomic_write, refuse_existing
from simplenet_jax.models import simplenet

TOLERANCE = 1e-4  # Of the range of scores.
TEXTS = ('detector.json', 'preprocess.py', 'roi.png')
REPORTS = ('conversion.json', 'conversion.md', 'conversion.png')
PLATFORMS = ('cpu', 'cuda', 'tpu')  # Of StableHLO.
_FOLDERS = 'jax_hlo_source_file_canonicalization_regex'

# From pixels to maps, scores and what else a model puts out.
Runner = Callable[[np.ndarray], Sequence[np.ndarray]]
Files = dict[str, bytes]  # A model, by names of files.


def to_stablehlo(detector: Detector, images: int = 0) -> Files:
  """Returns a detector as a serialised `jax.export.Exported`.

  It maps pixels uint8 `[images, *size, 3]` to float32 anomaly maps `[images,
  *size]` and scores `[images]`: so many images, or any number with 0.
  """
  network = detector.card.network
  count: Any = images or jax.export.symbolic_shape('images')[0]
  pixels = jax.ShapeDtypeStruct((count, *network.size, 3), np.uint8)
  # Traced functions do not take NumPy's arrays everywhere.
  weights = simplenet.prepare(network, detector.weights)
  weights = jax.tree.map(jax.numpy.asarray, weights)
  run = jax.jit(functools.partial(simplenet.detect, network, weights))
  # Operations know the source files that they come from: by name alone.
  known = jax.config.values[_FOLDERS]
  jax.config.update(_FOLDERS, r'.*[/\\]')
  try:
    exported = jax.export.export(run, platforms=PLATFORMS)(pixels)
    return {'model.stablehlo': bytes(exported.serialize())}
  finally:
    jax.config.update(_FOLDERS, known)


def run_stablehlo(files: Files) -> Runner:
  """Returns what an exported model computes, as its users would run it."""
  return jax.jit(
    jax.export.deserialize(bytearray(files['model.stablehlo'])).call
  )


def to_onnx(detector: Detector, images: int = 0, plan: Any = None) -> Files:
  """Returns the same as an ONNX model, with verdicts, and the card in it."""
  from simplenet_jax.detection import onnx_graph, onnx_network

  card, weights = detector.card, detector.weights
  graph = onnx_network.build(card.network, weights, plan or onnx_graph.EXACT)
  onnx_graph.add_verdicts(graph, card.thresholds, weights.get('roi'))
  model = onnx_graph.to_model(card.network, graph, card.name, images)
  model.metadata_props.add(key='detector', value=card.to_json())
  return {'model.onnx': model.SerializeToString()}


def run_onnx(files: Files) -> Runner:
  """Returns what an exported model computes, as its users would run it."""
  return in_order(engines.load_onnx(files['model.onnx']))


def in_order(model: engines.Model) -> Runner:
  """Returns what gives a model's outputs without their names."""
  return lambda pixels: [*model.run(pixels).values()]


def to_openvino(detector: Detector, images: int = 0, plan: Any = None) -> Files:
  """Returns the ONNX model as OpenVINO's IR."""
  from simplenet_jax.detection import onnx_graph

  openvino, plan = engines.import_openvino(), plan or onnx_graph.EXACT
  made = to_onnx(detector, images, plan._replace(rows=False))
  model = engines.openvino_core().read_model(made['model.onnx'])
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, 'model.xml')
    # Its own compression would round the limits, too.
    openvino.save_model(model, path, compress_to_fp16=False)
    parts = path, path.with_suffix('.bin')
    return {part.name: part.read_bytes() for part in parts}


def run_openvino(files: Files) -> Runner:
  """Returns what an exported model computes, as its users would run it."""
  return in_order(engines.load_openvino(files['model.xml'], files['model.bin']))


class Format(NamedTuple):
  """A kind of model: how it is made and run, and what both need."""

  files: tuple[str, ...]
  build: Callable[..., Files]  # Of a detector, images and a plan.
  run: Callable[[Files], Runner]
  extra: str = ''


FORMATS = {
  'stablehlo': Format(('model.stablehlo',), to_stablehlo, run_stablehlo),
  'onnx': Format(('model.onnx',), to_onnx, run_onnx, 'onnx'),
  'openvino': Format(
    ('model.xml', 'model.bin'), to_openvino, run_openvino, 'edge'
  ),
}


def export(
  detector: Detector,
  kind: str,
  folder: Path,
  overwrite: bool = False,
  images: int = 0,
) -> float:
  """Exports a detector in float32 and returns how far it is off, in `compare`.

  With `overwrite` what exports of other detectors left is removed. The model
  takes so many `images` at a time; 0: any number.
  """
  made, beside = FORMATS[kind], texts(detector)
  alone = any(
    text != (path.read_bytes() if (path := folder / name).exists() else b'')
    for name, text in beside.items()
  )
  for name in every_name() if alone else made.files:
    refuse_existing(folder / name, overwrite)
  with needs_packages(kind):
    files = made.build(detector, images)
    difference = compare(detector, made.run(files), images)
  check_difference(difference, TOLERANCE)
  write(folder, files, beside, alone)
  return difference


def every_name() -> Iterator[str]:
  """Yields the names of all files that exports leave, the card's first."""
  models = itertools.chain(*(one.files for one in FORMATS.values()))
  return itertools.chain(TEXTS, REPORTS, models)


@contextlib.contextmanager
def needs_packages(kind: str) -> Iterator[None]:
  """Tells which packages a format needs, where one is missing."""
  try:
    yield
  except ImportError as error:  # Perhaps of a package that these need.
    told = f"{kind} needs more packages: pip install '.[{FORMATS[kind].extra}]'"
    raise ValueError(f'{told} ({error})') from error


def check_difference(difference: float, most: float) -> None:
  """Raises a ValueError where a model is off by more than it may be."""
  if not difference <= most:
    raise ValueError(
      f'the exported model differs from the detector by {difference:.1e} of '
      f'the range of scores, more than {most:.0e}; nothing is written'
    )


def texts(detector: Detector, precision: str = 'float32') -> Files:
  """Returns what lies beside a model, its card last."""
  card, roi = json.loads(detector.card.to_json()), detector.roi
  if precision != 'float32':
    card['precision'] = precision
  return {
    'preprocess.py': recipe(detector.card).encode(),
    # Where images are looked at; there is no such file if that is everywhere.
    'roi.png': b'' if roi is None else encoded(roi.astype(np.uint8) * 255),
    'detector.json': (json.dumps(card, indent=2) + '\n').encode(),
  }


def write(folder: Path, files: Files, beside: Files, alone: bool) -> None:
  """Writes a model and its texts; `alone`, without other models beside it.

  Whatever interrupts this, a card that is there is that of all models.
  """
  for name in every_name() if alone else ():
    (folder / name).unlink(missing_ok=True)
  for name, content in {**files, **beside}.items():
    if content:
      with atomic_write(folder / name) as aside:
        aside.write_bytes(content)


def compare(
  detector: Detector,
  run: Runner,
  images: int = 0,
  expected: Runner | None = None,
) -> float:
  """Returns the largest difference on noise, of the range of the maps.

  Maps and scores are compared with those `expected`, by default the detector's.
  It is infinite where verdicts do not fit the model's own maps and scores.
  """
  count = images or 3
  pixels = np.random.default_rng(0).integers(
    0, 256, (count, *detector.size, 3), np.uint8
  )
  pixels[1:] //= np.linspace(4, 16, count - 1, dtype=np.uint8)[
    :, None, None, None
  ]
  maps, scores, *_ = (expected or detector.infer)(pixels)
  some = [np.s_[:]] if images else [np.s_[:], np.s_[:1], np.s_[1:2], np.s_[2:]]
  differences = []
  for rows in some:
    found = [np.asarray(one) for one in run(pixels[rows])]
    pairs = zip(found, (maps[rows], scores[rows]), strict=False)
    differences += [np.abs(one - other).max() for one, other in pairs]
    if found[2:] and not _judges(detector, *found):
      return np.inf
  # NumPy's maximum, unlike Python's, keeps what is not a number.
  return float(np.max(differences) / np.ptp(maps))


def _judges(
  detector: Detector,
  maps: np.ndarray,
  scores: np.ndarray,
  anomalous: np.ndarray,
  mask: np.ndarray,
  *_: np.ndarray,
) -> bool:
  """Returns whether a model's verdicts are those of its maps and scores."""
  image, pixel = (
    np.inf if limit is None else limit
    for limit in (detector.threshold, detector.pixel_threshold)
  )
  inside = True if detector.roi is None else detector.roi
  beyond = (maps.astype(np.float64) > pixel) & inside
  same = (anomalous == (scores.astype(np.float64) > image)).all()
  return bool(same and (mask == beyond).all())


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
