"""All heads of a run, on all devices of this machine.

Devices share nothing while they train: each has a thread that feeds it, a bank
of features and lanes of heads. So a head depends on no other, and no device
waits for another. Of a sweep, a device trains one category after another, and
each with one variant after another: features are made once for all of them.
"""

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax

from simplenet_jax import environment
from simplenet_jax.console import console, counted
from simplenet_jax.training import bank
from simplenet_jax.training.features import Source, Store
from simplenet_jax.training.job import Job, turns
from simplenet_jax.training.layout import Shift
from simplenet_jax.training.orders import Orders
from simplenet_jax.training.record import Record
from simplenet_jax.training.worker import Worker


@contextlib.contextmanager
def started(
  rota: Sequence[Sequence[Shift]],
  orders: Mapping[str, Orders],
  source: Source,
  on_batch: Callable[[str, int, int], None],
  *,
  may_shrink: bool = False,
) -> Iterator[Iterator[Record]]:
  """Trains in the background.

  Args:
    rota: The shifts of each device.
    orders: What workers share, by variant; all have the same `stop`.
    source: How features are made; its weights may be on any device.
    on_batch: Called with a category's name, its images extracted so far and
      their number.
    may_shrink: Whether a device that is out of memory goes on with fewer images
      and heads at a time.

  Yields:
    The record of every head, as it ends; none of those that were under way when
    they were told to stop. Leaving the context stops what still goes on.
  """
  ended: queue.Queue[Record | BaseException | None] = queue.Queue()
  (stop,) = {one.stop for one in orders.values()}

  def work(shift: Shift, size: int, emit: Callable[[Record], None]) -> None:
    with (
      jax.default_device(shift.device),
      # Backbone and resizes; the heads' products have their own.
      jax.default_matmul_precision('float32'),
    ):
      own = dataclasses.replace(
        source,
        weights=jax.device_put(source.weights, shift.device),
        batch_size=size,
      )
      home = bank.Bank(shift.shapes, shift.rows, shift.device)
      store = Store(home, own, shift.categories, shift.lanes, on_batch, stop)
      rounds = turns(shift.jobs)
      try:
        for number, jobs in enumerate(rounds):
          store.keep(
            job.category for turn in rounds[number + 1 :] for job in turn
          )
          settings = orders[jobs[0].variant]
          Worker(settings, store, home, jobs, shift.lanes, emit).run()
      finally:
        store.shut()

  def work_off(shifts: Sequence[Shift]) -> None:
    for shift in shifts:
      if stop.is_set():
        return
      try:
        shrinking(work, shift, source.batch_size, ended.put, may_shrink)
      except BaseException as error:
        stop.set()
        ended.put(_explained(error))

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
      stop.set()
    conductor.join()


def shrinking(
  work: Callable[[Shift, int, Callable[[Record], None]], None],
  shift: Shift,
  size: int,
  emit: Callable[[Record], None],
  may_shrink: bool,
) -> None:
  """Works a shift off, with less at a time where memory does not hold it.

  Args:
    work: Trains a shift's heads, with so many images per pass of the backbone,
      and gives away the record of each that ends.
    shift: It.
    size: Images per pass.
    emit: Where records go.
    may_shrink: Whether it may; else nothing is tried again.

  Raises:
    ValueError: If memory does not hold it.
  """
  done: set[Job] = set()

  def note(record: Record) -> None:
    done.add(record.job)
    emit(record)

  while True:
    try:
      work(shift, size, note)
      return
    except RuntimeError as error:
      if not environment.is_out_of_memory(error):
        raise
      left = tuple(job for job in shift.jobs if job not in done)
      if not left:
        return
      less = smaller(shift, size) if may_shrink else None
      if not less:
        raise _out_of_memory(shift, may_shrink) from None
    # Only now that the error is gone is what it held, too.
    shift, size = less
    shift = dataclasses.replace(shift, jobs=left)
    console.print(
      f'  {shift.device} is out of memory; goes on with '
      f'{counted(shift.lanes, "head")} at a time, {counted(size, "image")} a '
      f'pass and features of {counted(shift.rows, "image")}'
    )


def smaller(shift: Shift, size: int) -> tuple[Shift, int] | None:
  """Returns a shift, and images per pass, that take less memory, if any do.

  Heads side by side and images per pass are halved first, then features: they
  are streamed where they do not fit, which takes longer.
  """
  if shift.lanes > 1 or size > 1:
    lanes = max(1, shift.lanes // 2)
    return dataclasses.replace(shift, lanes=lanes), max(1, size // 2)
  least = max(job.batch_size for job in shift.jobs)
  if shift.rows <= least:
    return None
  return dataclasses.replace(shift, rows=max(least, shift.rows // 2)), size


def _out_of_memory(shift: Shift, shrunk: bool) -> ValueError:
  settings = ['bank.device_gb', 'engine.lanes'][: min(shift.lanes, 2)]
  lower = ' or '.join(f'--config.{name}' for name in settings)
  return ValueError(
    f'{shift.device} is out of memory with {shift.bank_bytes / 1e9:.1f} GB of '
    f'features and {counted(shift.lanes, "head")} at a time; lower {lower}'
    f'{"" if shrunk else ", or give --config.engine.shrink"}'
  )


def _explained(error: BaseException) -> BaseException:
  if isinstance(error, MemoryError):
    return ValueError(
      'this machine is out of memory; lower --config.bank.host_gb or '
      '--config.data.workers'
    )
  return error
