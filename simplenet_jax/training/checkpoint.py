"""Heads on disk: the only place that knows orbax.

Every head has a folder of its own, `<folder>/<category>/seed-<seed>/<step>`, so
that heads can be resumed on any number of devices and processes. All arrays are
saved from the host, without a device's name in them.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from simplenet_jax.progress import console
from simplenet_jax.training.plan import Job
from simplenet_jax.training.record import Rank, Record

# Orbax tells of every save, and as a warning of what is no concern here.
logging.getLogger('absl').addFilter(
  lambda line: 'orbax' not in line.pathname or line.levelno >= logging.ERROR
)

State = dict[str, np.ndarray]

# Not asynchronous: what saves is in the background already.
_OPTIONS = ocp.CheckpointManagerOptions(
  max_to_keep=2, enable_async_checkpointing=False
)


class Checkpoints:
  """The checkpoints of a run's heads; it can be used from several threads.

  A checkpoint is there whole or not at all. Those of heads under way are saved
  in the background, and the one before the latest is kept.
  """

  def __init__(self, folder: Path):
    """Notes the folder; it is made with the first save."""
    self._folder = folder.absolute()
    self._open: dict[Job, ocp.CheckpointManager] = {}
    self._saves: dict[Job, futures.Future] = {}
    self._broken: set[tuple[Job, int]] = set()
    # Orbax numbers its operations in a way that two threads upset.
    self._thread = futures.ThreadPoolExecutor(1, 'checkpoints')

  def save(self, record: Record, state: State | None = None) -> None:
    """Saves a head as it is; waits only for its save before this one.

    A finished head is waited for, and its earlier checkpoints are deleted.

    Args:
      record: Its course so far, of at least one step.
      state: All that goes on changing, by name; None of a finished head, whose
        record holds what is left.

    Raises:
      OSError: If this save, or the one before it, could not be written.
    """
    what = {
      'metrics': record.metrics[:, : record.step].copy(),
      'scores': {str(epoch): scores for epoch, scores in record.scores.items()},
      'state' if state else 'head': state or record.head,
    }
    if before := self._saves.pop(record.job, None):
      before.result()
    save = self._thread.submit(self._write, record.job, record.step, what)
    if state:
      self._saves[record.job] = save
    else:
      save.result()

  def load(
    self, job: Job, rank: Rank | None = None
  ) -> tuple[Record, State] | None:
    """Returns a head's latest checkpoint, if there is one.

    One that cannot be read is told, and the one before it taken.

    Args:
      job: The head.
      rank: For the record.

    Returns:
      Its course, and all that goes on changing, by name; nothing of a finished
      head.
    """
    return self._thread.submit(self._read, job, rank).result()

  def survey(
    self, jobs: Sequence[Job], rank: Callable[[str], Rank | None]
  ) -> tuple[list[Record], list[Job], int]:
    """Tells what is left of a run.

    Args:
      jobs: All heads.
      rank: Returns the rank of a category's epochs.

    Returns:
      Records of the finished heads, whose weights stay on disk; the other
      heads; and how many of those are under way.
    """
    ended, left, under_way = [], [], 0
    for job in jobs:
      saved = self.load(job, rank(job.category))
      if saved and saved[0].finished:
        saved[0].head = None
        ended.append(saved[0])
        continue
      left.append(job)
      under_way += saved is not None
    return ended, left, under_way

  def close(self) -> None:
    """Waits until everything is saved.

    Raises:
      OSError: The first of what could not be written, after the others are.
    """
    errors = [save.exception() for save in self._saves.values()]
    self._thread.submit(self._close_all).result()
    self._thread.shutdown()
    for error in errors:
      if error:
        raise error

  def _write(self, job: Job, step: int, what: dict[str, Any]) -> None:
    saver = self._opened(job)
    if step in saver.all_steps() and (job, step) in self._broken:
      saver.delete(step)
    if step not in saver.all_steps():
      tree = ocp.args.Composite(state=ocp.args.PyTreeSave(what))
      # Forced, as a later step may be there that cannot be read.
      saver.save(step, args=tree, force=True)
    if 'head' in what:
      for known in set(saver.all_steps()) - {step}:
        saver.delete(known)
      self._open.pop(job).close()

  def _read(self, job: Job, rank: Rank | None) -> tuple[Record, State] | None:
    folder = self._folder / _name(job)
    if not folder.is_dir():
      return None
    # Not the saver: if a checkpoint's list of arrays is lost, it guesses one.
    reader = ocp.PyTreeCheckpointer()
    for step in sorted(self._opened(job).all_steps(), reverse=True):
      try:
        saved = reader.restore(folder / str(step) / 'state')
        return _restored(saved, job, rank)
      except Exception as error:  # Orbax has no class of its own for them.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        console.print(
          f'  {folder / str(step)} cannot be read ({reason[:120]}); the one '
          'before it is taken'
        )
        self._broken.add((job, step))
    return None

  def _opened(self, job: Job) -> ocp.CheckpointManager:
    if job not in self._open:
      folder = self._folder / _name(job)
      # Orbax would delete what is half written in a thread of its own.
      for partial in folder.glob('*.orbax-checkpoint-tmp'):
        shutil.rmtree(partial, ignore_errors=True)
      # One file per array: the merged layout cannot be read from folders with
      # brackets in their names.
      handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False)
      self._open[job] = ocp.CheckpointManager(
        folder, options=_OPTIONS, item_handlers={'state': handler}
      )
    return self._open[job]

  def _close_all(self) -> None:
    for saver in self._open.values():
      saver.close()
    self._open.clear()


def _restored(
  saved: dict[str, Any], job: Job, rank: Rank | None
) -> tuple[Record, State]:
  record = Record(job, rank)
  record.add_metrics(np.asarray(saved['metrics']))
  record.resumed = record.step
  scores = {int(epoch): s for epoch, s in saved.get('scores', {}).items()}
  for epoch in sorted(scores):
    record.add_scores(epoch, scores[epoch])
  record.head = saved.get('head')
  return record, saved.get('state', {})


def _name(job: Job) -> Path:
  return Path(job.category, f'seed-{job.seed}')
