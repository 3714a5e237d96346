"""Breaks short runs on purpose and sees what is left of them.

  python -m benchmarks.faults
  python -m benchmarks.faults --kills=10 --only=kills

A run of two demo categories with two seeds is killed at random moments, stopped
by SIGTERM, given a disk that fills up or becomes read-only, damaged
checkpoints, images that change or are gone. After every kill or full disk each
file must be whole, and the run that is taken up again must leave what an
undisturbed one does, bit for bit. Every refusal must be one line with status 1.
Disks need the right to mount a small file system and are left out, and named,
where that is not granted.
Writes benchmarks/results/faults.json and fails if anything did; takes about
forty minutes on two CPU cores.
"""

import collections
import pathlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator

from absl import flags

from benchmarks import timing
from benchmarks.breaking import disks, files, signals
from benchmarks.breaking.short_run import ShortRun
from benchmarks.breaking.verdict import Fault, LeftOut, Wrong
from simplenet_jax import cli

_KILLS = flags.DEFINE_integer('kills', 100, 'How many times.', 1)
_STOPS = flags.DEFINE_integer('stops', 10, 'SIGTERMs.', 1)
_DISKS = flags.DEFINE_integer('disks', 12, 'Sizes of a disk too small.', 1)
_DAMAGES = flags.DEFINE_integer('damages', 20, 'Damaged checkpoints.', 1)
_ONLY = flags.DEFINE_list('only', [], 'Which kinds; all if not given.')

KINDS: dict[str, Callable[[ShortRun], Iterator[Fault]]] = {
  'kills': lambda run: signals.kills(run, _KILLS.value),
  'stops': lambda run: signals.stops(run, _STOPS.value),
  'disks': lambda run: disks.full(run, _DISKS.value),
  'read-only': disks.write_protected,
  'damages': lambda run: files.checkpoints(run, _DAMAGES.value),
  'data': files.images,
}


def inject(faults: Iterator[Fault], wrong: list[str]) -> dict[str, int]:
  """Makes faults happen; returns what came of how many, and notes findings."""
  found: collections.Counter[str] = collections.Counter()
  for number, fault in enumerate(faults):
    try:
      found[fault()] += 1
    except LeftOut as reason:
      found[f'left out: {reason}'] += 1
      break
    except (Wrong, OSError, subprocess.TimeoutExpired) as error:
      wrong.append(f'number {number}: {error}')
      found['wrong'] += 1
      print(f'WRONG {wrong[-1]}')
  return dict(sorted(found.items()))


def main() -> None:
  """Breaks runs; writes what was found."""
  found, wrong = {}, []
  with tempfile.TemporaryDirectory() as folder:
    run = ShortRun(pathlib.Path(folder))
    for name, kind in KINDS.items():
      if _ONLY.value and name not in _ONLY.value:
        continue
      of_kind: list[str] = []
      found[name] = inject(kind(run), of_kind)
      wrong += [f'{name}, {finding}' for finding in of_kind]
  timing.write(
    'faults',
    {
      'what': 'runs that were broken on purpose, by what they were at',
      'seconds_of_an_undisturbed_run': run.seconds,
      'faults': {name: sum(each.values()) for name, each in found.items()},
      'found': found,
      'wrong': wrong,
    },
  )
  if wrong:
    raise ValueError(f'{len(wrong)} findings; the first: {wrong[0]}')


if __name__ == '__main__':
  cli.run(main)
