"""How evenly heads of uneven categories fill eight processes.

  python -m benchmarks.processes

Starts the processes on this machine and joins them as a run does. Each trains
its part of the plan; steps and processor time are counted, the latter from a
process's first step to its last, so that it holds the features of all
categories but the first and no compilation. Where processes share processors,
wall time would say little; processor time says how long each would take on
processors of its own. Categories have MVTec AD's sizes, or sizes drawn from a
log-normal distribution; images and heads are small. Writes
benchmarks/results/processes.json; takes about five minutes on two CPU cores.
"""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks import balance, heads, mvtec_sizes, timing
from simplenet_jax import cli, cluster, overview
from simplenet_jax.training import share as shares

_PROCESSES = flags.DEFINE_integer('processes', 8, 'How many.', 1)
_INDEX = flags.DEFINE_integer('index', None, 'Of one that was started.')
_ADDRESS = flags.DEFINE_string('address', None, 'Where it finds the others.')

_SIDE = 64  # Of an image, in pixels.


def sizes() -> dict[str, tuple[list[int], int]]:
  """Returns each case's categories' images and its number of seeds."""
  mvtec = [train for train, _, _ in mvtec_sizes.SIZES.values()]
  drawn = np.random.default_rng(0).lognormal(np.log(100), 0.8, 64)
  uneven = drawn.astype(int).clip(8, 2000).tolist()
  return {
    'MVTec AD, 1 seed': (mvtec, 1),
    'MVTec AD, 5 seeds': (mvtec, 5),
    '64 categories, log-normal, 1 seed': (uneven, 1),
  }


def measure(config: Any, counts: list[int], joined: cluster.Cluster) -> dict:
  """Trains this process's part; returns what came of all of them."""
  rng = np.random.default_rng(0)
  shared = rng.integers(0, 256, (max(counts), _SIDE, _SIDE, 3), np.uint8)
  categories: list[Any] = [
    mvtec_sizes.Decoded(f'category {number}', shared, count)
    for number, count in enumerate(counts)
  ]
  made = heads.prepare(config, categories, joined.neighbours)
  own = shares.share(made.planned.rota, [], joined.index, joined.count)
  begun: list[float] = []
  records = made.train(
    own.rota, lambda record: begun.append(time.process_time())
  )
  mine = [
    sum(job.steps for job in own.jobs),
    sum(record.step for record in records),
    time.process_time() - begun[0],
  ]
  plans, done, spent = zip(*joined.exchange(mine), strict=True)
  return {
    'heads': len(made.jobs),
    'lanes': max(one.lanes for part in made.planned.rota for one in part),
    'efficiency_of_the_plan': 1 - overview.idle(made.planned),
    'efficiency_of_the_run': float(np.mean(spent) / max(spent)),
    'steps_of_each_process_planned': sorted(plans),
    'steps_of_each_process_done': sorted(done),
    'processor_seconds_of_each_process': sorted(spent),
  }


def work(index: int) -> None:
  """Is one of the processes; the first writes the results."""
  with (
    tempfile.TemporaryDirectory() as folder,
    cluster.joined(_ADDRESS.value, _PROCESSES.value, index) as joined,
  ):
    config = balance.make_config(pathlib.Path(folder, 'weights.safetensors'))
    config.patch.pretrain_dim = config.patch.target_dim = 192
    config.head.hidden = 192
    config.train.epochs = 16
    found = {}
    for name, (counts, seeds) in sizes().items():
      config.seeds = tuple(range(seeds))
      found[name] = measure(config, counts, joined)
    if index == 0:
      timing.write(
        'processes',
        {
          'what': f'heads of uneven categories on {joined.count} processes of '
          'one device each; efficiency is the mean over the maximum, of steps '
          'planned and of processor time',
          'devices_in_all': len(jax.devices()),
          'runs': found,
        },
      )


def main() -> None:
  """Starts the processes and waits for them."""
  if _INDEX.value is not None:
    work(_INDEX.value)
    return
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    # A process's threads would wait for each other, at the cost of time.
    'XLA_FLAGS': '--xla_cpu_multi_thread_eigen=false',
  }
  started = [
    subprocess.Popen(  # noqa: S603 - itself.
      [
        *(sys.executable, '-m', 'benchmarks.processes'),
        f'--processes={_PROCESSES.value}',
        f'--address=localhost:{port}',
        f'--index={index}',
      ],
      env=environment,
    )
    for index in range(_PROCESSES.value)
  ]
  statuses = [one.wait() for one in started]
  if any(statuses):
    raise ValueError('a process failed; what it says is above')


if __name__ == '__main__':
  cli.run(main)
