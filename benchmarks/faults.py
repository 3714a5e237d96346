"""Breaks short runs on purpose and sees what is left of them.

  python -m benchmarks.faults --count=100
  python -m benchmarks.faults --count=10 --only=kills

A run of two demo categories with two seeds is killed at random moments, stopped
by SIGTERM, given a disk that fills up, and damaged checkpoints. After every
fault each file must be whole, and the run that is taken up again must leave
what an undisturbed one does, bit for bit. Every refusal must be one line with
status 1. Disks need the right to mount a small file system and are left out,
and named, where that is not granted. Writes benchmarks/results/faults.json and
fails if anything did; 100 kills take about forty minutes on two CPU cores.
"""

import collections
import contextlib
import math
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

from absl import flags

from benchmarks import timing
from benchmarks.short_run import ShortRun
from simplenet_jax import cli
from simplenet_jax.files import read_json

_COUNT = flags.DEFINE_integer('count', 100, 'Kills; fewer of the others.', 1)
_SECONDS = flags.DEFINE_float('seconds', 1e9, 'After which none is begun.')
_ONLY = flags.DEFINE_list('only', [], 'Which kinds; all if not given.')


class LeftOut(Exception):  # noqa: N818 - a circumstance.
  """A fault that cannot be made to happen here."""


def expect(holds: bool, what: str) -> None:
  """Raises a `ValueError` unless something holds."""
  if not holds:
    raise ValueError(what)


def resumes(run: ShortRun, work: str, damaged: bool = False) -> str:
  """Checks what is left, takes a run up again, compares; returns its lines."""
  halves = [] if damaged else run.halves(work)
  expect(not halves, f'half-written: {halves}')
  status, told, errors = run.finish(work)
  expect(status == 0, f'does not resume: {errors}')
  expect(not run.differing(work), f'is left otherwise: {run.differing(work)}')
  expect(not run.halves(work), f'half-written: {run.halves(work)}')
  shutil.rmtree(run.folder / work)
  return told


def interrupt(
  run: ShortRun, work: str, moment: float, number: signal.Signals
) -> None:
  """Sends a signal after some seconds.

  A run can be through before, being faster than the one that was timed; then
  the signal comes earlier to another.
  """
  while True:
    process = run.start(work)
    run.wait_for_begin(process)
    time.sleep(moment)
    process.send_signal(number)
    if status := process.wait(timeout=120):
      # SIGTERM before it is heeded ends a process as it ends any.
      allowed = (-number, 128 + number)
      expect(status in allowed, f'status {status} after signal {number}')
      return
    shutil.rmtree(run.folder / work)
    moment *= 0.8


def end(run: ShortRun, work: str, part: float) -> str:
  """Kills a run after a part of its time, or asks it to stop."""
  number = signal.SIGKILL if work.startswith('kills') else signal.SIGTERM
  interrupt(run, work, part * run.seconds, number)
  resumes(run, work)
  return f'in the {"first" if part < 0.5 else "second"} half, resumed'


@contextlib.contextmanager
def disk(folder: pathlib.Path, size: int) -> Iterator[Callable[[str], None]]:
  """Mounts a file system of some bytes; yields what changes its options."""
  folder.mkdir()

  def mount(options: str) -> None:
    try:
      subprocess.run(  # noqa: S603
        ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(folder)],  # noqa: S607
        check=True,
        capture_output=True,
      )
    except (subprocess.CalledProcessError, FileNotFoundError):
      raise LeftOut('may not mount') from None

  mount(f'size={size}')
  try:
    yield lambda options: mount(f'remount,{options}')
  finally:
    subprocess.run(['umount', '-l', str(folder)], check=True)  # noqa: S603, S607


def fill(run: ShortRun, work: str, part: float) -> str:
  """Gives a run a disk for a part of what it writes; later the disk grows."""
  size = int(run.bytes * part) // 4096 * 4096
  with disk(run.folder / work, max(size, 4096)) as change:
    status, _, errors = run.finish(f'{work}/run')
    final = [x for x in errors.splitlines() if x.startswith('error: ')]
    expect(status == 1, f'status {status}: {errors}')
    expect(len(final) == 1, f'not one line that says why: {errors}')
    expect('No space left' in final[0], f'does not say why: {errors}')
    expect('Traceback' not in errors, f'a traceback: {errors}')
    change('size=1g')
    resumes(run, f'{work}/run')
  return 'refused in one line, resumed'


def damage(run: ShortRun, work: str, part: float) -> str:
  """Changes a byte of a checkpoint, or cuts one short."""
  chance = random.Random(part)  # noqa: S311
  process = run.start(work)
  while not run.checkpoints(work):
    expect(process.poll() is None, 'no checkpoint of a whole run')
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=120)
  path = chance.choice(run.checkpoints(work))
  way = chance.choice(('changed byte', 'cut short'))
  content = bytearray(path.read_bytes())
  if way == 'changed byte':
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
  else:
    content = content[: len(content) // 2]
  path.write_bytes(content)
  steps = [one.name for one in path.parent.parent.iterdir()]
  latest = max(steps, key=lambda name: (len(name), name))
  told = resumes(run, work, damaged=True)
  # An older checkpoint than the latest need not be read at all.
  if path.parent.name == latest:
    expect('cannot be read' in told, f'does not say so: {told}')
  return way


# What makes a fault happen in a work directory, given a random part in [0, 1);
# it returns what came of it, or raises. For how many kills there is one.
KINDS: dict[str, tuple[Callable[[ShortRun, str, float], str], int]] = {
  'kills': (end, 1),
  'stops': (end, 10),
  'disks': (fill, 8),
  'damages': (damage, 5),
}


def main() -> None:
  """Breaks runs; writes what was found."""
  if unknown := sorted(set(_ONLY.value) - set(KINDS)):
    raise ValueError(f'--only names {unknown[0]}; choose of {", ".join(KINDS)}')
  # Kinds that --only leaves out stay as they were found before.
  before = read_json(timing.RESULTS / 'faults.json')['found']
  found, wrong = before if _ONLY.value else {}, []
  until = time.monotonic() + _SECONDS.value
  with tempfile.TemporaryDirectory() as folder:
    run = ShortRun(pathlib.Path(folder))
    for name in [one for one in KINDS if not _ONLY.value or one in _ONLY.value]:
      fault, kills = KINDS[name]
      ends = collections.Counter[str]()
      for number in range(math.ceil(_COUNT.value / kills)):
        if time.monotonic() > until:
          break
        work = f'{name} {number}'
        try:
          ends[fault(run, work, random.Random(work).random())] += 1  # noqa: S311
        except LeftOut as reason:
          ends[f'left out: {reason}'] += 1
          break
        except (ValueError, OSError, subprocess.TimeoutExpired) as error:
          ends['wrong'] += 1
          wrong.append(f'{work}: {error}')
          print(f'WRONG {wrong[-1]}')
      found[name] = dict(sorted(ends.items()))
  timing.write(
    'faults',
    {
      'what': 'runs that were broken on purpose, and what became of them',
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
