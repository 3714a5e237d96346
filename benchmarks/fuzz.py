"""Gives the commands hostile input and judges how each of them ends.

  python -m benchmarks.fuzz
  python -m benchmarks.fuzz --seconds=60 --only=detector,settings

Images, masks, names, links, settings, weights, detectors, checkpoints, work
directories and archives are made, then damaged, forged or replaced. Each
command must end in success, or in one line that says why and status 1 or 2:
with no traceback, in time, within bounds of memory, with nothing half-written
left behind, and without having run what a file holds. Writes
benchmarks/results/fuzz.json and fails if a command did otherwise; what led to
that is kept in --keep. A case is made anew by its kind and number:

  python -m benchmarks.fuzz --only=detector --first=1234 --cases=1
"""

import collections
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

from absl import flags

from benchmarks import timing
from benchmarks.fuzzing import ground, judge, of_files, of_images
from simplenet_jax import cli
from simplenet_jax.console import console

_SECONDS = flags.DEFINE_float('seconds', 1800.0, 'After which none is begun.')
_CASES = flags.DEFINE_integer('cases', None, 'Of each kind, at most.', 1)
_FIRST = flags.DEFINE_integer('first', 0, 'The first number.', 0)
_ONLY = flags.DEFINE_list('only', [], 'Which kinds; all if not given.')
_KEEP = flags.DEFINE_string('keep', 'runs/fuzz', 'Where findings go, a folder.')

_JUDGES = 2  # At work at once.

# Kinds, and how many of them are tried for one of the rarest.
KINDS = {
  'images': (of_images.images, 2),
  'names': (of_images.names, 2),
  'trained_on': (of_images.trained_on, 2),
  'settings': (of_files.settings, 30),
  'weights': (of_files.weights, 18),
  'detector': (of_files.detector, 16),
  'released': (of_files.released, 9),
  'workdir': (of_files.workdir, 6),
  'archive': (of_files.archive, 16),
}


class Tally:
  """What has been tried and what was found, of all kinds."""

  def __init__(self):
    """Begins with nothing."""
    self.lock = threading.Lock()
    self.inputs: collections.Counter[str] = collections.Counter()
    self.ends: dict[str, collections.Counter[str]] = {}
    self.wrong: list[str] = []
    self.seconds: collections.defaultdict[str, float] = collections.defaultdict(
      float
    )
    self.slowest, self.peak = 0.0, 0

  def add(self, kind: str, case: judge.Case, outcome: judge.Outcome) -> None:
    """Counts a case."""
    self.inputs[kind] += case.inputs
    self.seconds[kind] += outcome.seconds
    ends = self.ends.setdefault(kind, collections.Counter())
    ends[f'status {outcome.status}'] += 1
    self.slowest = max(self.slowest, outcome.seconds)
    self.peak = max(self.peak, outcome.peak)

  def report(self) -> dict[str, Any]:
    """Returns everything, for the file of results."""
    return {
      'what': 'hostile inputs by kind, and how the commands ended',
      'cases': sum(sum(ends.values()) for ends in self.ends.values()),
      'inputs': sum(self.inputs.values()),
      'inputs_by_kind': dict(sorted(self.inputs.items())),
      'ends_by_kind': {
        kind: dict(sorted(ends.items()))
        for kind, ends in sorted(self.ends.items())
      },
      'seconds_by_kind': dict(sorted(self.seconds.items())),
      'slowest_seconds': self.slowest,
      'most_memory_bytes': self.peak,
      'wrong': self.wrong,
    }


def order() -> Iterator[tuple[str, int]]:
  """Yields kinds and numbers, the frequent kinds more often."""
  names = [name for name in KINDS if not _ONLY.value or name in _ONLY.value]
  numbers = dict.fromkeys(names, _FIRST.value)
  end = _FIRST.value + (_CASES.value or sys.maxsize)
  while any(number < end for number in numbers.values()):
    for name in names:
      for _ in range(min(KINDS[name][1], end - numbers[name])):
        yield name, numbers[name]
        numbers[name] += 1


def attempt(
  court: judge.Judge, known: ground.Ground, name: str, number: int, tally: Tally
) -> None:
  """Makes a case, runs it and keeps it if something is wrong with its end."""
  label = f'{name}-{number}'
  folder = known.folder / 'cases' / label
  folder.mkdir(parents=True)
  make, _ = KINDS[name]
  case = make(random.Random(label), known, folder)  # noqa: S311
  outcome = court.run(case, folder)
  finding = judge.wrong(case, outcome, folder)
  with tally.lock:
    tally.add(name, case, outcome)
    if finding:
      tally.wrong.append(f'{label}: {finding} ({case.told[:200]})')
      console.print(f'WRONG {tally.wrong[-1]}', markup=False)
  if finding:
    keep(folder, pathlib.Path(_KEEP.value) / label)
  shutil.rmtree(folder)


def keep(folder: pathlib.Path, kept: pathlib.Path) -> None:
  """Copies a case, but for its pipes: nothing ever comes out of them."""

  def pipes(place: str, names: list[str]) -> list[str]:
    return [name for name in names if pathlib.Path(place, name).is_fifo()]

  shutil.rmtree(kept, ignore_errors=True)
  shutil.copytree(folder, kept, symlinks=True, ignore=pipes)


def work_off(
  known: ground.Ground,
  left: Iterator[tuple[str, int]],
  until: float,
  tally: Tally,
) -> None:
  """Runs cases one after the other until there are no more, or no time."""
  with judge.Judge(known.folder / 'compiled') as court:
    while time.monotonic() < until:
      with tally.lock:
        drawn = next(left, None)
      if drawn is None:
        return
      name, number = drawn
      attempt(court, known, name, number, tally)


def main() -> None:
  """Tries, and writes what was found."""
  if unknown := sorted(set(_ONLY.value) - set(KINDS)):
    raise ValueError(f'--only names {unknown[0]}; choose of {", ".join(KINDS)}')
  tally = Tally()
  with tempfile.TemporaryDirectory() as folder:
    known, left = ground.lay(pathlib.Path(folder)), order()
    until = time.monotonic() + _SECONDS.value
    with futures.ThreadPoolExecutor(_JUDGES) as pool:
      judges = [
        pool.submit(work_off, known, left, until, tally) for _ in range(_JUDGES)
      ]
      for ended in judges:
        try:
          ended.result()
        except Exception as error:  # What was tried is told all the same.
          tally.wrong.append(f'a judge gave up: {error}')
  found = tally.report()
  timing.write('fuzz', found)
  if tally.wrong:
    raise ValueError(
      f'{len(tally.wrong)} of {found["cases"]} cases ended otherwise; the '
      f'first, {tally.wrong[0]}'
    )


if __name__ == '__main__':
  cli.run(main)
