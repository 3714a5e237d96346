"""Heads on disk, each in `<folder>/<category>/seed-<seed>/<step>.safetensors`.

A file names no device: heads are resumed on any number of devices, and of
processes that share the folder.
"""

import collections
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors

from simplenet_jax.console import console, first_line
from simplenet_jax.files import atomic_write, write_arrays
from simplenet_jax.training.job import Job
from simplenet_jax.training.progress import HeadProgress, Rank

State = dict[str, np.ndarray]


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
  digest = hashlib.sha256()
  for name in sorted(arrays):
    array = np.asarray(arrays[name], order='C')
    digest.update(f'{name} {array.dtype} {array.shape}\0'.encode())
    digest.update(array.data)
  return digest.hexdigest()


def write(path: Path, arrays: Mapping[str, np.ndarray], **about: str) -> None:
  """Writes arrays, with a digest and what else is to be known of them."""
  write_arrays(path, arrays, {**about, 'sha256': _digest(arrays)})


def read(path: Path) -> tuple[State, dict[str, str]]:
  """Returns the arrays that `write` wrote, and what it wrote about them.

  Raises ValueError or SafetensorError for a file that is damaged.
  """
  with safetensors.safe_open(path, 'np') as file:
    arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about = file.metadata() or {}
  if about.get('sha256') != _digest(arrays):
    raise ValueError('its digest is another one than when it was written')
  return arrays, about


class Checkpoints:
  """The last two checkpoints of each head; several threads can use it."""

  def __init__(self, folder: Path):
    self._folder = folder
    self._unreadable: set[Path] = set()

  def save(self, progress: HeadProgress, state: State | None = None) -> None:
    """Saves a head as it is.

    `state` is all that goes on changing, by name; a finished head has none, and
    its earlier checkpoints are deleted.
    """
    job, step, group = progress.job, progress.step, 'state' if state else 'head'
    arrays = {'metrics': progress.metrics[:, :step]}
    arrays |= {f'scores/{at}': one for at, one in progress.scores.items()}
    for name, array in (state or progress.head or {}).items():
      arrays[f'{group}/{name}'] = array
    with atomic_write(self._path(job, step)) as aside:
      write(aside, arrays)
    # Later ones, from which the head was not resumed, could not be read.
    whole = [one for one in self._steps(job) if one <= step]
    self._keep(job, whole[-2:] if state else whole[-1:])

  def load(
    self, job: Job, rank: Rank | None = None
  ) -> tuple[HeadProgress, State] | None:
    """Returns a head's latest checkpoint that can be read, as it was saved."""
    for step in reversed(self._steps(job)):
      path = self._path(job, step)
      try:
        return _restored(read(path)[0], job, rank)
      except (OSError, ValueError, KeyError, safetensors.SafetensorError) as e:
        if path not in self._unreadable:
          console.print(
            f'  {path} cannot be read ({first_line(e)[:120]}); '
            'the one before it is taken'
          )
        self._unreadable.add(path)
    return None

  def progress(self, job: Job) -> int:
    """Returns how many steps of a head are saved; tidies up after the last."""
    saved = self.load(job)
    step = saved[0].step if saved else 0
    if step == job.steps:
      self._keep(job, [step])
    return step

  def _path(self, job: Job, step: int) -> Path:
    folder = self._folder / job.category / f'seed-{job.seed}'
    return folder / f'{step}.safetensors'

  def _steps(self, job: Job) -> list[int]:
    found = self._path(job, 0).parent.glob('[0-9]*.safetensors')
    return sorted(int(path.stem) for path in found if path.stem.isdecimal())

  def _keep(self, job: Job, kept: list[int]) -> None:
    """Removes all other checkpoints."""
    for step in {*self._steps(job)} - {*kept}:
      self._path(job, step).unlink()


def _restored(
  arrays: State, job: Job, rank: Rank | None
) -> tuple[HeadProgress, State]:
  groups = collections.defaultdict[str, State](dict)
  for name, array in arrays.items():
    group, _, key = name.partition('/')
    groups[group][key] = array
  progress = HeadProgress(job, rank)
  progress.add_metrics(arrays['metrics'])
  for epoch in sorted(map(int, groups['scores'])):
    progress.add_scores(epoch, groups['scores'][str(epoch)])
  progress.head = groups['head'] or None
  return progress, groups['state']
