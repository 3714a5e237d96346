"""How benchmarks measure and what they leave."""

import datetime
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from absl import flags

from simplenet_jax import environment
from simplenet_jax.evaluation import results
from simplenet_jax.fields import PRECISIONS

flags.disclaim_key_flags()  # They belong to the benchmark that defines them.

# Elsewhere where a benchmark is only tried.
RESULTS = pathlib.Path(
  os.environ.get('BENCHMARK_RESULTS')
  or pathlib.Path(__file__).parent / 'results'
)


def in_turns(
  functions: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
  """Returns each function's seconds; turns share the machine's moods.

  Each is called once before, and returns when its work is done.
  """
  seconds = {name: [] for name in functions}
  for function in functions.values():
    function()
  for _ in range(rounds):
    for name, function in functions.items():
      seconds[name].append(seconds_of(function))
  return seconds


def define_precision(of: str) -> flags.FlagHolder[str]:
  """Defines --precision."""
  return flags.DEFINE_enum('precision', 'float32', PRECISIONS, of)


def seconds_of(function: Callable[..., object], *arguments: object) -> float:
  """Returns the seconds that a call takes."""
  start = time.perf_counter()
  function(*arguments)
  return time.perf_counter() - start


def torch_device(precision: str) -> str:
  """Has PyTorch use all cores and a precision; returns where it runs."""
  import torch

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  if (device == 'cpu') != (jax.default_backend() == 'cpu'):
    raise ValueError(
      f'PyTorch would run on {device} but JAX on {jax.default_backend()}; '
      'install both for the same'
    )
  torch.set_num_threads(os.cpu_count() or 1)
  # The released path is float32 always; on GPUs TensorFloat-32 where reduced.
  reduced = precision != 'float32'
  torch.set_float32_matmul_precision('high' if reduced else 'highest')
  torch.backends.cudnn.allow_tf32 = reduced
  return device


def write(name: str, result: Mapping[str, Any]) -> None:
  """Prints a result and writes it to `results/<name>.json`, machine named."""
  whole = {
    **result,
    'device': environment.device(),
    'versions': environment.versions(),
    'date': datetime.datetime.now(datetime.UTC).date().isoformat(),
  }
  results.write_json(RESULTS / f'{name}.json', whole)
  print(json.dumps(whole, indent=2))


def instructions() -> str:
  """Returns the widest vector instructions that the processor has."""
  text = pathlib.Path('/proc/cpuinfo').read_text()
  names = ('amx_int8', 'avx512_vnni', 'avx_vnni', 'avx512f', 'avx2')
  return next((name for name in names if name in text.split()), 'other')
