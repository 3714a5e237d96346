"""Times prediction against PyTorch, in one run on the same machine and work.

  python -m benchmarks.predict
  # On a GPU:
  python -m benchmarks.predict --precision=bfloat16 --rounds=30 \
    --batches=1,16,64

Compared are (a) the released code's prediction in PyTorch; (b) a lean PyTorch,
compiled, channels last; (c) this project, with one head and with five; (d) its
export to ONNX, where ONNX Runtime is installed and there is no GPU. Latency of
one image and throughput of batches, from uint8 pixels on the host to maps and
scores on the host, and on the device alone. Weights and pixels are random:
times do not depend on them. Compilation is left out and told apart. Writes
benchmarks/results/predict.json (predict_gpu.json on a GPU); takes about ten
minutes on two CPU cores.
"""

import functools
import importlib.util
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import timing
from simplenet_jax import cli
from simplenet_jax.detection.card import Card
from simplenet_jax.detection.thresholds import NONE
from simplenet_jax.detector import Detector
from simplenet_jax.models import folded_resnet, simplenet
from simplenet_jax.models.precision import PRECISIONS

_BACKBONE = flags.DEFINE_string('backbone', 'wide_resnet50_2', 'Which ResNet.')
_PRECISION = flags.DEFINE_enum(
  'precision', 'float32', list(PRECISIONS), 'Of lean and ours.'
)
_BATCHES = flags.DEFINE_list(
  'batches', ['1', '16'], 'Sizes of a batch; for GPUs add 64.'
)
_ROUNDS = flags.DEFINE_integer(
  'rounds', 3, 'Of each size; at least 20 of single images.', 1
)
_SIDE = flags.DEFINE_integer('side', 288, 'Of an image, in pixels.', 32)
_ENSEMBLE = 5


def make_detector(heads: int) -> Detector:
  """Returns a detector with random weights, borders as the released code's."""
  rng = np.random.default_rng(0)
  levels, side = (2, 3), _SIDE.value

  def random(*shape, scale=1.0):
    return rng.normal(size=shape, scale=scale).astype(np.float32)

  weights = {
    'head.first.kernel': random(1536, 1024 * heads, scale=0.03),
    'head.first.bias': random(1024 * heads),
    'head.tail': random(1024 * heads, scale=0.03),
  }
  for name, _, shape in folded_resnet.layers(_BACKBONE.value, levels):
    scale = float(np.prod(shape[:3])) ** -0.5
    weights[f'{name}.kernel'] = random(*shape, scale=scale)
    weights[f'{name}.bias'] = np.zeros(shape[-1], np.float32)
  structure = simplenet.Network(
    architecture=_BACKBONE.value,
    levels=levels,
    padding='reflect',
    patch_size=3,
    pretrain_dim=1536,
    target_dim=1536,
    size=(side, side),
    smoothing=4.0,
  )
  card = Card('random', structure, heads, side, 0, 16, 0.5, NONE, {})
  return Detector(card, weights, precision=_PRECISION.value)


def on_device(detector: Detector, pixels: np.ndarray) -> Callable[[], object]:
  """Returns a call that leaves pixels and results on the device."""
  placed = [jax.device_put(part) for part in detector.parts(pixels)]

  def run():
    jax.block_until_ready([detector.start(part) for part in placed])

  return run


def flops(detector: Detector) -> float:
  """Returns the operations of an image as the method needs them, folded."""
  side, total, spec = _SIDE.value, 0, detector.card.network
  grid = [-(-side // 2 ** (level + 1)) for level in range(4)]
  for name, stride, shape in folded_resnet.layers(
    spec.architecture, spec.levels
  ):
    level = int(name[5]) if name.startswith('layer') else 0
    # A block's first convolution still has the level before's resolution.
    first = name.endswith('.0.conv1') and level > 1
    out = grid[level - 1 if first and stride == 1 else level]
    total += 2 * out**2 * int(np.prod(shape))
  for level, pooling in zip(spec.levels, spec.pooling, strict=True):
    columns = detector.weights['head.first.kernel'].shape[1]
    rows = pooling.stop - pooling.start
    total += 2 * grid[level] ** 2 * rows * columns
  return float(total)


def matmul_peak() -> float:
  """Returns the measured operations a second of a large matrix product."""
  on_cpu = jax.default_backend() == 'cpu'
  size = 2048 if on_cpu else 8192
  dtype = jnp.bfloat16 if _PRECISION.value == 'bfloat16' else jnp.float32
  x = jnp.ones((size, size), dtype)
  multiply = jax.jit(
    functools.partial(
      jnp.matmul, precision=simplenet.convolution.PRECISION[_PRECISION.value]
    )
  )
  seconds = timing.in_turns(
    {'matmul': lambda: jax.block_until_ready(multiply(x, x))}, 10
  )
  return 2 * size**3 / seconds['matmul']


def contenders(device: str, pixels: np.ndarray) -> dict[str, dict[str, Any]]:
  """Returns what is compared, by kind: calls without arguments."""
  import torch

  from benchmarks import torch_predict

  name, side = _BACKBONE.value, _SIDE.value
  dtype = torch.bfloat16 if _PRECISION.value == 'bfloat16' else torch.float32
  released = torch_predict.Released(name, side).to(device)
  lean = torch_predict.Compiled(name, side, device, dtype)
  ours, ensemble = make_detector(1), make_detector(_ENSEMBLE)
  host: dict[str, Any] = {
    'released PyTorch': released.predict,
    'lean PyTorch': lean.predict,
    'ours': ours.infer,
    f'ours, ensemble of {_ENSEMBLE}': ensemble.infer,
  }
  if device == 'cpu' and importlib.util.find_spec('jax2onnx'):
    from simplenet_jax.detection import onnx

    host['ours, ONNX Runtime'] = onnx.runner(onnx.build(ours))
  placed = torch.from_numpy(pixels).to(device)
  return {
    'host to host': {
      key: functools.partial(function, pixels) for key, function in host.items()
    },
    'on the device': {
      'lean PyTorch': functools.partial(lean.on_device, placed),
      'ours': on_device(ours, pixels),
      f'ours, ensemble of {_ENSEMBLE}': on_device(ensemble, pixels),
    },
  }


def measure(functions: dict[str, Any], batch: int, rounds: int) -> dict:
  """Times calls in turns."""
  first = {}
  for name, function in functions.items():
    start = time.perf_counter()
    function()
    first[name] = time.perf_counter() - start
  times = timing.all_in_turns(functions, rounds)
  medians = {name: statistics.median(each) for name, each in times.items()}
  return {
    'milliseconds_median': {n: 1e3 * value for n, value in medians.items()},
    'milliseconds_p95': {
      name: 1e3 * float(np.quantile(each, 0.95)) for name, each in times.items()
    },
    'images_per_second': {n: batch / value for n, value in medians.items()},
    'over_ours': {n: value / medians['ours'] for n, value in medians.items()},
    'seconds_of_the_first_call': first,
  }


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  import torch

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  if (device == 'cpu') != (jax.default_backend() == 'cpu'):
    raise ValueError(
      f'PyTorch would run on {device} but JAX on {jax.default_backend()}; '
      'install both for the same'
    )
  torch.set_num_threads(os.cpu_count() or 1)
  # The released path is float32 always; on GPUs TensorFloat-32 where reduced.
  reduced = _PRECISION.value != 'float32'
  torch.set_float32_matmul_precision('high' if reduced else 'highest')
  torch.backends.cudnn.allow_tf32 = reduced
  side, rng = _SIDE.value, np.random.default_rng(0)
  result = {}
  for size in map(int, _BATCHES.value):
    torch.compiler.reset()
    pixels = rng.integers(0, 256, (size, side, side, 3), np.uint8)
    rounds = max(_ROUNDS.value, 20 if size == 1 else 1)
    result[f'batch {size}'] = {
      kind: measure(functions, size, rounds)
      for kind, functions in contenders(device, pixels).items()
    }
  needed, peak = flops(make_detector(1)), matmul_peak()
  best = max(
    one['on the device']['images_per_second']['ours'] for one in result.values()
  )
  stats = jax.devices()[0].memory_stats() or {}
  timing.write(
    'predict' if device == 'cpu' else 'predict_gpu',
    {
      'what': 'prediction: the released path and a lean one in PyTorch, and '
      'ours; medians, in turns',
      'backbone': _BACKBONE.value,
      'side': side,
      'precision': _PRECISION.value,
      'rounds': _ROUNDS.value,
      'torch': torch.__version__,
      'gflop_of_an_image': needed / 1e9,
      'matmul_peak_tflops': peak / 1e12,
      # As folded; tiles of 3x3 convolutions take fewer on CPUs.
      'needed_operations_over_the_peak': best * needed / peak,
      'memory_gb': {
        'peak of the process': resource.getrusage(
          resource.RUSAGE_SELF
        ).ru_maxrss
        / 1e6,
        'peak on the device': stats.get('peak_bytes_in_use', 0) / 1e9,
      },
      **result,
    },
  )


if __name__ == '__main__':
  cli.run(main)
