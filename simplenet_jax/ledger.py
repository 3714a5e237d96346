"""Whose results a work directory holds: `run.json`, and its check."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import jax

from simplenet_jax.config import RESUMABLE, Config, flatten, from_protocol
from simplenet_jax.console import console
from simplenet_jax.data.images import place, weight
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.files import read_json, tidy, written_aside

_LOOKS = 30  # At a file that another process has made, a second apart.


def claim(
  workdir: Path, config: Config, weights: str, categories: Sequence[Inputs]
) -> bool:
  """Takes a work directory for a run, or takes an earlier run up again.

  Args:
    workdir: The directory; made where missing.
    config: The settings.
    weights: The backbone's sha256.
    categories: The images.

  Returns:
    Whether it is an earlier run's, which was the same one.

  Raises:
    ValueError: If it holds another run; names what differs.
  """
  path = workdir / 'run.json'
  mine = _entry(config, weights, categories)
  if path.exists():
    try:
      theirs = read_json(path)
      if not isinstance(theirs, dict):
        raise ValueError('not an object')
    except ValueError as error:
      raise ValueError(f'{path}: not as a run leaves it ({error})') from None
    for field, value in flatten(from_protocol()).items():
      # A run of before there was this setting did as `reference` does.
      if f'--config.{field}' in mine:
        theirs.setdefault(f'--config.{field}', json.loads(json.dumps(value)))
    for one in categories:
      # Images can be mended as long as no head was trained on them.
      trained = any((workdir / 'checkpoints' / one.name).glob('*/*'))
      if not trained and _images(one) in theirs:
        theirs[_images(one)] = mine[_images(one)]
    if differing := _differing(mine, theirs):
      raise ValueError(
        f'{workdir} holds another run: {"; ".join(differing)}; set them as '
        'they were to resume it, or give another --workdir'
      )
    _write(path, theirs)
    return True
  if (workdir / 'results.json').exists():
    raise ValueError(
      f'{workdir} holds the results of another run; give another --workdir'
    )
  _write(path, mine)
  return False


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
  """Keeps other runs out of a work directory.

  However this process ends, the directory is free afterwards. What earlier ones
  left half-written is removed.

  Args:
    workdir: The directory; made where missing.

  Raises:
    ValueError: If another run is at work in it.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  lock = filelock.FileLock(workdir / '.lock')
  try:
    lock.acquire(blocking=False)
  except filelock.Timeout:
    raise ValueError(
      f'another run is at work in {workdir}; wait for it, stop it, or give '
      'another --workdir'
    ) from None
  except NotImplementedError:  # Some network file systems know no locks.
    console.print(
      f'  {workdir} cannot be locked: see that no other run uses it'
    )
  try:
    tidy(workdir)
    yield
  finally:
    lock.release()


def verify(
  workdir: Path, config: Config, weights: str, categories: Sequence[Inputs]
) -> None:
  """Checks that this process sees the work directory that another one claimed.

  Args:
    workdir: The directory.
    config: The settings.
    weights: The backbone's sha256.
    categories: The images.

  Raises:
    ValueError: If it is not shared by them, or settings, weights or images are
      others here than there.
  """
  path, mine = workdir / 'run.json', _entry(config, weights, categories)
  # Some shared file systems show new files only after a while.
  for _ in range(_LOOKS):
    if path.exists():
      break
    time.sleep(1)
  else:
    raise ValueError(
      f'{path} of process 0 is not seen by process {jax.process_index()}; give '
      'a --workdir on storage that all processes share'
    )
  theirs = read_json(path)
  if differing := _differing(mine, theirs):
    raise ValueError(
      f'process {jax.process_index()} is to do something else than process 0: '
      f'{"; ".join(differing)}'
    )


def _write(path: Path, entry: dict[str, Any]) -> None:
  with written_aside(path) as aside:
    aside.write_text(json.dumps(entry, indent=2) + '\n', encoding='utf-8')


def _images(one: Inputs) -> str:
  return f'images of {one.name}'


def _entry(
  config: Config, weights: str, categories: Sequence[Inputs]
) -> dict[str, Any]:
  settings = {
    f'--config.{field}': value
    for field, value in flatten(config).items()
    if not field.startswith(RESUMABLE)
  }
  return json.loads(
    json.dumps(
      {
        **settings,
        "the weights' sha256": weights,
        **{_images(one): fingerprint(one) for one in categories},
      }
    )
  )


def fingerprint(one: Inputs) -> str:
  """Returns the files' number and a digest of their names and sizes."""
  digest = hashlib.sha256()
  masks = sum(bool(sample.masks) for sample in one.category.test)
  test = [
    (sample.path, *(sample.masks or (None,))) for sample in one.category.test
  ]
  held = one.category.validation
  for path in (*one.category.train, *held, *(p for pair in test for p in pair)):
    if path is None:
      digest.update(b'-')
      continue
    digest.update(f'{place(path)}\0{weight(path)}\0'.encode())
  train, test = len(one.category.train), len(one.category.test)
  digits = digest.hexdigest()[:16]
  return (
    f'{train} train, {len(held)} held out, {test} test, {masks} masks, digest '
    f'{digits}'
  )


def _differing(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
  fields = dict.fromkeys((*mine, *theirs))
  return [
    f'{field} was {theirs.get(field)!r}, is {mine.get(field)!r}'
    for field in fields
    if mine.get(field) != theirs.get(field)
  ]
