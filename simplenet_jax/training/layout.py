"""What each device does: its heads, lanes and features."""

import collections
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simplenet_jax.config import Config, trains_heads
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.environment import SINGLE, Processes
from simplenet_jax.models.weights import Weights
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.job import (
  Job,
  assign,
  parts_of,
  quickest,
  step_operations,
)
from simplenet_jax.training.progress import HeadProgress, Rank
from simplenet_jax.training.step import Recipe

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
  processes: Processes = SINGLE,
) -> list[list[DeviceTask]]:
  """Returns the tasks of each device that has work, one for each input size.

  All `jobs` of the run decide on lanes and rows: what is compiled serves every
  process, and the run that goes on. `left` are to be trained here; `shapes` are
  by input size.
  """
  if not any(job.steps for job in jobs):
    return []
  devices = chosen_devices(config)
  budget = _budget(config, processes.on_host)
  room = {size: budget // row_type(x).itemsize for size, x in shapes.items()}
  images = collections.defaultdict[Size, list[int]](list)  # Largest first.
  for one in sorted(categories, key=lambda one: -one.images):
    images[one.size].append(one.images)
  most = min(_fitting(config, x, room[size]) for size, x in images.items())
  if config.engine.lanes:
    lanes = min(config.engine.lanes, most)
  elif devices[0].platform == 'cpu':
    lanes = 1  # Side by side, products take longer than one after the other.
  else:
    parts = assign(jobs, processes.count * len(devices))
    step = max(step_operations(config, one) for one in shapes.values())
    lanes = quickest(parts, min(most, len(config.seeds)), step)

  def tasks(device: Any, part: Sequence[Job]) -> Iterator[DeviceTask]:
    inputs = {one.name: one for one in categories}
    for size in dict.fromkeys(inputs[job.category].size for job in part):
      heads = [job for job in part if inputs[job.category].size == size]
      names = dict.fromkeys(job.category for job in heads)
      own = tuple(inputs[name] for name in names)
      rows = min(room[size], _rounded(sum(images[size][:lanes])))
      yield DeviceTask(device, tuple(heads), own, lanes, rows, shapes[size])

  parts = zip(devices, assign(left, len(devices)), strict=True)
  return [[*tasks(device, part)] for device, part in parts if part]


def _rounded(images: int) -> int:
  """Rounds up to a multiple of 64, then to eighths of a power of two."""
  step = max(64, 1 << images.bit_length() - 1 >> 3)
  return -(-images // step) * step


def lay_out_one(run: RunInputs, one: Inputs, shapes: Shapes) -> DeviceTask:
  """Returns a task of one category's features alone, without heads."""
  room = _budget(run.config, run.neighbours) // row_type(shapes).itemsize
  rows = max(1, min(room, _rounded(one.images)))
  return DeviceTask(chosen_devices(run.config)[0], (), (one,), 1, rows, shapes)


def _fitting(config: Config, images: Sequence[int], room: int) -> int:
  """Returns how many heads can train on the features of `room` images."""
  if images[0] <= room:
    fitting = np.searchsorted(np.cumsum(images), room, side='right')
    return int(fitting) * len(config.seeds)
  # Streamed: each lane needs room for a batch.
  if room < (batch := config.train.batch_size):
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
