"""All heads of a run, on all devices of this process.

Devices share nothing while they train: each has a thread that feeds it, its
features and lanes of heads. So a head depends on no other, and no device waits.
"""

import contextlib
import queue
from collections.abc import Iterator, Sequence
from concurrent import futures

from simplenet_jax import environment
from simplenet_jax.console import Signalled, counted, unsaved
from simplenet_jax.training import bank
from simplenet_jax.training.layout import DeviceTask, RunInputs
from simplenet_jax.training.progress import HeadProgress
from simplenet_jax.training.worker import DeviceLoop


@contextlib.contextmanager
def started(
  schedule: Sequence[Sequence[DeviceTask]], run: RunInputs
) -> Iterator[Iterator[HeadProgress]]:
  """Works off the tasks of each device in the background.

  An error sets `run.stop`, so that all other heads are saved, and is raised.
  Yields the progress of every head as it ends.
  """
  ended: queue.Queue[HeadProgress | None] = queue.Queue()

  def work_off(tasks: Sequence[DeviceTask]) -> None:
    try:
      for task in tasks:
        if not run.stop.is_set():
          _train(task, run, ended)
    except BaseException:
      run.stop.set()
      raise
    finally:
      ended.put(None)

  with futures.ThreadPoolExecutor(max(1, len(schedule))) as pool:
    working = [pool.submit(work_off, tasks) for tasks in schedule]
    try:
      yield (head for _ in working for head in iter(ended.get, None))
    except Signalled:  # That heads are saved counts.
      run.stop.set()
    except BaseException:
      run.stop.set()
      raise
    for device in working:
      device.result()


def _train(
  task: DeviceTask, run: RunInputs, ended: 'queue.Queue[HeadProgress | None]'
) -> None:
  try:
    with bank.computing(task.device):
      loop = DeviceLoop(run, task, ended.put)
      try:
        loop.run()
      finally:
        unsaved.discard(loop)
  except MemoryError:
    raise ValueError(
      'this machine is out of memory; lower --config.bank.host_gb or '
      '--config.data.workers; the same command goes on from what is saved'
    ) from None
  except RuntimeError as error:
    if not environment.is_out_of_memory(error):
      raise
    lanes = '--config.engine.lanes or ' if task.lanes > 1 else ''
    raise ValueError(
      f'{task.device} is out of memory with {task.bank_bytes / 1e9:.1f} GB of '
      f'features and {counted(task.lanes, "head")} at a time; lower '
      f'--config.bank.device_gb or {lanes}--config.backbone.batch_size; the '
      'same command goes on from what is saved'
    ) from None
