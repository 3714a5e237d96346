"""Times prediction against PyTorch, in one run on the same machine and work.

  python -m benchmarks.predict
  # On a GPU:
  python -m benchmarks.predict --precision=bfloat16 --rounds=30 \
    --batches=1,16,64

Compared are (a) the released code's prediction in PyTorch; (b) a lean PyTorch,
compiled, channels last; (c) this project, with one head and with five; (d) its
export to ONNX, where ONNX Runtime is installed and there is no GPU. Latency of
one image and throughput of batches, from uint8 pixels on the host to maps and
scores on the host. Compilation is left out. Writes
benchmarks/results/predict.json (predict_gpu.json on a GPU).
"""

import functools
import importlib.util
import pathlib
import statistics
import tempfile
from typing import Any

import numpy as np
from absl import flags

from benchmarks import random_data, timing
from simplenet_jax import cli, train
from simplenet_jax.detection import export
from simplenet_jax.detector import Detector

_BACKBONE = flags.DEFINE_string('backbone', 'wide_resnet50_2', 'Which ResNet.')
_PRECISION = timing.define_precision('Of lean and ours.')
_BATCHES = flags.DEFINE_list('batches', ['1', '16'], 'Sizes; for GPUs add 64.')
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'At least 20 of single images.', 1)
_SIDE = flags.DEFINE_integer('side', 288, 'Of an image, in pixels.', 32)
_ENSEMBLE = 5


def detectors(folder: pathlib.Path) -> dict[int, pathlib.Path]:
  """Trains on a few random images; returns detectors by their heads."""
  config = random_data.make_config(
    folder, {'part': (8, 1, 1)}, _BACKBONE.value, 'float32', _SIDE.value
  )
  config.train.epochs = config.evaluation.every = 1
  made = {}
  for heads in (1, _ENSEMBLE):
    config.seeds = tuple(range(heads))
    train.train_and_evaluate(config, folder / f'run{heads}')
    [made[heads]] = (folder / f'run{heads}/detectors').glob('*.safetensors')
  return made


def measure(functions: dict[str, Any], batch: int, rounds: int) -> dict:
  """Times calls in turns."""
  times = timing.in_turns(functions, rounds)
  medians = {name: statistics.median(each) for name, each in times.items()}
  slow = {name: np.quantile(each, 0.95) for name, each in times.items()}
  return {
    'milliseconds_median': {n: 1e3 * value for n, value in medians.items()},
    'milliseconds_p95': {n: 1e3 * float(value) for n, value in slow.items()},
    'images_per_second': {n: batch / value for n, value in medians.items()},
    'over_ours': {n: value / medians['ours'] for n, value in medians.items()},
  }


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  import torch

  from benchmarks import torch_simplenet

  device = timing.torch_device(_PRECISION.value)
  name, side, precision = _BACKBONE.value, _SIDE.value, _PRECISION.value
  dtype = torch.bfloat16 if precision == 'bfloat16' else torch.float32
  rng, found = np.random.default_rng(0), {}
  with tempfile.TemporaryDirectory() as folder:
    made = detectors(pathlib.Path(folder))
    one, five = (Detector.load(p, precision=precision) for p in made.values())
    released = torch_simplenet.Released(name, side).to(device)
    functions: dict[str, Any] = {
      'released PyTorch': released.predict,
      'ours': one.infer,
      f'ours, ensemble of {_ENSEMBLE}': five.infer,
    }
    if device == 'cpu' and importlib.util.find_spec('onnx'):
      functions['ours, ONNX Runtime'] = export.run_onnx(export.to_onnx(one))
    for size in map(int, _BATCHES.value):
      # Compiled anew for each size of a batch.
      torch.compiler.reset()
      lean = torch_simplenet.compiled(name, side, device, dtype)
      pixels = rng.integers(0, 256, (size, side, side, 3), np.uint8)
      calls = {
        kind: functools.partial(function, pixels)
        for kind, function in {**functions, 'lean PyTorch': lean}.items()
      }
      rounds = max(_ROUNDS.value, 20 if size == 1 else 1)
      found[f'batch {size}'] = {'host to host': measure(calls, size, rounds)}
  timing.write(
    'predict' if device == 'cpu' else 'predict_gpu',
    {
      'what': 'prediction: the released path and a lean one in PyTorch, and '
      'ours; medians, in turns',
      'backbone': name,
      'side': side,
      'precision': precision,
      'rounds': _ROUNDS.value,
      **found,
    },
  )


if __name__ == '__main__':
  cli.run(main)
