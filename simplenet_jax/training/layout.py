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
from simplenet_jax.training.job import Job, assign, widest

# Matrix products of a step below which an accelerator waits for its host; more
# heads side by side then cost little.
_FULL_STEP = 2e10

Size = tuple[int, int]  # Height and width of an input, in pixels.
Shapes = tuple[jax.ShapeDtypeStruct, ...]  # One image's features, by level.


@dataclasses.dataclass(frozen=True)
class DeviceTask:
  """What one device does in one go: the heads of one input size."""

  device: Any  # A jax.Device.
  jobs: tuple[Job, ...]  # In the order in which they start.
  categories: tuple[Inputs, ...]  # Theirs, in that order.
  lanes: int  # Heads side by side.
  rows: int  # Images whose features are on the device at a time.
  shapes: Shapes

  @property
  def bank_bytes(self) -> int:
    """Size of the features on the device."""
    return self.rows * bank.row_bytes(self.shapes)

  @property
  def streamed(self) -> list[str]:
    """Categories that do not fit on the device."""
    return [one.name for one in self.categories if one.images > self.rows]


def make_jobs(config: Config, categories: Sequence[Inputs]) -> list[Job]:
  """Returns the heads of a run: every category with every seed."""
  size = config.train.batch_size
  return [
    Job(one.name, seed, len(one.train), size, epochs_of(config, len(one.train)))
    for one in categories
    for seed in config.seeds
  ]


def epochs_of(config: Config, images: int) -> int:
  """Returns a head's epochs: the config's, or more where `min_steps` asks."""
  steps_per_epoch = -(-images // config.train.batch_size)
  return max(config.train.epochs, -(-config.train.min_steps // steps_per_epoch))


def lay_out(
  config: Config,
  jobs: Sequence[Job],
  left: Sequence[Job],
  categories: Sequence[Inputs],
  shapes: Mapping[Size, Shapes],
  step_flops: float,
  budget: int,
) -> list[list[DeviceTask]]:
  """Returns the tasks of each device that has work, one for each input size.

  Args:
    config: The settings; `engine` is read.
    jobs: All heads, which decide on the lanes: a resumed run has as many.
    left: The heads that are left to train.
    categories: All heads' categories.
    shapes: One image's features, by input size.
    step_flops: Operations of one head's step, about.
    budget: Bytes that features may take on a device, see `bank_budget`.

  Raises:
    ValueError: If a device cannot hold the images of a step.
  """
  named = {one.name: one for one in categories}
  devices = chosen_devices(config)
  if not jobs:  # More processes than heads.
    return []
  everything = assign(jobs, len(devices))
  parts = assign(left, len(devices)) if left else []
  lanes = min(
    _lanes(config, device, part, named, shapes, step_flops, budget)
    for device, part in zip(devices, everything, strict=True)
    if part
  )
  return [
    [
      _task(device, of_size, named, shapes[size], lanes, budget)
      for size, of_size in _by_size(part, named).items()
    ]
    for device, part in zip(devices, parts, strict=False)
    if part
  ]


def _by_size(jobs, named) -> dict[Size, list[Job]]:
  groups: dict[Size, list[Job]] = {}
  for job in jobs:
    groups.setdefault(named[job.category].size, []).append(job)
  return groups


def chosen_devices(config: Config) -> list[Any]:
  """Returns this process's devices that a run uses.

  Raises:
    ValueError: If there are fewer than the config asks for.
  """
  asked, devices = config.engine.devices, jax.local_devices()
  if asked > len(devices):
    raise ValueError(
      f'--config.engine.devices is {asked}, but there are {len(devices)}'
    )
  return devices[: asked or None]


def _lanes(config, device, jobs, named, shapes, step_flops, budget) -> int:
  """Returns how many heads of these a device trains side by side."""
  batch, most = max(job.batch_size for job in jobs), len(jobs)
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
  return widest(jobs, min(most, int(_FULL_STEP // step_flops) + 1))


def _task(device, jobs, named, shapes, lanes, budget) -> DeviceTask:
  names = dict.fromkeys(job.category for job in jobs)
  categories = tuple(named[name] for name in names)
  sizes = sorted((one.images for one in categories), reverse=True)
  rows = min(budget // bank.row_bytes(shapes), sum(sizes[:lanes]))
  return DeviceTask(device, tuple(jobs), categories, lanes, rows, shapes)


def bank_budget(config: Config, neighbours: int = 1) -> int:
  """Returns the bytes that features may take on each device of this process.

  So many `neighbours`, this process included, share the machine.
  """
  if config.bank.device_gb:
    return int(config.bank.device_gb * 1e9)
  return min(_free(device, neighbours) for device in chosen_devices(config))


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
