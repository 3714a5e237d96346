"""Heads on disk: the only place that knows orbax.

Orbax keeps each head in `<folder>/<category>/seed-<seed>/<step>`, in one
safetensors file without any device's name: heads are resumed on any number of
devices, and of processes that share the folder.
"""

import collections
import dataclasses
import hashlib
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import safetensors
from absl import logging

from simplenet_jax.console import Stop, console, first_line
from simplenet_jax.files import write_arrays
from simplenet_jax.training.job import Job
from simplenet_jax.training.progress import HeadProgress, Rank

# Orbax logs every save, and warns of what is no concern here.
logging.get_absl_logger().addFilter(
  lambda line: (
    'orbax' not in line.pathname or line.levelname in ('ERROR', 'CRITICAL')
  )
)

State = dict[str, np.ndarray]

_ATTEMPTS = 60  # Looks at what another process wrote, 1 s apart.
_FILE = 'arrays.safetensors'  # In a checkpoint's folder.
_PARTIAL = '.orbax-checkpoint-tmp'  # What orbax calls those that are not whole.


class _Handler(ocp.CheckpointHandler):
  """Writes arrays to one file; orbax's own do so from process 0 only."""

  def save(self, directory: Any, args: '_Arrays') -> None:
    write(Path(directory, _FILE), args.arrays)

  def restore(self, directory: Any, args: Any = None) -> State:
    return read(Path(directory, _FILE))[0]


@ocp.args.register_with_handler(_Handler, for_save=True, for_restore=True)
@dataclasses.dataclass
class _Arrays(ocp.args.CheckpointArgs):
  arrays: State


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


def read_if_of(path: Path, of: str) -> State | None:
  """Returns the arrays of a file that `write` made of this, if there is one."""
  if not path.exists():
    return None
  try:
    arrays, about = read(path)
  except (OSError, ValueError, safetensors.SafetensorError) as error:
    console.print(f'  {path} cannot be read ({first_line(error)[:120]})')
    return None
  return arrays if about.get('of') == of else None


class Checkpoints:
  """The last two checkpoints of each head; several threads can use it."""

  def __init__(self, folder: Path):
    self._folder = folder.absolute()
    own = jax.process_index()
    self._saver = ocp.Checkpointer(
      _Handler(),
      # Every process saves heads of its own, and waits for no other.
      multiprocessing_options=ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}
      ),
    )
    # Orbax numbers its operations in a way that two threads upset.
    self._lock = threading.Lock()
    self._failed: set[Job] = set()  # Heads whose last save failed.
    self._unreadable: set[Path] = set()

  def save(self, progress: HeadProgress, state: State | None = None) -> None:
    """Saves a head as it is; one that failed once is told as a warning.

    `state` is all that goes on changing, by name; a finished head has none, and
    its earlier checkpoints are deleted. An OSError tells of a finished head, or
    of one twice in a row, that could not be written.
    """
    job, step, group = progress.job, progress.step, 'state' if state else 'head'
    arrays = {'metrics': progress.metrics[:, :step]}
    arrays |= {f'scores/{at}': one for at, one in progress.scores.items()}
    for name, array in (state or progress.head or {}).items():
      arrays[f'{group}/{name}'] = array
    with self._lock:
      try:
        path = self._path(job) / str(step)
        self._saver.save(path, args=_Arrays(arrays), force=True)
        # Later ones, from which the head was not resumed, could not be read.
        whole = [one for one in self._steps(job) if one <= step]
        self._tidy(job, whole[-2:] if state else whole[-1:])
        self._failed.discard(job)
      except OSError as error:
        if not state or job in self._failed:
          raise
        self._failed.add(job)
        logging.warning(
          '%s: a checkpoint could not be saved (%s); the next one is tried',
          self._path(job),
          first_line(error),
        )

  def load(
    self, job: Job, rank: Rank | None = None
  ) -> tuple[HeadProgress, State] | None:
    """Returns a head's latest checkpoint that can be read, as it was saved."""
    for step in reversed(self._steps(job)):
      path = self._path(job) / str(step)
      try:
        return _restored(read(path / _FILE)[0], job, rank)
      except (OSError, ValueError, KeyError, safetensors.SafetensorError) as e:
        if path not in self._unreadable:
          told = f'({first_line(e)[:120]}); the one before it is taken'
          console.print(f'  {path} cannot be read {told}')
        self._unreadable.add(path)
    return None

  def finished(self, job: Job, rank: Rank | None, stop: Stop) -> HeadProgress:
    """Returns a finished head; network file systems show it after a while.

    Raises Signalled where it is waited for and the run is to `stop`.
    """
    for attempt in range(_ATTEMPTS):
      saved = self.load(job, rank)
      if saved and saved[0].finished:
        return saved[0]
      if not attempt:
        told = f'a checkpoint of {job.category} of another process'
        console.print(f'  waits for {told}, {_ATTEMPTS} s at most')
      stop.wait(1)
      stop.heed()
    raise ValueError(f'the checkpoint of seed {job.seed} is missing')

  def progress(self, job: Job) -> int:
    """Returns how many steps of a head are saved; tidies up after the last."""
    saved = self.load(job)
    step = saved[0].step if saved else 0
    if step == job.steps:
      self._tidy(job, [step])
    return step

  def _path(self, job: Job) -> Path:
    return self._folder / job.category / f'seed-{job.seed}'

  def _steps(self, job: Job) -> list[int]:
    names = [path.name for path in self._path(job).glob('[0-9]*')]
    return sorted(int(name) for name in names if name.isdecimal())

  def _tidy(self, job: Job, kept: Iterable[int]) -> None:
    """Removes all other checkpoints, and what is not whole."""
    for step in set(self._steps(job)) - set(kept):
      path = self._path(job) / str(step)
      # So that none is ever half there under its name.
      path.rename(path.with_name(path.name + _PARTIAL))
    for path in self._path(job).glob(f'*{_PARTIAL}'):
      shutil.rmtree(path, ignore_errors=True)


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
