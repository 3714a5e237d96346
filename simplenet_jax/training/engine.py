"""All heads of a run, on all devices of this machine.

Devices share nothing while they train: each has a thread that feeds it, a bank
of features and lanes of heads. So a head depends on no other, and no device
waits for another.
"""

import contextlib
import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simplenet_jax.data.inputs import Inputs
from simplenet_jax.protocols import Config
from simplenet_jax.training import bank, plan
from simplenet_jax.training.features import Source, Store
from simplenet_jax.training.orders import Orders
from simplenet_jax.training.record import Record
from simplenet_jax.training.worker import Worker

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
  jobs: tuple[plan.Job, ...]
  categories: tuple[Inputs, ...]
  lanes: int
  rows: int
  shapes: tuple[jax.ShapeDtypeStruct, ...]

  @property
  def bank_bytes(self) -> int:
    """Size of the features on the device."""
    return self.rows * bank.row_bytes(self.shapes)

  @property
  def streamed(self) -> list[str]:
    """Categories that do not fit on the device."""
    return [one.name for one in self.categories if one.images > self.rows]


def make_jobs(config: Config, categories: Sequence[Inputs]) -> list[plan.Job]:
  """Returns the heads of a run: every category with every seed."""
  train = config.train
  return [
    plan.Job(one.name, seed, len(one.train), train.batch_size, train.epochs)
    for one in categories
    for seed in config.seeds
  ]


Shapes = tuple[jax.ShapeDtypeStruct, ...]


def lay_out(
  config: Config,
  jobs: Sequence[plan.Job],
  left: Sequence[plan.Job],
  categories: Sequence[Inputs],
  shapes: Mapping[tuple[int, int], Shapes],
  step_flops: float,
) -> list[list[Shift]]:
  """Plans a run.

  Args:
    config: The settings; `bank` and `engine` are read.
    jobs: All heads. They decide on the lanes, so that a run that is resumed has
      those that it had.
    left: The heads that are left to train.
    categories: Of all of them.
    shapes: One image's features' shapes, by input size.
    step_flops: Operations of one head's step, about.

  Returns:
    For each device that has work, its shifts, to be worked off in turn: one for
    each input size among its categories.

  Raises:
    ValueError: If a device cannot hold the images of a step.
  """
  named = {one.name: one for one in categories}
  devices = chosen_devices(config)
  everything = plan.assign(jobs, len(devices))
  parts = plan.assign(left, len(devices)) if left else []
  lanes = min(
    _lanes(config, device, part, named, shapes, step_flops)
    for device, part in zip(devices, everything, strict=True)
    if part
  )
  return [
    [
      _shift(config, device, of_size, named, shapes[size], lanes)
      for size, of_size in _by_size(part, named).items()
    ]
    for device, part in zip(devices, parts, strict=False)
    if part
  ]


def _by_size(jobs, named) -> dict[tuple[int, int], list[plan.Job]]:
  groups: dict[tuple[int, int], list[plan.Job]] = {}
  for job in jobs:
    groups.setdefault(named[job.category].size, []).append(job)
  return groups


def chosen_devices(config: Config) -> list[Any]:
  """Returns the devices of this machine that a run uses.

  Raises:
    ValueError: If there are fewer than the config asks for.
  """
  devices, asked = jax.local_devices(), config.engine.devices
  if asked > len(devices):
    raise ValueError(
      f'--config.engine.devices is {asked}, but there are {len(devices)}'
    )
  return devices[: asked or None]


def _lanes(config, device, jobs, named, shapes, step_flops) -> int:
  """Returns how many heads of these a device trains side by side."""
  batch = config.train.batch_size
  most = len(jobs)
  for size, of_size in _by_size(jobs, named).items():
    budget = _bank_budget(config, device) // bank.row_bytes(shapes[size])
    names = dict.fromkeys(job.category for job in of_size)
    images = sorted((named[name].images for name in names), reverse=True)
    if images[0] > budget:  # Streamed: each lane needs room for a batch.
      fitting = budget // batch
      if not fitting:
        raise ValueError(
          f'{device} has room for the features of {budget} images, a step '
          f'needs {batch}; raise --config.bank.device_gb (now '
          f'{_bank_budget(config, device) / 1e9:.3g})'
        )
    else:
      seeds = max(sum(j.category == name for j in of_size) for name in names)
      together = np.searchsorted(np.cumsum(images), budget, side='right')
      fitting = int(together) * seeds
    most = min(most, fitting)
  if config.engine.lanes:
    return min(config.engine.lanes, most)
  if device.platform == 'cpu':
    return 1  # Side by side, products take longer than one after the other.
  return plan.widest(jobs, min(most, int(_FULL_STEP // step_flops) + 1))


def _shift(config, device, jobs, named, shapes, lanes) -> Shift:
  names = dict.fromkeys(job.category for job in jobs)
  categories = tuple(named[name] for name in names)
  budget = _bank_budget(config, device) // bank.row_bytes(shapes)
  sizes = sorted((one.images for one in categories), reverse=True)
  rows = min(budget, sum(sizes[:lanes]))
  return Shift(device, tuple(jobs), categories, lanes, rows, shapes)


def _bank_budget(config: Config, device: Any) -> int:
  """Returns the bytes that features may take on a device."""
  if config.bank.device_gb:
    return int(config.bank.device_gb * 1e9)
  stats = device.memory_stats()
  if stats and 'bytes_limit' in stats:
    limit = stats['bytes_limit']
    return int(max(limit / 2, limit - 8e9))  # The rest is for the steps.
  return host_memory() // 4 // jax.local_device_count()


def host_memory() -> int:
  """Returns the memory in bytes that this process can use."""
  installed = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  try:
    granted = Path('/sys/fs/cgroup/memory.max').read_text().strip()
  except OSError:
    return installed
  return min(installed, int(granted)) if granted.isdecimal() else installed


@contextlib.contextmanager
def started(
  rota: Sequence[Sequence[Shift]],
  orders: Orders,
  source: Source,
  on_batch: Callable[[str, int, int], None],
) -> Iterator[Iterator[Record]]:
  """Trains in the background.

  Args:
    rota: The shifts of each device.
    orders: What all workers share.
    source: How features are made; its weights may be on any device.
    on_batch: Called with a category's name, its images extracted so far and
      their number.

  Yields:
    The record of every head, as it ends; none of those that were under way when
    `orders.stop` was set. Leaving the context stops what still goes on.
  """
  ended: queue.Queue[Record | BaseException | None] = queue.Queue()

  def work(shift: Shift) -> None:
    with (
      jax.default_device(shift.device),
      # Backbone and resizes; the heads' products have their own.
      jax.default_matmul_precision('float32'),
    ):
      own = dataclasses.replace(
        source, weights=jax.device_put(source.weights, shift.device)
      )
      home = bank.Bank(shift.shapes, shift.rows, shift.device)
      store = Store(
        home, own, shift.categories, shift.lanes, on_batch, orders.stop
      )
      try:
        Worker(orders, store, home, shift.jobs, shift.lanes, ended.put).run()
      finally:
        store.shut()

  def work_off(shifts: Sequence[Shift]) -> None:
    for shift in shifts:
      if orders.stop.is_set():
        return
      try:
        work(shift)
      except BaseException as error:
        orders.stop.set()
        ended.put(_explained(error, shift))

  def conduct() -> None:
    threads = [
      threading.Thread(
        target=work_off, args=(shifts,), name=str(shifts[0].device)
      )
      for shifts in rota
    ]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    ended.put(None)

  through = threading.Event()

  def records() -> Iterator[Record]:
    while (record := ended.get()) is not None:
      if isinstance(record, BaseException):
        raise record
      yield record
    through.set()

  conductor = threading.Thread(target=conduct, name='engine')
  conductor.start()
  try:
    yield records()
  finally:
    if not through.is_set():
      orders.stop.set()
    conductor.join()


def _explained(error: BaseException, shift: Shift) -> BaseException:
  if isinstance(error, MemoryError):
    return ValueError(
      'this machine is out of memory; lower --config.bank.host_gb or '
      '--config.data.workers'
    )
  if 'RESOURCE_EXHAUSTED' in str(error):
    return ValueError(
      f'{shift.device} is out of memory with {shift.bank_bytes / 1e9:.1f} GB '
      f'of features and {shift.lanes} lanes; lower --config.bank.device_gb or '
      '--config.engine.lanes'
    )
  return error
