"""How evenly MVTec AD's heads fill several devices: planned and measured.

  python -m benchmarks.balance

The plan is for MVTec AD's real sizes. It is then carried out with small images
and heads on virtual devices of the CPU, where time says nothing, but steps do:
those that each device did are counted. Writes benchmarks/results/balance.json;
takes about two minutes on two CPU cores.
"""

import collections
import pathlib
import tempfile
import threading
from typing import Any

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from benchmarks import heads, mvtec_sizes, timing
from simplenet_jax import cli, overview
from simplenet_jax.config import from_protocol
from simplenet_jax.models import resnet, weights
from simplenet_jax.training.job import Job

DEVICES, SEEDS = (1, 2, 4, 8), (1, 5)


def make_config(file: pathlib.Path):
  """Returns settings with a small head and random weights."""
  config = from_protocol()
  config.backbone.name, config.backbone.weights = 'demo_resnet', str(file)
  config.patch.pretrain_dim = config.patch.target_dim = 24
  config.head.hidden = 8
  config.train.epochs = 1
  network = resnet.ResNet('demo_resnet', (2, 3), rngs=nnx.Rngs(0))
  save_file(weights.to_torch_names(nnx.split(network)[1]), file)
  return config


def measure(config, categories: list[Any]) -> dict:
  """Plans, trains and counts; returns the figures."""
  made = heads.prepare(config, categories)
  done: dict[str, dict[Job, int]] = collections.defaultdict(dict)
  ended = made.train(
    made.planned.rota,
    lambda record: done[threading.current_thread().name].update(
      {record.job: record.step}
    ),
  )
  shifts = [shift for shifts in made.planned.rota for shift in shifts]
  plans = [sum(job.steps for job in shift.jobs) for shift in shifts]
  steps = [sum(counts.values()) for counts in done.values()]
  return {
    'heads': len(ended),
    'lanes': max(shift.lanes for shift in shifts),
    'idle_share_planned': overview.idle(made.planned),
    'steps_of_each_device_planned': sorted(plans),
    'steps_of_each_device_done': sorted(steps),
    'fullest_over_mean_done': max(steps) / np.mean(steps),
    'devices_per_category': float(
      np.mean(
        [sum(one in shift.categories for shift in shifts) for one in categories]
      )
    ),
  }


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  jax.config.update('jax_num_cpu_devices', max(DEVICES))
  rng = np.random.default_rng(0)
  shared = rng.integers(0, 256, (391, 32, 32, 3), np.uint8)
  categories = [
    mvtec_sizes.Decoded(name, shared, train)
    for name, (train, _, _) in mvtec_sizes.SIZES.items()
  ]
  found = {}
  with tempfile.TemporaryDirectory() as folder:
    config = make_config(pathlib.Path(folder, 'weights.safetensors'))
    for devices in DEVICES:
      for seeds in SEEDS:
        config.engine.devices, config.seeds = devices, tuple(range(seeds))
        found[f'{devices} devices, {seeds} seeds'] = measure(config, categories)
  timing.write(
    'balance',
    {
      'what': "steps of MVTec AD's heads by device; planned and done",
      'runs': found,
    },
  )


if __name__ == '__main__':
  cli.run(main)
