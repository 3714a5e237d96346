"""A run's directory: whose it is, which heads are finished, what was found.

Processes share this directory and nothing else. `run.json` says what the run is
trained with and on; `progress.json` lists the heads that are finished and what
was found of each category. Both are read and written under one lock: network
file systems show the files of other machines late, but not those that a lock
guards.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
from absl import logging
from ml_collections import ConfigDict

from simplenet_jax.config import RESUMABLE, Config, flatten, from_protocol
from simplenet_jax.console import console
from simplenet_jax.data.images import File, place, weight
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.environment import SINGLE, Processes
from simplenet_jax.evaluation.results import CategoryResult
from simplenet_jax.files import atomic_write, read_json, tidy

POLL_ATTEMPTS = 60  # Looks at a file that another process wrote, 1 s apart.
# What is trained anew, the old heads kept aside, where it is raised.
_LENGTH = ('--config.train.epochs', '--config.train.min_steps')

Progress = dict[str, dict[str, Any]]
Heads = dict[str, dict[str, Any]]  # What is known of a category's, by seed.
# What was found of a category, why it failed, or None while it is to come.
Result = CategoryResult | str | None


class WorkDir:
  """A run's directory, held by one of its processes; see `open_or_resume`.

  Attributes:
    path: The directory.
    resumed: Whether the run had begun before.
  """

  def __init__(self, path: Path, config: Config, categories: Sequence[Inputs]):
    """Reads what the images are; nothing is written yet."""
    self.path, self.resumed = path, False
    self._seeds = [str(seed) for seed in config.seeds]
    self._images = {one.name: fingerprints(one) for one in categories}

  @contextlib.contextmanager
  def locked(self) -> Iterator[None]:
    """Waits until no other process reads or writes what they share."""
    with _hold(self.path / '.lock', wait=True):
      yield

  @contextlib.contextmanager
  def evaluating(self, name: str) -> Iterator[bool]:
    """Yields whether no other process evaluates a category meanwhile."""
    locks = self.path / '.locks/categories'
    locks.mkdir(exist_ok=True)
    with _hold(locks / name, wait=False) as free:
      yield free

  def progress(self) -> Progress:
    """Returns `heads` by category and seed, `results` by category.

    To be called under the lock.
    """
    path = self.path / 'progress.json'
    if not path.exists():
      return {'heads': {}, 'results': {}}
    return _read(path)

  def heads(self) -> dict[str, Heads]:
    """Returns what is known of all heads, by category and seed.

    Those that ended have `test`, the test images that they scored, and `error`,
    why they were given up; `mixed` says that these images changed meanwhile.
    """
    with self.locked():
      progress = self.progress()
    return {name: self._known(progress, name) for name in self._images}

  def scored(self, name: str, head: Mapping[str, Any]) -> bool:
    """Returns whether a head has scored the test images as they are now."""
    return head['test'] == self._images[name]['test']

  def detector_images(self, name: str) -> str:
    """Returns what images a category's detector is made of."""
    images = self._images[name]
    return f'train {images["training"]}; held out {images["validation"]}'

  def note_head(self, name: str, seed: int, error: str | None = None) -> bool:
    """Notes that a head ended; returns whether its category's all have."""
    with self._changed() as progress:
      head = _head(progress, name, seed)
      head |= {'test': self._images[name]['test'], 'error': error}
      return _have_ended(self._known(progress, name))

  def take_up(self, heads: Mapping[tuple[str, int], bool]) -> None:
    """Notes of heads, by category and seed, whether they are to be trained.

    Why these were given up before is dropped; the others have ended.
    """
    with self._changed() as progress:
      for (name, seed), is_left in heads.items():
        head = _head(progress, name, seed)
        if is_left:
          head.pop('test', None)
          head.pop('error', None)
        elif 'test' not in head:
          head |= {'test': self._images[name]['test'], 'error': None}

  def note_result(self, name: str, found: CategoryResult | str) -> None:
    """Notes what was found of a category, or why it failed."""
    with self._changed() as progress:
      progress['results'][name] = {'of': self._of(progress, name), 'is': found}

  def results(self) -> dict[str, Result]:
    """Returns what is known of each category; to be called under the lock."""
    progress = self.progress()
    found: dict[str, Result] = dict.fromkeys(self._images)
    for name in found:
      known = progress['results'].get(name)
      if known and known['of'] == self._of(progress, name):
        found[name] = known['is']
    return found

  def complete(self) -> dict[str, Heads]:
    """Returns `heads` of the categories whose heads have all ended."""
    heads = self.heads()
    return {name: one for name, one in heads.items() if _have_ended(one)}

  def _known(self, progress: Progress, name: str) -> Heads:
    heads = progress['heads'].get(name, {})
    return {seed: heads.get(seed, {}) for seed in self._seeds}

  def _of(self, progress: Progress, name: str) -> dict[str, Any]:
    """Returns what a category's results rest on."""
    return {
      'heads': self._known(progress, name),
      'images': self._images[name],
    }

  @contextlib.contextmanager
  def _changed(self) -> Iterator[Progress]:
    with self.locked():
      progress = self.progress()
      yield progress
      _write(self.path / 'progress.json', progress)

  def _claim(self, config: Config, weights: str, alone: bool) -> None:
    """Takes the directory for this run, or takes the run up again."""
    path = self.path / 'run.json'
    mine = {
      'config': config.to_dict(),
      "the weights' sha256": weights,
      'images': self._images,
    }
    mine = json.loads(json.dumps(mine))
    if not path.exists():
      if (self.path / 'results.json').exists():
        raise ValueError(
          f'{self.path} holds the results of another run; give another '
          '--workdir'
        )
      _write(path, mine)
      return
    theirs, self.resumed = _read(path), True
    longer = self._check_same_run(mine, theirs, alone)
    if longer:
      if not alone:
        raise ValueError(_at_work(self.path))
      self._set_aside(longer)
    progress = self.progress()
    for name, images in self._images.items():
      if theirs['images'][name]['test'] != images['test']:
        # Heads to go on with have scored images that are no longer the same.
        for folder in (self.path / 'checkpoints' / name).glob('seed-*'):
          head = _head(progress, name, folder.name.removeprefix('seed-'))
          if 'test' not in head or head['error']:
            head['mixed'] = True
    _write(self.path / 'progress.json', progress)
    _write(path, mine)

  def _check_same_run(
    self, mine: dict[str, Any], theirs: dict[str, Any], alone: bool
  ) -> str:
    """Raises ValueError where this is another run; names what differs.

    Other seeds, more epochs and other images to test on make no other run.
    Returns the epochs so far where heads are to be trained for more.
    """
    try:
      own, other = _binding(mine), _binding(theirs)
    except (KeyError, TypeError, AttributeError) as error:
      raise ValueError(
        f'{self.path}/run.json: not as a run leaves it ({error!r})'
      ) from None
    if alone:  # Processes that run together have the same seeds.
      other['--config.seeds'] = own['--config.seeds']
    for name in self._images:
      key = f'training images of {name}'
      # They can be mended as long as no head was trained on them.
      if key in other and not self._has_heads(name):
        other[key] = own[key]
    longer = ''
    if all(own[field] >= other[field] for field in _LENGTH):
      if any(own[field] > other[field] for field in _LENGTH):
        longer = str(other[_LENGTH[0]])
      other |= {field: own[field] for field in _LENGTH}
    differing = [
      f'{key} was {other.get(key)!r}, is {own.get(key)!r}'
      for key in dict.fromkeys((*own, *other))
      if own.get(key) != other.get(key)
    ]
    if differing:
      raise ValueError(
        f'{self.path} holds another run: {"; ".join(differing)}; set them as '
        'they were to resume it, or give another --workdir'
      )
    return longer

  def _has_heads(self, name: str) -> bool:
    return any((self.path / 'checkpoints' / name).glob('*/*'))

  def _set_aside(self, epochs: str) -> None:
    """Moves what heads of fewer epochs have left out of the way."""
    aside = self.path / f'of-{epochs}-epochs'
    aside.mkdir(exist_ok=True)
    for one in self.path.iterdir():
      if not one.name.startswith(('.', 'of-', 'run.json')):
        one.replace(aside / one.name)
    console.print(f'  {aside}/ keeps what was trained for {epochs} epochs')


@contextlib.contextmanager
def open_or_resume(
  path: Path,
  config: Config,
  weights: str,
  categories: Sequence[Inputs],
  processes: Processes = SINGLE,
) -> Iterator[WorkDir]:
  """Holds a work directory for a run, or takes an earlier run up again.

  A run is known by its content, the weights by their sha256: where images and
  weights lie, and what they are called there, does not matter. However this
  process ends, the directory is free afterwards.

  Raises:
    ValueError: If it holds another run, which names what differs, or another
      run is at work in it.
  """
  locks = path / '.locks/processes'
  locks.mkdir(parents=True, exist_ok=True)
  work = WorkDir(path, config, categories)
  own = f'{processes.index}-of-{processes.count}'
  with contextlib.ExitStack() as held:
    with work.locked():
      if not held.enter_context(_hold(locks / own, wait=False)):
        raise ValueError(_at_work(path))
      busy = [lock.name for lock in locks.iterdir() if _is_held(lock, own)]
      if any(not one.endswith(f'-of-{processes.count}') for one in busy):
        raise ValueError(_at_work(path))
      if not busy:
        tidy(path)  # Of what killed processes left half-written.
      work._claim(config, weights, alone=not busy)
    yield work


def wait_for(found: Callable[[], Any], what: str) -> Any:
  """Returns what a function finds, as soon as it is not None.

  File systems of networks show what other machines wrote after a while. Tells
  what is waited for; returns None where it did not come.
  """
  for attempt in range(POLL_ATTEMPTS):
    if (value := found()) is not None:
      return value
    if not attempt:
      console.print(
        f'  waits for {what}, which another process has written, '
        f'{POLL_ATTEMPTS} s at most'
      )
    time.sleep(1)
  return None


def fingerprints(one: Inputs) -> dict[str, str]:
  """Returns the number and a digest of a category's files, by their use.

  Images count by their names and sizes; masks, which people correct, by their
  content.
  """
  category = one.category
  test = [sample.path for sample in category.test]
  masks = [mask for sample in category.test for mask in sample.masks]
  return {
    'training': _digest(category.train, weight),
    'validation': _digest(category.validation, weight),
    'test': _digest(test, weight),
    'masks': _digest(masks, _content),
  }


def _head(progress: Progress, name: str, seed: int | str) -> dict[str, Any]:
  return progress['heads'].setdefault(name, {}).setdefault(str(seed), {})


def _have_ended(heads: Heads) -> bool:
  return all('test' in head for head in heads.values())


def _digest(files: Sequence[File], of: Callable[[File], object]) -> str:
  digest = hashlib.sha256()
  for file in files:
    digest.update(f'{place(file)}\0{of(file)}\0'.encode())
  return f'{len(files)}, digest {digest.hexdigest()[:16]}'


def _content(file: File) -> str:
  return hashlib.sha256(file.read_bytes()).hexdigest()


def _binding(run: dict[str, Any]) -> dict[str, Any]:
  """Returns what makes a run this one, by its name."""
  # A run of before there was a setting did as `reference` does.
  settings = flatten(from_protocol()) | flatten(ConfigDict(run['config']))
  found = {
    f'--config.{field}': list(value) if isinstance(value, tuple) else value
    for field, value in settings.items()
    if not field.startswith(RESUMABLE)
  }
  found["the weights' sha256"] = run["the weights' sha256"]
  for name, images in run['images'].items():
    found[f'training images of {name}'] = images['training']
  return found


def _at_work(path: Path) -> str:
  return (
    f'another run is at work in {path}; wait for it, stop it, or give another '
    '--workdir'
  )


def _is_held(lock: Path, own: str) -> bool:
  if lock.name == own:
    return False
  with _hold(lock, wait=False) as free:
    return not free


@contextlib.contextmanager
def _hold(path: Path, *, wait: bool) -> Iterator[bool]:
  """Holds a lock, which ends with the process; yields whether it is held."""
  lock = filelock.FileLock(path)
  try:
    lock.acquire(timeout=-1 if wait else 0)
    held = True
  except filelock.Timeout:
    held = False
  except NotImplementedError:  # Some network file systems know no locks.
    logging.log_first_n(
      logging.WARNING,
      '%s cannot be locked: see that no other run is at work here',
      1,
      path,
    )
    held = True
  try:
    yield held
  finally:
    lock.release()


def _read(path: Path) -> dict[str, Any]:
  try:
    found = read_json(path)
    if not isinstance(found, dict):
      raise ValueError('not an object')
  except ValueError as error:
    raise ValueError(f'{path}: not as a run leaves it ({error})') from None
  return found


def _write(path: Path, content: dict[str, Any]) -> None:
  with atomic_write(path) as aside:
    aside.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
