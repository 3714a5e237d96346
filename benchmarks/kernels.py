"""Times each kernel that is not the plain one, alone, on a CPU.

  python -m benchmarks.kernels

Milliseconds of an image, all in turns, medians of 7: by a detector with
Winograd's tiles, by one with XLA's convolutions, and by what makes the features
of 8 and 16 images that heads train on; once more without what is newer than
AVX2. Writes results/kernels.json.
"""

import functools
import json
import os
import statistics
import subprocess
import sys

import jax
import numpy as np
from absl import flags

from benchmarks import timing
from simplenet_jax import cli
from simplenet_jax.config import from_protocol
from simplenet_jax.models import backbone, simplenet
from simplenet_jax.training import bank

LEVELS, DIM, SIZE, ROUNDS = (2, 3), 1536, (288, 288), 7
_ALONE = flags.DEFINE_bool('alone', False, 'Whether to measure and print only.')
BACKBONES = 'resnet18', 'resnet50', 'wide_resnet50_2'


def make(name: str) -> tuple[simplenet.Network, dict[str, np.ndarray]]:
  """Returns a structure and random weights."""
  rng = np.random.default_rng(0)
  weights = {
    'head.first.kernel': rng.normal(0, 0.03, (DIM, 1024)).astype('f'),
    'head.first.bias': rng.normal(0, 1, 1024).astype('f'),
    'head.tail': rng.normal(0, 0.03, 1024).astype('f'),
  }
  for layer, _, shape in backbone.ARCHITECTURES[name].layers(LEVELS):
    scale = float(np.prod(shape[:3])) ** -0.5
    weights[f'{layer}.kernel'] = rng.normal(0, scale, shape).astype('f')
    weights[f'{layer}.bias'] = np.zeros(shape[-1], np.float32)
  network = simplenet.Network(name, LEVELS, 'reflect', 3, DIM, DIM, SIZE, 4)
  return network, weights


def measure(name: str) -> dict[str, float]:
  """Returns milliseconds by kernel."""
  network, weights = make(name)
  pixels = np.full((1, *SIZE, 3), 99, np.uint8)
  calls, images = {}, {}
  for kind, layout in (('winograd', 'winograd'), ('convolution', 'plain')):
    prepared = simplenet.prepare(network, weights, layout=layout)
    placed = jax.device_put(prepared)
    run = functools.partial(simplenet.run, network, placed, pixels)
    calls[kind] = lambda run=run: jax.block_until_ready(run())
  config = from_protocol()
  config.backbone.name = name
  features = bank.Extraction.of(config)
  placed = bank.on_device(features, weights, jax.devices()[0])
  for count in (8, 16):
    batch = np.repeat(pixels, count, axis=0)
    run = functools.partial(bank.extract, features, placed, batch)
    kind = f'features of {count}'
    calls[kind] = lambda run=run: jax.block_until_ready(run())
    images[kind] = count
  return {
    kind: round(1e3 * statistics.median(seconds) / images.get(kind, 1), 1)
    for kind, seconds in timing.in_turns(calls, ROUNDS).items()
  }


def main() -> None:
  """Measures and writes, with all instructions and with AVX2 alone."""
  measured = {name: measure(name) for name in BACKBONES}
  if _ALONE.value:
    print(json.dumps(measured))
    return
  limited = {
    'XLA_FLAGS': '--xla_cpu_max_isa=AVX2',
    'ONEDNN_MAX_CPU_ISA': 'AVX2',
  }
  done = subprocess.run(
    [sys.executable, '-m', 'benchmarks.kernels', '--alone'],
    **{'check': True, 'text': True, 'env': os.environ | limited},
    stdout=subprocess.PIPE,
  )
  found = {
    'instructions': timing.instructions(),
    'milliseconds': measured,
    'milliseconds_by_avx2': json.loads(done.stdout.splitlines()[-1]),
  }
  timing.write('kernels', found)


if __name__ == '__main__':
  cli.run(main)
