"""What each device does: its heads, lanes and features."""

import dataclasses
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simplenet_jax.config import Config
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.models.weights import Weights
from simplenet_jax.training import bank
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.job import Job, assign, step_operations, widest
from simplenet_jax.training.progress import HeadProgress, Rank
from simplenet_jax.training.step import Recipe

# Matrix products of a step below which an accelerator waits for its host; more
# heads side by side then cost little.
_FULL_STEP = 2e10

Size = tuple[int, int]  # Height and width of an input, in pixels.
Shapes = tuple[jax.ShapeDtypeStruct, ...]  # One image's features, by level.


@dataclasses.dataclass(frozen=True)
class RunInputs:
  """What all devices of this process have in common."""

  config: Config
  extractor: bank.Extractor
  weights: Weights  # The backbone's.
  recipe: Recipe
  workdir: Path  # Features that fit into no memory go there.
  rank: Callable[[str], Rank | None]  # By category, for `HeadProgress`.
  checkpoints: Checkpoints | None  # None to save nothing.
  # Called with a category's name, how many of its images are through the
  # backbone, and their number.
  on_batch: Callable[[str, int, int], None]
  on_steps: Callable[[HeadProgress], None]  # Called when a head has grown.
  stop: threading.Event  # When it is set, devices save their heads and end.
  neighbours: int = 1  # Processes on this machine, this one included.


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
    return self.rows * bank.row_type(self.shapes).itemsize

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
  neighbours: int = 1,
) -> list[list[DeviceTask]]:
  """Returns the tasks of each device that has work, one for each input size.

  Args:
    config: The settings; `engine` and `bank` are read.
    jobs: All heads, which decide on the lanes: a resumed run has as many.
    left: The heads that are left to train.
    categories: All heads' categories.
    shapes: One image's features, by input size.
    neighbours: Processes on this machine, this one included.

  Raises:
    ValueError: If a device cannot hold the images of a step.
  """
  named = {one.name: one for one in categories}
  devices, budget = chosen_devices(config), bank_budget(config, neighbours)
  room = {
    size: budget // bank.row_type(one).itemsize for size, one in shapes.items()
  }

  def by_size(part: Sequence[Job]) -> dict[Size, list[Job]]:
    groups = {}
    for job in part:
      groups.setdefault(named[job.category].size, []).append(job)
    return groups

  def categories_of(part: Sequence[Job]) -> tuple[Inputs, ...]:
    return tuple(
      named[name] for name in dict.fromkeys(j.category for j in part)
    )

  def lanes_for(part: Sequence[Job]) -> int:
    fitting = len(part)
    for size, group in by_size(part).items():
      fits = _fitting(group, categories_of(group), room[size])
      if not fits:
        raise ValueError(
          f'{devices[0]} has room for the features of {room[size]} images, a '
          f'step needs {group[0].batch_size}; raise --config.bank.device_gb '
          f'(now {budget / 1e9:.3g})'
        )
      fitting = min(fitting, fits)
    if config.engine.lanes:
      return min(config.engine.lanes, fitting)
    if devices[0].platform == 'cpu':
      return 1  # Side by side, products take longer than one after the other.
    flops = max(step_operations(config, one) for one in shapes.values())
    return widest(part, min(fitting, int(_FULL_STEP // flops) + 1))

  def task(device, group: Sequence[Job], size: Size) -> DeviceTask:
    inputs = categories_of(group)
    images = sorted((one.images for one in inputs), reverse=True)
    rows = min(room[size], sum(images[:lanes]))
    return DeviceTask(device, tuple(group), inputs, lanes, rows, shapes[size])

  lanes = min(
    (lanes_for(part) for part in assign(jobs, len(devices)) if part), default=1
  )
  return [
    [task(device, group, size) for size, group in by_size(part).items()]
    for device, part in zip(devices, assign(left, len(devices)), strict=True)
    if part
  ]


def _fitting(
  jobs: Sequence[Job], categories: Sequence[Inputs], room: int
) -> int:
  """Returns how many heads can train at a time with so many images' features.

  Where a category is streamed each needs room for a batch.
  """
  images = sorted((one.images for one in categories), reverse=True)
  if images[0] > room:
    return room // jobs[0].batch_size
  seeds = max(
    sum(job.category == one.name for job in jobs) for one in categories
  )
  return int(np.searchsorted(np.cumsum(images), room, side='right')) * seeds


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


def bank_budget(config: Config, neighbours: int = 1) -> int:
  """Returns the bytes that features may take on each device of this process."""
  if config.bank.device_gb:
    return int(config.bank.device_gb * 1e9)

  def free(device: Any) -> int:
    stats = device.memory_stats()
    if stats and 'bytes_limit' in stats:
      limit = stats['bytes_limit']
      return int(max(limit / 2, limit - 8e9))  # The rest is for the steps.
    return host_memory() // 4 // jax.local_device_count() // neighbours

  return min(map(free, chosen_devices(config)))


def host_memory() -> int:
  """Returns the memory in bytes that processes of this machine can use."""
  installed = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  try:
    granted = Path('/sys/fs/cgroup/memory.max').read_text().strip()
  except OSError:
    return installed
  return min(installed, int(granted)) if granted.isdecimal() else installed
