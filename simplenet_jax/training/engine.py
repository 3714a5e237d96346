"""All heads of a run, on all devices of this machine.

Devices share nothing while they train: each has a thread that feeds it, a bank
of features and lanes of heads. So a head depends on no other, nothing is waited
for, and a device that is lost costs its own heads alone.
"""

import contextlib
import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
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


def lay_out(
  config: Config,
  jobs: Sequence[plan.Job],
  categories: Sequence[Inputs],
  shapes: Callable[[tuple[int, int]], tuple[jax.ShapeDtypeStruct, ...]],
  step_flops: float,
) -> list[list[Shift]]:
  """Plans a run.

  Args:
    config: The settings; `bank` and `engine` are read.
    jobs: The heads that are left to train.
    categories: Of all of them.
    shapes: Returns one image's features' shapes for an input size.
    step_flops: Operations of one head's step, about.

  Returns:
    Groups of shifts, one group per input size, to be worked off in turn; the
    shifts of a group go on at the same time, each on a device of its own.
  """
  named = {one.name: one for one in categories}
  groups: dict[tuple[int, int], list[plan.Job]] = {}
  for job in jobs:
    groups.setdefault(named[job.category].size, []).append(job)
  devices = chosen_devices(config)
  return [
    [
      _shift(config, device, part, named, shapes(size), step_flops)
      for device, part in zip(
        devices, plan.assign(group, len(devices)), strict=True
      )
      if part
    ]
    for size, group in groups.items()
  ]


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


def _shift(config, device, jobs, named, shapes, step_flops) -> Shift:
  names = list(dict.fromkeys(job.category for job in jobs))
  categories = tuple(named[name] for name in names)
  budget = _bank_budget(config, device) // bank.row_bytes(shapes)
  sizes = sorted((one.images for one in categories), reverse=True)
  fitting = int(np.searchsorted(np.cumsum(sizes), budget, side='right'))
  seeds = max(sum(job.category == name for job in jobs) for name in names)
  most = min(len(jobs), max(1, fitting) * seeds)
  if config.engine.lanes:
    lanes = min(config.engine.lanes, most)
  elif device.platform == 'cpu':
    lanes = 1  # Side by side, products take longer than one after the other.
  else:
    lanes = plan.widest(jobs, min(most, int(_FULL_STEP // step_flops) + 1))
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
  """Returns this machine's memory in bytes."""
  return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


@contextlib.contextmanager
def started(
  groups: Sequence[Sequence[Shift]],
  orders: Orders,
  source: Source,
  on_batch: Callable[[str, int, int], None],
) -> Iterator[Iterator[Record]]:
  """Trains in the background.

  Args:
    groups: The plan.
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
      store = Store(home, own, shift.categories, shift.lanes, on_batch)
      try:
        Worker(orders, store, home, shift.jobs, shift.lanes, ended.put).run()
      finally:
        store.shut()

  def guarded(shift: Shift) -> None:
    try:
      work(shift)
    except BaseException as error:
      orders.stop.set()
      ended.put(_explained(error, shift))

  def conduct() -> None:
    for group in groups:
      if orders.stop.is_set():
        break
      threads = [
        threading.Thread(target=guarded, args=(shift,), name=str(shift.device))
        for shift in group
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
  text = str(error)
  if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in text:
    return ValueError(
      f'{shift.device} is out of memory with {shift.bank_bytes / 1e9:.1f} GB '
      f'of features and {shift.lanes} lanes; lower --config.bank.device_gb or '
      '--config.engine.lanes'
    )
  return error
