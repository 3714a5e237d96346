"""What a person sees of heads in training: live lines and TensorBoard."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simplenet_jax.console import Board
from simplenet_jax.training.job import Job
from simplenet_jax.training.record import Record

if TYPE_CHECKING:
  import tensorboardX


class Watch:
  """Follows the heads of a run; called from all workers' threads."""

  def __init__(
    self,
    board: Board,
    jobs: Sequence[Job],
    scalars: Mapping[str, Path | None],
  ):
    """Prepares.

    Args:
      board: Where lines are shown.
      jobs: The heads that are left to train.
      scalars: By variant, the folder of TensorBoard's files, one folder per
        head; or None.
    """
    self._board, self._scalars = board, scalars
    self._lock = threading.Lock()
    self._seeds: dict[str, int] = {}
    for job in jobs:
      self._seeds[job.label] = self._seeds.get(job.label, 0) + 1
    self._seen: dict[str, dict[int, Record]] = {}
    self._writers: dict[Job, tensorboardX.SummaryWriter] = {}
    self._written: dict[Job, int] = {}

  def __enter__(self) -> 'Watch':
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def on_batch(self, name: str, done: int, total: int) -> None:
    """Shows how many images of a category are through the backbone."""
    label = f'{name}, features'
    self._board.show(label, done, total, f'{done}/{total} images')
    if done == total:
      self._board.end(label, f'{total} images')

  def on_steps(self, record: Record) -> None:
    """Shows a category's progress and writes its new epochs."""
    with self._lock:
      self._on_steps(record)

  def _on_steps(self, record: Record) -> None:
    name = record.job.label
    seen = self._seen.setdefault(name, {})
    seen[record.job.seed] = record
    heads = list(seen.values())
    done = sum(head.step for head in heads)
    total = record.job.steps * self._seeds[name]
    self._board.show(name, done, total, _note(heads, self._seeds[name]))
    if folder := self._scalars[record.job.variant]:
      self._write(folder, record)

  def end(self, job: Job) -> None:
    """Replaces the lines of a head's category by what came of it, if any."""
    name = job.label
    heads = [
      head for head in self._seen.pop(name, {}).values() if head.finished
    ]
    self._board.end(f'{job.category}, features')
    self._board.end(name, _note(heads, len(heads)) if heads else '')

  def close(self) -> None:
    """Flushes TensorBoard's files."""
    for writer in self._writers.values():
      writer.close()

  def _write(self, scalars: Path, record: Record) -> None:
    job, epochs = record.job, record.epochs()
    known = len(epochs['loss'])
    first = self._written.setdefault(job, 0)
    if known <= first:
      return
    if job not in self._writers:
      # Where PyTorch is installed this imports it, which takes seconds.
      import tensorboardX

      folder = scalars / job.category / f'seed-{job.seed}'
      # A run that goes on writes all of it anew: what was written before it was
      # interrupted can have gaps.
      self._writers[job] = tensorboardX.SummaryWriter(str(folder), purge_step=1)
    writer = self._writers[job]
    for epoch in range(first, known):
      for name, values in epochs.items():
        writer.add_scalar(name, float(values[epoch]), epoch + 1)
    self._written[job] = known
    if record.finished:
      writer.close()


def _note(heads: list[Record], seeds: int) -> str:
  """Describes the heads' latest epochs (of steps, where none is whole)."""
  epochs = [head.step / head.job.steps_per_epoch for head in heads]
  lately = [
    head.metrics[:, max(0, head.step - head.job.steps_per_epoch) : head.step]
    for head in heads
  ]
  means = np.mean([part.mean(1) for part in lately], axis=0)
  loss, normal, counterfeit = means.tolist()
  ended = sum(head.finished for head in heads)
  through = f', {ended} of {seeds} seeds through' if seeds > 1 else ''
  return (
    f'epoch {min(epochs):.0f}/{heads[0].job.epochs}{through}, loss {loss:.3f}, '
    f'beyond margin {normal:.0%} / {counterfeit:.0%}'
  )
