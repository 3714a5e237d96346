"""Times each kernel that is not the plain one, alone, on a CPU.

  python -m benchmarks.kernels

Compared on one image, in turns, medians of 7: a detector with Winograd's tiles
and with XLA's convolutions. Writes results/kernels.json.
"""

import functools
import pathlib
import statistics

import jax
import numpy as np

from benchmarks import timing
from simplenet_jax import cli
from simplenet_jax.models import backbone, simplenet

LEVELS, DIM, SIZE, ROUNDS = (2, 3), 1536, (288, 288), 7


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
  calls = {}
  for kind, layout in (('winograd', 'winograd'), ('convolution', 'plain')):
    prepared = simplenet.prepare(network, weights, layout=layout)
    placed = jax.device_put(prepared)
    run = functools.partial(simplenet.run, network, placed, pixels)
    calls[kind] = lambda run=run: jax.block_until_ready(run())
  seconds = timing.in_turns(calls, ROUNDS).items()
  return {kind: round(1e3 * statistics.median(s), 1) for kind, s in seconds}


def main() -> None:
  """Measures and writes."""
  cpu = pathlib.Path('/proc/cpuinfo').read_text()
  found = {
    'avx512': 'avx512f' in cpu,
    'milliseconds': {name: measure(name) for name in ('resnet18', 'resnet50')},
  }
  timing.write('kernels', found)


if __name__ == '__main__':
  cli.run(main)
