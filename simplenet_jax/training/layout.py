"""What each device does: its heads, lanes and features."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simplenet_jax.config import Config
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.training import bank
from simplenet_jax.training.job import Job, assign, makespan, turns, widest

# Matrix products of a step below which an accelerator waits for its host; more
# heads side by side then cost little.
_FULL_STEP = 2e10


@dataclasses.dataclass(frozen=True)
class Shift:
  """What one device does in one go: the heads of one input size.

  Attributes:
    device: Which.
    jobs: Its heads, in the order in which they start.
    categories: Those that they belong to, in the order in which they start.
    lanes: Heads side by side.
    rows: Images whose features are on the device at a time.
    shapes: Of one row.
  """

  device: Any  # A jax.Device.
  jobs: tuple[Job, ...]
  categories: tuple[Inputs, ...]
  lanes: int
  rows: int
  shapes: tuple[jax.ShapeDtypeStruct, ...]

  @property
  def bank_bytes(self) -> int:
    """Size of the features on the device."""
    return self.rows * bank.row_bytes(self.shapes)

  @property
  def makespan(self) -> int:
    """Steps until all heads are done, of as many at a time as train then."""
    return sum(makespan(turn, self.lanes) for turn in turns(self.jobs))

  @property
  def streamed(self) -> list[str]:
    """Categories that do not fit on the device."""
    return [one.name for one in self.categories if one.images > self.rows]


def make_jobs(
  config: Config, categories: Sequence[Inputs], variant: str = ''
) -> list[Job]:
  """Returns the heads of a run: every category with every seed."""
  size = config.train.batch_size
  return [
    Job(one.name, seed, len(one.train), size, epochs, variant)
    for one in categories
    for epochs in [epochs_of(config, len(one.train))]
    for seed in config.seeds
  ]


def epochs_of(config: Config, images: int) -> int:
  """Returns a head's epochs: those of the config, or what `min_steps` takes.

  Args:
    config: The settings; `train` is read.
    images: Its training images.
  """
  steps_per_epoch = -(-images // config.train.batch_size)
  return max(config.train.epochs, -(-config.train.min_steps // steps_per_epoch))


Shapes = tuple[jax.ShapeDtypeStruct, ...]


def lay_out(
  config: Config,
  jobs: Sequence[Job],
  left: Sequence[Job],
  categories: Sequence[Inputs],
  shapes: Mapping[tuple[int, int], Shapes],
  step_flops: float,
  budget: int,
) -> list[list[Shift]]:
  """Plans a run.

  Args:
    config: The settings; `engine` is read.
    jobs: All heads. They decide on the lanes, so that a run that is resumed has
      those that it had.
    left: The heads that are left to train.
    categories: Of all of them.
    shapes: One image's features' shapes, by input size.
    step_flops: Operations of one head's step, about.
    budget: Bytes that features may take on a device, see `bank_budget`.

  Returns:
    For each device that has work, its shifts, to be worked off in turn: one for
    each input size among its categories.

  Raises:
    ValueError: If a device cannot hold the images of a step.
  """
  named = {one.name: one for one in categories}
  devices = chosen_devices(config)
  everything = assign(jobs, len(devices))
  parts = assign(left, len(devices)) if left else []
  lanes = min(
    _lanes(config, device, part, named, shapes, step_flops, budget)
    for device, part in zip(devices, everything, strict=True)
    if part
  )
  return [
    [
      _shift(device, of_size, named, shapes[size], lanes, budget)
      for size, of_size in _by_size(part, named).items()
    ]
    for device, part in zip(devices, parts, strict=False)
    if part
  ]


def _by_size(jobs, named) -> dict[tuple[int, int], list[Job]]:
  groups: dict[tuple[int, int], list[Job]] = {}
  for job in jobs:
    groups.setdefault(named[job.category].size, []).append(job)
  return groups


def chosen_devices(config: Config) -> list[Any]:
  """Returns the devices that a run uses, of all its processes.

  Raises:
    ValueError: If a process has fewer than the config asks for.
  """
  asked = config.engine.devices
  owned: dict[int, list[Any]] = {}
  for device in jax.devices():
    owned.setdefault(device.process_index, []).append(device)
  for devices in owned.values():
    if asked > len(devices):
      raise ValueError(
        f'--config.engine.devices is {asked}, but there are {len(devices)}'
      )
  return [one for of in owned.values() for one in of[: asked or None]]


def _lanes(config, device, jobs, named, shapes, step_flops, budget) -> int:
  """Returns how many heads of these a device trains side by side."""
  batch = max(job.batch_size for job in jobs)
  most = max(len(turn) for turn in turns(jobs))
  for size, of_size in _by_size(jobs, named).items():
    room = budget // bank.row_bytes(shapes[size])
    names = dict.fromkeys(job.category for job in of_size)
    images = sorted((named[name].images for name in names), reverse=True)
    if images[0] > room:  # Streamed: each lane needs room for a batch.
      fitting = room // batch
      if not fitting:
        raise ValueError(
          f'{device} has room for the features of {room} images, a step needs '
          f'{batch}; raise --config.bank.device_gb (now {budget / 1e9:.3g})'
        )
    else:
      seeds = max(sum(j.category == name for j in of_size) for name in names)
      together = np.searchsorted(np.cumsum(images), room, side='right')
      fitting = int(together) * seeds
    most = min(most, fitting)
  if config.engine.lanes:
    return min(config.engine.lanes, most)
  if device.platform == 'cpu':
    return 1  # Side by side, products take longer than one after the other.
  most = min(most, int(_FULL_STEP // step_flops) + 1)
  return min(widest(turn, most) for turn in turns(jobs))


def _shift(device, jobs, named, shapes, lanes, budget) -> Shift:
  names = dict.fromkeys(job.category for job in jobs)
  categories = tuple(named[name] for name in names)
  room = budget // bank.row_bytes(shapes)
  sizes = sorted((one.images for one in categories), reverse=True)
  # Of a sweep, one category trains at a time.
  together = lanes if len({job.variant for job in jobs}) == 1 else 1
  rows = min(room, sum(sizes[:together]))
  return Shift(device, tuple(jobs), categories, lanes, rows, shapes)


def bank_budget(config: Config, neighbours: int = 1) -> int:
  """Returns the bytes that features may take on each device of this process.

  Args:
    config: The settings; `bank` and `engine` are read.
    neighbours: Processes that share this machine, this one included.
  """
  if config.bank.device_gb:
    return int(config.bank.device_gb * 1e9)
  return min(
    _free(device, neighbours)
    for device in chosen_devices(config)
    if device.process_index == jax.process_index()
  )


def _free(device: Any, neighbours: int) -> int:
  stats = device.memory_stats()
  if stats and 'bytes_limit' in stats:
    limit = stats['bytes_limit']
    return int(max(limit / 2, limit - 8e9))  # The rest is for the steps.
  return host_memory() // 4 // jax.local_device_count() // neighbours


def host_memory() -> int:
  """Returns the memory in bytes that processes of this machine can use."""
  installed = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  try:
    granted = Path('/sys/fs/cgroup/memory.max').read_text().strip()
  except OSError:
    return installed
  return min(installed, int(granted)) if granted.isdecimal() else installed
