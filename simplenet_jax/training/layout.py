"""What each device does: its heads, lanes and features."""

import dataclasses
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simplenet_jax.config import Config, trains_heads
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.models.weights import Weights
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.job import (
  Job,
  assign,
  parts_of,
  step_operations,
  widest,
)
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
  weights: Weights  # The backbone's.
  recipe: Recipe  # Made once: threads at once can make unequal ones.
  workdir: Path  # Features that fit into no memory go there.
  rank: Callable[[str], Rank | None]  # By category, for `HeadProgress`.
  checkpoints: Checkpoints
  # Called with a category's name, how many of its images are through the
  # backbone, and their number.
  on_batch: Callable[[str, int, int], None]
  on_steps: Callable[[HeadProgress], None]  # Called when a head has grown.
  stop: threading.Event  # When it is set, devices save their heads and end.
  neighbours: int = 1  # Processes on this machine, this one included.
  # Digests of each category's images by their use, see `workdir.fingerprints`.
  images: Mapping[str, Mapping[str, str]] = dataclasses.field(
    default_factory=dict
  )


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
    return self.rows * row_type(self.shapes).itemsize

  @property
  def streamed(self) -> list[str]:
    """Categories that do not fit on the device."""
    return [one.name for one in self.categories if one.images > self.rows]


def row_type(shapes: Shapes) -> np.dtype:
  """Returns the type of one image's features, with a field for each level."""
  return np.dtype(
    [(f'level{i}', one.dtype, one.shape) for i, one in enumerate(shapes)]
  )


def make_jobs(config: Config, categories: Sequence[Inputs]) -> list[Job]:
  """Returns the heads of a run: every category with every seed."""
  jobs = []
  for one in categories:
    images = len(one.train)
    parts = 1 if folds(config, one) is None else len(config.seeds)
    for part, seed in enumerate(config.seeds):
      fold = (part, parts) if parts > 1 else (0, 1)
      job = Job(one.name, seed, images, config.train.batch_size, 0, fold)
      epochs = epochs_of(config, job.seen)
      jobs.append(dataclasses.replace(job, epochs=epochs))
  return jobs


def folds(config: Config, one: Inputs) -> np.ndarray | None:
  """Returns the place of the seed that leaves out each good image, or None."""
  images, parts = len(one.train), len(config.seeds)
  possible = config.train.folds and min(images, parts) > 1
  if possible and not one.category.validation:
    return parts_of(one.name, images, parts)
  return None


def epochs_of(config: Config, images: int) -> int:
  """Returns a head's epochs: the config's, or more where `min_steps` asks."""
  if not trains_heads(config):
    return 0
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

  All `jobs` decide on the lanes, of which a resumed run has as many; `left` are
  to be trained. `shapes` are by input size; `neighbours` as in `RunInputs`.
  """
  if not any(job.steps for job in jobs):
    return []
  named = {one.name: one for one in categories}
  devices, budget = chosen_devices(config), _budget(config, neighbours)
  room = {size: budget // row_type(x).itemsize for size, x in shapes.items()}

  def groups(part: Sequence[Job]) -> list[tuple[list[Job], list[Inputs]]]:
    """Divides heads by input size, with their categories."""
    found = []
    for size in dict.fromkeys(named[job.category].size for job in part):
      heads = [job for job in part if named[job.category].size == size]
      names = dict.fromkeys(job.category for job in heads)
      found.append((heads, [named[name] for name in names]))
    return found

  def lanes_for(part: Sequence[Job]) -> int:
    """Returns how many heads of these a device trains side by side."""
    most = min(_fitting(*one, room[one[1][0].size]) for one in groups(part))
    if config.engine.lanes:
      return min(config.engine.lanes, most)
    if devices[0].platform == 'cpu':
      return 1  # Side by side, products take longer than one after the other.
    flops = max(step_operations(config, one) for one in shapes.values())
    return widest(part, min(most, int(_FULL_STEP // flops) + 1))

  lanes = min(
    (lanes_for(part) for part in assign(jobs, len(devices)) if part), default=1
  )

  def task(device: Any, heads: list[Job], inputs: list[Inputs]) -> DeviceTask:
    size = inputs[0].size
    images = sorted((one.images for one in inputs), reverse=True)
    rows = min(room[size], sum(images[:lanes]))
    return DeviceTask(
      device, tuple(heads), tuple(inputs), lanes, rows, shapes[size]
    )

  parts = assign(left, len(devices))
  return [
    [task(device, *one) for one in groups(part)]
    for device, part in zip(devices, parts, strict=True)
    if part
  ]


def lay_out_one(run: RunInputs, one: Inputs, shapes: Shapes) -> DeviceTask:
  """Returns a task of one category's features alone, without heads."""
  room = _budget(run.config, run.neighbours) // row_type(shapes).itemsize
  rows, device = max(1, min(room, one.images)), chosen_devices(run.config)[0]
  return DeviceTask(device, (), (one,), 1, rows, shapes)


def _fitting(jobs: Sequence[Job], inputs: Sequence[Inputs], room: int) -> int:
  """Returns how many heads can train on the features of `room` images."""
  images = sorted((one.images for one in inputs), reverse=True)
  if images[0] <= room:
    seeds = max(sum(j.category == one.name for j in jobs) for one in inputs)
    return int(np.searchsorted(np.cumsum(images), room, side='right')) * seeds
  # Streamed: each lane needs room for a batch.
  batch = jobs[0].batch_size
  if room < batch:
    raise ValueError(
      f'a device has room for the features of {room} images, a step needs '
      f'{batch}; raise --config.bank.device_gb'
    )
  return room // batch


def chosen_devices(config: Config) -> list[Any]:
  """Returns this process's devices that a run uses."""
  asked, devices = config.engine.devices, jax.local_devices()
  if asked > len(devices):
    raise ValueError(
      f'--config.engine.devices is {asked}, but there are {len(devices)}'
    )
  return devices[: asked or None]


def _budget(config: Config, neighbours: int) -> int:
  """Returns the bytes that features may take on each device."""
  if config.bank.device_gb:
    return int(config.bank.device_gb * 1e9)
  stats = [one.memory_stats() or {} for one in chosen_devices(config)]
  if limit := min(one.get('bytes_limit', 0) for one in stats):
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
