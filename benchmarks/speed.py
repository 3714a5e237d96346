"""How long one image takes, by backbone, runtime and precision; and elsewhere.

  python -m benchmarks.speed

From uint8 pixels on the host to maps and scores, all cores, one image at a
time, every model in turns: this project in JAX, ONNX Runtime and OpenVINO, and
SuperSimpleNet, EfficientAD-S and STFPM by anomalib's own classes in OpenVINO,
where the extra [peers] is there. Weights are random and none is worth
anything, which times do not depend on; in int8 every layer that can be is.
Writes benchmarks/results/speed.json and the table of docs/speed.md.
"""

import importlib.metadata
import importlib.util
import json
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import flags

from benchmarks import peers, random_data, timing
from simplenet_jax import cli, environment, train
from simplenet_jax.config import Config, from_protocol
from simplenet_jax.detection import (
  engines,
  export,
  onnx_graph,
  onnx_network,
  rounding,
)
from simplenet_jax.detector import Detector
from simplenet_jax.models.weights import files as weights

_ROUNDS = flags.DEFINE_integer('rounds', 15, 'Turns of every model.', 3)
_ONLY = flags.DEFINE_multi_string('only', [], 'Some models alone.')
_PAGE = pathlib.Path('docs/speed.md')

# Backbone, protocol, and the side of an image in pixels.
OURS = (
  ('efficientnet_lite0', 'combined', 256),
  ('resnet18', 'combined', 256),
  ('resnet18', 'reference', 256),
  ('wide_resnet50_2', 'reference', 288),
)
KINDS = ('JAX float32', 'ONNX Runtime float32', 'ONNX Runtime int8')
KINDS += ('OpenVINO float32', 'OpenVINO int8')

Calls = dict[str, Callable[[], object]]  # By kind.


def _config(
  folder: pathlib.Path, backbone: str, protocol: str, side: int
) -> Config:
  """Returns settings that train for a moment on a few random images."""
  in_the_box = backbone == weights.IN_THE_BOX
  random = random_data.make_config(
    folder,
    {'part': (8, 1, 1)},
    'resnet18' if in_the_box else backbone,
    'float32',
    side,
  )
  config = from_protocol(protocol)
  config.data, config.backbone.name = random.data, backbone
  config.backbone.weights = '' if in_the_box else random.backbone.weights
  config.engine.tensorboard, config.evaluation.pictures = False, 0
  config.seeds, config.train.folds, config.train.pasted = (0,), False, 0
  config.train.epochs = config.evaluation.every = config.train.min_steps = 1
  return config


def models(folder: pathlib.Path, of: tuple[str, str, int]) -> Calls:
  """Trains a detector for a moment; returns what judges one image, by kind."""
  train.train_and_evaluate(_config(folder, *of), folder / 'run')
  [path] = (folder / 'run/detectors').glob('*.safetensors')
  detector = Detector.load(path)
  pixels = np.random.default_rng(0).integers(
    0, 256, (1, *detector.size, 3), np.uint8
  )
  found: Calls = {'JAX float32': lambda: detector.infer(pixels)}
  graph = onnx_network.build(detector.card.network, detector.weights)
  layers = frozenset(graph.work)
  for name, kind, load in (
    ('ONNX Runtime', 'onnx', _load_onnx),
    ('OpenVINO', 'openvino', _load_openvino),
  ):
    rows = kind == 'onnx'
    plan = onnx_graph.Plan(rows)
    ranges = rounding.ranges(detector, rows, [pixels[0]])
    for told, one in (
      ('float32', plan),
      ('int8', plan._replace(ranges=ranges, layers=layers)),
    ):
      model = load(export.FORMATS[kind].build(detector, 1, one))
      found[f'{name} {told}'] = lambda model=model: model.run(pixels)
  return found


def _load_onnx(files: export.Files) -> engines.Model:
  return engines.load_onnx(files['model.onnx'])


def _load_openvino(files: export.Files) -> engines.Model:
  return engines.load_openvino(files['model.xml'], files['model.bin'])


def every(folder: pathlib.Path) -> Iterator[tuple[str, Calls]]:
  """Yields what is timed: a model's name, and its calls by kind."""
  for of in OURS:
    name = '{}, {}, {}'.format(*of)
    if not _ONLY.value or name in _ONLY.value:
      yield name, models(folder / name, of)
  for name, make in peers.MODELS.items():
    if importlib.util.find_spec('anomalib') and not _ONLY.value:
      yield name, make()


def main() -> None:
  """Runs the benchmark and writes its result."""
  with tempfile.TemporaryDirectory() as folder:
    calls = {
      f'{name}: {kind}': call
      for name, kinds in every(pathlib.Path(folder))
      for kind, call in kinds.items()
    }
    seconds = timing.in_turns(calls, _ROUNDS.value)
  found: dict[str, Any] = {}
  for told, each in seconds.items():
    name, kind = told.split(': ')
    found.setdefault(name, {})[kind] = 1e3 * statistics.median(each)
  packages = ('anomalib', 'nncf', 'onnxruntime', 'openvino', 'torch')
  result = {
    'what': 'milliseconds for one image, the median of turns; random weights',
    'rounds': _ROUNDS.value,
    'instructions': timing.instructions(),
    'packages': {
      name: importlib.metadata.version(name)
      for name in packages
      if importlib.util.find_spec(name)
    },
    'milliseconds': found,
  }
  timing.write('speed', result)
  if not _ONLY.value:
    _PAGE.write_text(page(result))


def page(result: Any) -> str:
  """Returns the table as a page in Markdown."""
  found, device = result['milliseconds'], environment.device()
  told = ', '.join(f'{n} {v}' for n, v in result['packages'].items())
  lines = [
    '# Milliseconds for one image',
    '',
    f'`python -m benchmarks.speed`, {device["cores"]} cores, {device["host"]}',
    f'({result["instructions"]}), {result["rounds"]} turns, medians; {told}.',
    "Pixels lie in memory before, maps and scores after. The other projects'",
    "models are anomalib's classes with random weights; they take 256 x 256",
    'pixels that are normalised already, ours bytes. In int8 all layers that',
    'can be are rounded: `simplenet export --precision=int8` keeps some in',
    'float32 where verdicts need it, and its report tells the time of that',
    'model.',
    '',
    f'| model | {" | ".join(KINDS)} | images a second at best |',
    f'| --- |{" ---: |" * (len(KINDS) + 1)}',
  ]
  for name, kinds in found.items():
    cells = [f'{kinds[one]:.1f}' if one in kinds else '-' for one in KINDS]
    rate = 1e3 / min(kinds.values())
    lines.append(f'| {name} | {" | ".join(cells)} | {rate:.0f} |')
  name, kinds = next(iter(found.items()))  # The default detector.
  best = [
    min((x for x in kinds if precision in x), key=lambda x: kinds[x])
    for precision in ('float32', 'int8')
  ]
  text = (timing.RESULTS / 'kernels.json').read_text()
  all_of_it = json.loads(text)
  times = all_of_it['milliseconds']['resnet18']
  older = all_of_it['milliseconds_by_avx2']['resnet18']
  lines += [
    '',
    f'The quickest of `{name}` are {best[0]} ({kinds[best[0]]:.1f} ms) and',
    f'{best[1]} ({kinds[best[1]]:.1f} ms): `simplenet export` with `--format='
    'onnx` for ONNX Runtime,',
    'with `--format=openvino` for OpenVINO, and `--precision=int8` for int8.',
    '',
    'On CPUs JAX convolves 3 x 3 pixels in tiles (Winograd) where the stride',
    'is 1 and there are 16 channels or more. That rule is fixed, and was found',
    'by measurement: with `resnet18` at 288 pixels an image takes',
    f'{times["winograd"]:.0f} ms so and {times["convolution"]:.0f} ms by '
    "XLA's convolutions, in turns on one machine;",
    f'with no instructions newer than AVX2 {older["winograd"]:.0f} and '
    f'{older["convolution"]:.0f} ms',
    '(`python -m benchmarks.kernels`, [results](../benchmarks/results/'
    'kernels.json)).',
  ]
  return '\n'.join([*lines, ''])


if __name__ == '__main__':
  cli.run(main)
