"""A run's directory: whose it is, which heads have ended, what was found.

Processes share this directory and nothing else. `run.json` says what the run is
trained with and on, how far its heads are and what was found of each category.
It is read and written under one lock: network file systems show the files of
other machines late, but not those that a lock guards.
"""

import contextlib
import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
from absl import logging

from simplenet_jax.config import RESUMABLE, Config, flatten, from_protocol
from simplenet_jax.console import console, counted
from simplenet_jax.data.images import File, place, weight
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.environment import SINGLE, Processes
from simplenet_jax.evaluation.results import CategoryResult
from simplenet_jax.fields import resolved
from simplenet_jax.files import naming, read_json, tidy, write_text
from simplenet_jax.training.job import Job

MIXED = 'mixed'  # Test images that changed while a head was trained.
_REMEDY = 'give another --workdir'  # Where `run.json` is damaged.
_NEW = {'test': None, 'ended': False, 'error': None}
_WEIGHTS = "the weights' sha256"
# What is trained anew, the old heads kept aside, where it is raised.
_LENGTH = ('--config.train.epochs', '--config.train.min_steps')
_SEEDS = '--config.seeds'

State = dict[str, Any]  # What `run.json` holds.
# By seed: `test`, the test images that all of a head's scores are of, whether
# it `ended`, and the `error` that it was given up for.
Heads = dict[str, dict[str, Any]]
# What was found of a category, why it failed, or None while it is to come.
Result = CategoryResult | str | None


class WorkDir:
  """A run's directory, held by one of its processes; see `open_or_resume`."""

  def __init__(self, path: Path, config: Config, categories: Sequence[Inputs]):
    self.path, self._seeds = path, [str(seed) for seed in config.seeds]
    self.images = {one.name: fingerprints(one) for one in categories}
    self._lock = filelock.FileLock(path / '.lock')
    self._thread = threading.RLock()  # Also where files know no locks.

  @contextlib.contextmanager
  def locked(self) -> Iterator[State]:
    """Yields `run.json` to this thread alone; what it changes is written."""
    path = self.path / 'run.json'
    with self._thread, _held(self._lock, wait=True):
      state = read_json(path, _REMEDY) if path.exists() else {}
      before = json.dumps(state, indent=1)
      yield state
      after = json.dumps(state, indent=1)
      if after != before:
        write_text(path, f'{after}\n')

  def evaluating(self, name: str) -> contextlib.AbstractContextManager[bool]:
    """Yields whether no other process evaluates a category meanwhile."""
    return _held(filelock.FileLock(self.path / '.locks/categories' / name))

  def heads(self) -> dict[str, Heads]:
    """Returns what is known of the run's heads, by category."""
    with self.locked() as state:
      return {name: self._heads(state, name) for name in self.images}

  def _heads(self, state: State, name: str) -> Heads:
    known = state['heads']
    return {seed: known.get(f'{name}/{seed}', _NEW) for seed in self._seeds}

  def results(self) -> dict[str, Result]:
    """Returns what is known of each category, with these heads and images."""
    with self.locked() as state, naming(self.path / 'run.json', _REMEDY):
      known, found = state['results'], {}
      for name in self.images:
        of, result = known.get(name, (None, None))
        found[name] = result if of == self._basis(state, name) else None
      return found

  def _basis(self, state: State, name: str) -> list[Any]:
    """Returns what a category's results rest on."""
    return [self._heads(state, name), self.images[name]]

  def take_up(self, steps: Mapping[Job, int]) -> None:
    """Notes how many steps of these heads are saved; they are to go on."""
    with self.locked() as state, naming(self.path / 'run.json', _REMEDY):
      for job, step in steps.items():
        key, now = f'{job.category}/{job.seed}', self.images[job.category]
        test, ended = state['heads'].get(key, _NEW)['test'], step == job.steps
        if not step or not test:
          test = now['test']
        elif test != now['test'] and not ended:
          test = MIXED
        state['heads'][key] = {'test': test, 'ended': ended, 'error': None}

  def note_end(self, job: Job, error: str | None = None) -> bool:
    """Notes that a head ended; returns whether its category's all have."""
    with self.locked() as state:
      head = state['heads'][f'{job.category}/{job.seed}']
      head |= {'ended': True, 'error': error}
      heads = self._heads(state, job.category)
      return all(head['ended'] for head in heads.values())

  def note_result(self, name: str, found: CategoryResult | str) -> None:
    """Notes what was found of a category, or why it failed."""
    with self.locked() as state:
      state['results'][name] = [self._basis(state, name), found]

  def _claim(self, state: State, mine: State, alone: bool) -> None:
    """Takes the directory for this run, or takes the run up again.

    Other seeds, more epochs and other images to test on make no other run.
    """
    path = self.path / 'run.json'
    if not path.exists() and (self.path / 'results.json').exists():
      raise ValueError(
        f'{self.path} holds the results of another run; give another --workdir'
      )
    with naming(path, _REMEDY):
      own = _binding(mine)
      other = _binding(state) if path.exists() else {**own}
      epochs, seeds = other[_LENGTH[0]], other[_SEEDS]
      grown = {f: own[f] for f in _LENGTH if own[f] > other[f]}
    if alone:  # Processes that run together have the same seeds and epochs.
      other |= {_SEEDS: own[_SEEDS]} | grown
    for name in self.images:
      key, folder = f'training images of {name}', self.path / 'checkpoints'
      # They can be mended as long as no head was trained on them.
      if key in other and not any((folder / name).glob('*/*')):
        other[key] = own[key]
    differing = []
    for key in dict.fromkeys((*own, *other)):
      if (was := other.get(key)) != (now := own.get(key)):
        differing.append(f'{key} was {was!r}, is {now!r}')
    if differing:
      raise ValueError(
        f'{self.path} holds another run: {"; ".join(differing)}; set them as '
        'they were to resume it, or give another --workdir'
      )
    # What a head leaves out depends on the others.
    parted = own['--config.train.folds'] and seeds != own[_SEEDS]
    if grown or parted:
      what = (epochs, 'epoch') if grown else (len(seeds), 'seed')
      self._set_aside(counted(*what))
      state |= {'heads': {}, 'results': {}}
    state |= {'heads': {}, 'results': {}} | state | mine

  def _set_aside(self, what: str) -> None:
    """Moves what heads of other lengths or parts have left out of the way."""
    aside = self.path / f'of-{what.replace(" ", "-")}'
    while (aside / 'checkpoints').exists():
      aside = aside.with_name(f'{aside.name}-later')
    aside.mkdir(exist_ok=True)
    shutil.copy(self.path / 'run.json', aside)
    for one in self.path.iterdir():
      if not one.name.startswith(('.', 'of-', 'run.json')):
        one.replace(aside / one.name)
    console.print(f'  {aside}/ keeps what was trained for {what}')


def earlier_config(path: Path) -> dict[str, Any]:
  """Returns the settings of a directory's run; empty if there is none."""
  path /= 'run.json'
  with naming(path, _REMEDY):
    return read_json(path, _REMEDY)['config'] if path.exists() else {}


@contextlib.contextmanager
def open_or_resume(
  path: Path,
  config: Config,
  weights: str,
  categories: Sequence[Inputs],
  processes: Processes = SINGLE,
) -> Iterator[WorkDir]:
  """Holds a work directory for a run, or takes an earlier run up again.

  A run is known by its content, the `weights` by their sha256: where images and
  weights lie, and what they are called there, does not matter. A ValueError
  names what differs if another run is, or was, at work there.
  """
  locks = path / '.locks/processes'
  for folder in (locks, path / '.locks/categories'):
    folder.mkdir(parents=True, exist_ok=True)
  work = WorkDir(path, config, categories)
  own = f'{processes.index}-of-{processes.count}'
  with contextlib.ExitStack() as held:
    with work.locked() as state:
      busy = []
      for lock in locks.iterdir():
        with _held(filelock.FileLock(lock)) as is_free:
          busy += [] if is_free else [lock.name]
      of_run = f'-of-{processes.count}'
      if own in busy or not all(name.endswith(of_run) for name in busy):
        raise ValueError(
          f'another run is at work in {path}; wait for it, stop it, or give '
          'another --workdir'
        )
      held.enter_context(_held(filelock.FileLock(locks / own)))
      if not busy:
        tidy(path)  # Of what killed processes left half-written.
      mine = {'config': config.to_dict(), 'images': work.images}
      mine = json.loads(json.dumps(mine | {_WEIGHTS: weights}))
      work._claim(state, mine, alone=not busy)
    yield work


def fingerprints(one: Inputs) -> dict[str, str]:
  """Counts and digests files: images by name and size, masks by content."""
  category = one.category
  region = {} if one.roi is None else {'region': _sha256(one.roi.tobytes())}
  masks = [mask for sample in category.test for mask in sample.masks]
  return region | {
    'training': _digest(category.train, weight),
    'validation': _digest(category.validation, weight),
    'test': _digest([sample.path for sample in category.test], weight),
    'masks': _digest(masks, lambda file: _sha256(file.read_bytes())),
  }


def _sha256(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()


def _digest(files: Sequence[File], of: Callable[[File], object]) -> str:
  digest = hashlib.sha256()
  for file in files:
    digest.update(f'{place(file)}\0{of(file)}\0'.encode())
  return f'{len(files)}, digest {digest.hexdigest()[:16]}'


def _binding(run: State) -> dict[str, Any]:
  """Returns what makes a run this one, by its name."""
  # A run of before there was a setting did as `reference` does; settings that
  # are gone decide nothing if they were off.
  settings = flatten(from_protocol())
  given = flatten(run['config'])
  settings |= {name: x for name, x in given.items() if x or name in settings}
  found = {
    f'--config.{field}': list(value) if isinstance(value, tuple) else value
    for field, value in resolved(settings).items()
    if not field.startswith(RESUMABLE)
  }
  found[_WEIGHTS] = run[_WEIGHTS]
  for name, images in run['images'].items():
    found[f'training images of {name}'] = images['training']
    found[f'region of interest of {name}'] = images.get('region')
    if settings['train.folds']:  # Heads leave images out where this is so.
      lacks = images['validation'].startswith('0,')
      found[f'{name} without validation images'] = lacks
  return found


@contextlib.contextmanager
def _held(lock: filelock.BaseFileLock, wait: bool = False) -> Iterator[bool]:
  """Holds a lock, which ends with the process; yields whether it is held."""
  is_held = True
  try:
    lock.acquire(timeout=-1 if wait else 0)
  except filelock.Timeout:
    is_held = False
  except NotImplementedError:  # Some network file systems know no locks.
    told = '%s cannot be locked: see that no other run is at work here'
    logging.log_first_n(logging.WARNING, told, 1, lock.lock_file)
  try:
    yield is_held
  finally:
    lock.release()
