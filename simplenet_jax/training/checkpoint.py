"""Heads on disk, each in `<folder>/<category>/seed-<seed>.safetensors`.

A file names no device: heads are resumed on any number of devices, and of
processes that share the folder.
"""

import collections
import hashlib
import os
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
  """Each head as it was saved last; several threads can use it."""

  def __init__(self, folder: Path):
    self._folder = folder

  def save(self, progress: HeadProgress, state: State | None = None) -> None:
    """Saves a head as it is, in place of what was saved before.

    `state` is all that goes on changing, by name; a finished head has none.
    """
    group = 'state' if state else 'head'
    arrays = {'metrics': progress.metrics[:, : progress.step]}
    arrays |= {f'scores/{at}': one for at, one in progress.scores.items()}
    for name, array in (state or progress.head or {}).items():
      arrays[f'{group}/{name}'] = array
    with atomic_write(self._path(progress.job)) as aside:
      write(aside, arrays)
      with aside.open('rb') as file:
        os.fsync(file)  # So that a power cut leaves one of the two.

  def load(
    self, job: Job, rank: Rank | None = None
  ) -> tuple[HeadProgress, State] | None:
    """Returns a head as it was saved last, unless that cannot be read."""
    path = self._path(job)
    try:
      return _restored(read(path)[0], job, rank)
    except FileNotFoundError:
      return None
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as e:
      console.print(
        f'  {path} cannot be read ({first_line(e)[:120]}); the head is trained '
        'from its first step'
      )
      return None

  def progress(self, job: Job) -> int:
    """Returns how many steps of a head are saved; what is damaged goes."""
    if saved := self.load(job):
      return saved[0].step
    self._path(job).unlink(missing_ok=True)
    return 0

  def _path(self, job: Job) -> Path:
    return self._folder / job.category / f'seed-{job.seed}.safetensors'


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
