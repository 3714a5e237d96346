"""All heads of a run, on all devices of this process.

Devices share nothing while they train: each has a thread that feeds it, a bank
of features and lanes of heads. So a head depends on no other, and no device
waits for another.
"""

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import jax

from simplenet_jax import environment
from simplenet_jax.console import counted
from simplenet_jax.training import bank
from simplenet_jax.training.layout import DeviceTask
from simplenet_jax.training.progress import HeadProgress
from simplenet_jax.training.store import ExtractionSettings, FeatureStore
from simplenet_jax.training.worker import DeviceLoop, HeadSettings


@contextlib.contextmanager
def started(
  schedule: Sequence[Sequence[DeviceTask]],
  settings: HeadSettings,
  extraction: ExtractionSettings,
  on_batch: Callable[[str, int, int], None],
) -> Iterator[Iterator[HeadProgress]]:
  """Works off the tasks of each device in the background.

  Errors set the `stop` of the settings, so that all other heads are saved.

  Yields:
    The progress of every head, as it ends; none of those that were under way
    when they were told to stop.
  """
  ended: queue.Queue[HeadProgress | BaseException | None] = queue.Queue()
  stop = settings.stop

  def work_off(tasks: Sequence[DeviceTask]) -> None:
    for task in tasks:
      if stop.is_set():
        break
      try:
        train_task(task, settings, extraction, on_batch, ended.put)
      except BaseException as error:
        stop.set()
        ended.put(_explained(error, task))
    ended.put(None)

  def heads() -> Iterator[HeadProgress]:
    working = len(schedule)
    while working:
      head = ended.get()
      if isinstance(head, BaseException):
        raise head
      if head is None:
        working -= 1
      else:
        yield head

  threads = [
    threading.Thread(target=work_off, args=(tasks,), name=str(tasks[0].device))
    for tasks in schedule
  ]
  for thread in threads:
    thread.start()
  try:
    yield heads()
  except BaseException:
    stop.set()
    raise
  finally:
    for thread in threads:
      thread.join()


def train_task(
  task: DeviceTask,
  settings: HeadSettings,
  extraction: ExtractionSettings,
  on_batch: Callable[[str, int, int], None],
  emit: Callable[[HeadProgress], None],
) -> None:
  """Trains the heads of one device and input size; see `started`."""
  with bank.computing(task.device):
    weights = jax.device_put(extraction.weights, task.device)
    home = bank.Bank(task.shapes, task.rows, task.device)
    store = FeatureStore(
      home,
      dataclasses.replace(extraction, weights=weights),
      task.categories,
      task.lanes,
      on_batch,
      settings.stop,
    )
    with contextlib.closing(store):
      DeviceLoop(settings, store, home, task.jobs, task.lanes, emit).run()


def _explained(error: BaseException, task: DeviceTask) -> BaseException:
  """Returns an error that names the flags which help, where memory is short."""
  if isinstance(error, MemoryError):
    return ValueError(
      'this machine is out of memory; lower --config.bank.host_gb or '
      '--config.data.workers; the same command goes on from what is saved'
    )
  if not environment.is_out_of_memory(error):
    return error
  settings = ['bank.device_gb', 'engine.lanes', 'backbone.batch_size']
  if task.lanes == 1:
    settings.remove('engine.lanes')
  lower = ' or '.join(f'--config.{name}' for name in settings)
  return ValueError(
    f'{task.device} is out of memory with {task.bank_bytes / 1e9:.1f} GB of '
    f'features and {counted(task.lanes, "head")} at a time; lower {lower}; the '
    'same command goes on from what is saved'
  )
