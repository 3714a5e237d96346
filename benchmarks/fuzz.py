"""Gives the commands hostile input and judges how each of them ends.

  python -m benchmarks.fuzz --count=10000
  python -m benchmarks.fuzz --seconds=60 --only=detector,settings

Images, masks, names, links, settings, weights, detectors, checkpoints and work
directories are made, then damaged, forged or replaced. Each command must end in
success, or in one line that says why and status 1 or 2: with no traceback, in
time, within bounds of memory, with nothing half-written left behind, and
without having run what a file holds. Writes benchmarks/results/fuzz.json and
fails if a command did otherwise; what led to that is kept in --keep. A case is
made anew by its kind and number:

  python -m benchmarks.fuzz --only=detector --first=1234 --count=1
"""

import collections
import pathlib
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from absl import flags

from benchmarks import timing
from benchmarks.fuzzing import cases, ground, judge
from simplenet_jax import cli

_COUNT = flags.DEFINE_integer('count', 10_000, 'Inputs, at least.', 1)
_SECONDS = flags.DEFINE_float('seconds', 1e9, 'After which none is begun.')
_FIRST = flags.DEFINE_integer('first', 0, 'The first number.', 0)
_ONLY = flags.DEFINE_list('only', [], 'Which kinds; all if not given.')
_KEEP = flags.DEFINE_string('keep', 'runs/fuzz', 'Where findings go, a folder.')

_AT_ONCE = 2  # Commands.

# Kinds, and how many of them are tried for one of the rarest.
KINDS = {
  'trained_on': (cases.trained_on, 2),
  'settings': (cases.settings, 30),
  'weights': (cases.weights, 18),
  'detector': (cases.detector, 16),
  'released': (cases.released, 9),
  'workdir': (cases.workdir, 6),
  'images': (cases.images, 2),  # Forty inputs each, as names.
  'names': (cases.names, 2),
}


class Tried(NamedTuple):
  """A kind's case, how many inputs it was, its end, and what was wrong."""

  kind: str
  inputs: int
  outcome: judge.Outcome
  wrong: str | None


def order(kinds: Sequence[str], first: int) -> Iterator[tuple[str, int]]:
  """Yields kinds and numbers without end, the frequent kinds more often."""
  numbers = dict.fromkeys(kinds, first)
  while True:
    for kind in kinds:
      for _ in range(KINDS[kind][1]):
        yield kind, numbers[kind]
        numbers[kind] += 1


def begin(kind: str, number: int, known: ground.Ground) -> judge.Fork:
  """Makes a case and starts its command."""
  label = f'{kind}-{number}'
  folder = known.folder / 'cases' / label
  folder.mkdir(parents=True)
  case = KINDS[kind][0](random.Random(label), known, folder)  # noqa: S311
  return judge.Fork(case, folder)


def judged(fork: judge.Fork, outcome: judge.Outcome) -> Tried:
  """Notes how a case ended, and keeps it if that was wrong."""
  label, case = fork.folder.name, fork.case
  wrong = judge.wrong(case, outcome, fork.folder)
  if wrong:
    wrong = f'{label}: {wrong} ({case.told[:200]})'
    print(f'WRONG {wrong!a}')
    for path in fork.folder.rglob('*'):  # Nothing ever comes out of pipes.
      if path.is_fifo():
        path.unlink()
    kept = pathlib.Path(_KEEP.value) / label
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(fork.folder, kept, symlinks=True)
  shutil.rmtree(fork.folder)
  return Tried(label.partition('-')[0], case.inputs, outcome, wrong)


def main() -> None:
  """Tries, and writes what was found."""
  if unknown := sorted(set(_ONLY.value) - set(KINDS)):
    raise ValueError(f'--only names {unknown[0]}; choose of {", ".join(KINDS)}')
  kinds = [kind for kind in KINDS if not _ONLY.value or kind in _ONLY.value]
  numbers, until = order(kinds, _FIRST.value), time.monotonic() + _SECONDS.value
  tried, running = list[Tried](), list[judge.Fork]()
  # Forks would remove a `TemporaryDirectory` as they end.
  folder = pathlib.Path(tempfile.mkdtemp())
  try:
    known = ground.lay(folder)
    judge.load(known.folder / 'compiled')
    while True:
      count = sum(one.inputs for one in tried)
      left = count < _COUNT.value and time.monotonic() < until
      if left and len(running) < _AT_ONCE:
        running.append(begin(*next(numbers), known))
      elif not running:
        break
      for fork in list(running):
        if outcome := fork.poll():
          running.remove(fork)
          tried.append(judged(fork, outcome))
      time.sleep(0.005)
  finally:
    shutil.rmtree(folder)
  wrong = [one.wrong for one in tried if one.wrong]
  if not tried:
    wrong.append('nothing was tried in that time')
  inputs, ends = collections.Counter[str](), collections.Counter[str]()
  for one in tried:
    inputs[one.kind] += one.inputs
    ends[f'{one.kind}, status {one.outcome.status}'] += 1
  outcomes = [one.outcome for one in tried]
  timing.write(
    'fuzz',
    {
      'what': 'hostile inputs by kind, and how the commands ended',
      'cases': len(tried),
      'inputs': inputs.total(),
      'inputs_by_kind': dict(sorted(inputs.items())),
      'ends': dict(sorted(ends.items())),
      'slowest_seconds': max((one.seconds for one in outcomes), default=0),
      'most_memory_bytes': max((one.peak for one in outcomes), default=0),
      'wrong': wrong,
    },
  )
  if wrong:
    raise ValueError(
      f'{len(wrong)} of {len(tried)} cases ended otherwise; the first, '
      f'{wrong[0]}'
    )


if __name__ == '__main__':
  cli.run(main)
