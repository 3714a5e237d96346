"""Gives the commands hostile input and judges how each of them ends.

  python -m benchmarks.fuzz --count=10000
  python -m benchmarks.fuzz --seconds=60 --only=detector,settings

Images, masks, names, links, settings, weights, detectors, checkpoints, work
directories and archives are made, then damaged, forged or replaced. Each
command must end in success, or in one line that says why and status 1 or 2:
with no traceback, in time, within bounds of memory, with nothing half-written
left behind, and without having run what a file holds. Writes
benchmarks/results/fuzz.json and fails if a command did otherwise; what led to
that is kept in --keep. A case is made anew by its kind and number:

  python -m benchmarks.fuzz --only=detector --first=1234 --count=1
"""

import collections
import pathlib
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

from absl import flags

from benchmarks import timing
from benchmarks.fuzzing import ground, judge, of_files, of_images
from simplenet_jax import cli

_COUNT = flags.DEFINE_integer('count', 10_000, 'Inputs, at least.', 1)
_SECONDS = flags.DEFINE_float('seconds', 1e9, 'After which none is begun.')
_FIRST = flags.DEFINE_integer('first', 0, 'The first number.', 0)
_ONLY = flags.DEFINE_list('only', [], 'Which kinds; all if not given.')
_KEEP = flags.DEFINE_string('keep', 'runs/fuzz', 'Where findings go, a folder.')

_JUDGES = 2  # At work at once.

# Kinds, and how many of them are tried for one of the rarest.
KINDS = {
  'trained_on': (of_images.trained_on, 2),
  'settings': (of_files.settings, 30),
  'weights': (of_files.weights, 18),
  'detector': (of_files.detector, 16),
  'released': (of_files.released, 9),
  'workdir': (of_files.workdir, 6),
  'archive': (of_files.archive, 16),
  'images': (of_images.images, 2),  # Forty inputs each, as names.
  'names': (of_images.names, 2),
}


def order(kinds: Sequence[str], first: int) -> Iterator[tuple[str, int]]:
  """Yields kinds and numbers without end, the frequent kinds more often."""
  numbers = dict.fromkeys(kinds, first)
  while True:
    for kind in kinds:
      for _ in range(KINDS[kind][1]):
        yield kind, numbers[kind]
        numbers[kind] += 1


def work_off(
  known: ground.Ground, left: Iterator[tuple[str, int]], found: list[Any]
) -> None:
  """Makes cases, runs them, notes how they end, keeps those that end wrong."""
  run, end = judge.started(known.folder / 'compiled')
  try:
    for kind, number in left:
      label = f'{kind}-{number}'
      folder = known.folder / 'cases' / label
      folder.mkdir(parents=True)
      make, _ = KINDS[kind]
      case = make(random.Random(label), known, folder)  # noqa: S311
      outcome = run(case, folder)
      wrong = judge.wrong(case, outcome, folder)
      if wrong:
        wrong = f'{label}: {wrong} ({case.told[:200]})'
        print(f'WRONG {wrong!a}')
        keep(folder, pathlib.Path(_KEEP.value) / label)
      found.append((kind, case.inputs, outcome, wrong))
      shutil.rmtree(folder)
  finally:
    end()


def keep(folder: pathlib.Path, kept: pathlib.Path) -> None:
  """Copies a case, but for its pipes: nothing ever comes out of them."""

  def pipes(place: str, names: list[str]) -> list[str]:
    return [name for name in names if pathlib.Path(place, name).is_fifo()]

  shutil.rmtree(kept, ignore_errors=True)
  shutil.copytree(folder, kept, symlinks=True, ignore=pipes)


def main() -> None:
  """Tries, and writes what was found."""
  if unknown := sorted(set(_ONLY.value) - set(KINDS)):
    raise ValueError(f'--only names {unknown[0]}; choose of {", ".join(KINDS)}')
  kinds = [kind for kind in KINDS if not _ONLY.value or kind in _ONLY.value]
  found: list[tuple[str, int, judge.Outcome, str | None]] = []
  wrong, lock = [], threading.Lock()
  numbers, until = order(kinds, _FIRST.value), time.monotonic() + _SECONDS.value

  def left() -> Iterator[tuple[str, int]]:
    while sum(n for _, n, _, _ in found) < _COUNT.value:
      if time.monotonic() > until:
        return
      with lock:
        drawn = next(numbers)
      yield drawn

  with tempfile.TemporaryDirectory() as folder:
    known = ground.lay(pathlib.Path(folder))
    with futures.ThreadPoolExecutor(_JUDGES) as pool:
      for ended in [
        pool.submit(work_off, known, left(), found) for _ in range(_JUDGES)
      ]:
        try:
          ended.result()
        except Exception as error:  # What was tried is told all the same.
          wrong.append(f'a judge gave up: {error}')
  wrong += [one for _, _, _, one in found if one]
  if not found:
    wrong.append('nothing was tried in that time')
  inputs, ends = collections.Counter[str](), collections.Counter[str]()
  for kind, count, outcome, _ in found:
    inputs[kind] += count
    ends[f'{kind}, status {outcome.status}'] += 1
  timing.write(
    'fuzz',
    {
      'what': 'hostile inputs by kind, and how the commands ended',
      'cases': len(found),
      'inputs': inputs.total(),
      'inputs_by_kind': dict(sorted(inputs.items())),
      'ends': dict(sorted(ends.items())),
      'slowest_seconds': max(
        (one.seconds for _, _, one, _ in found), default=0
      ),
      'most_memory_bytes': max((one.peak for _, _, one, _ in found), default=0),
      'wrong': wrong,
    },
  )
  if wrong:
    raise ValueError(
      f'{len(wrong)} of {len(found)} cases ended otherwise; the first, '
      f'{wrong[0]}'
    )


if __name__ == '__main__':
  cli.run(main)
