"""Breaks short runs on purpose and sees what is left of them.

  python -m benchmarks.faults
  python -m benchmarks.faults --kills=10 --only=kills

A run of two demo categories with two seeds is killed at random moments, stopped
by SIGTERM, given a disk that fills up, damaged checkpoints, images that change
or are gone. After every kill or full disk each file must be whole, and the run
that is taken up again must leave what an undisturbed one does, bit for bit.
Every refusal must be one line with status 1. The full disk needs the right to
mount a small file system and is left out, and named, where that is not granted.
Writes benchmarks/results/faults.json and fails if anything did; takes about
forty minutes on two CPU cores.
"""

import collections
import contextlib
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

from absl import flags
from PIL import Image

from benchmarks import timing
from benchmarks.short_run import ShortRun
from simplenet_jax import cli

_KILLS = flags.DEFINE_integer('kills', 100, 'How many times.', 1)
_STOPS = flags.DEFINE_integer('stops', 10, 'SIGTERMs.', 1)
_DISKS = flags.DEFINE_integer('disks', 12, 'Sizes of a disk too small.', 1)
_DAMAGES = flags.DEFINE_integer('damages', 20, 'Damaged checkpoints.', 1)
_ONLY = flags.DEFINE_list('only', [], 'Which kinds; all if not given.')

_NO_STATUS = 'went through'


class Wrong(Exception):  # noqa: N818 - a finding.
  """What should not have happened."""


def expect(holds: bool, what: str) -> None:
  """Raises `Wrong` unless something holds."""
  if not holds:
    raise Wrong(what)


def resumed(run: ShortRun, work: str) -> None:
  """Checks what is left, takes a run up again and compares."""
  expect(not run.halves(work), f'half-written: {run.halves(work)}')
  status, _, errors = run.finish(work)
  expect(status == 0, f'does not resume: {errors}')
  expect(run.left(work) == run.whole, 'resumes to something else')
  expect(not run.halves(work), f'half-written: {run.halves(work)}')
  shutil.rmtree(run.folder / work)


def interrupted(run: ShortRun, work: str, moment: float, number: int) -> str:
  """Sends a signal after some seconds; returns what the run was at."""
  process = run.start(work)
  told = run.read(process)
  time.sleep(moment)
  process.send_signal(number)
  status = process.wait(timeout=120)
  phase = run.phase(told())
  if status == 0:
    return _NO_STATUS
  # SIGTERM before it is heeded ends a process as it ends any.
  allowed = (-number, 128 + number)
  expect(status in allowed, f'status {status} after signal {number}')
  return phase


def signals(
  run: ShortRun, count: int, number: signal.Signals
) -> collections.Counter[str]:
  """Sends a signal at random moments, each to a run of its own."""
  chance, phases = random.Random(int(number)), collections.Counter()  # noqa: S311
  for index in range(count):
    work = f'{number.name} {index}'
    moment = chance.uniform(0.0, run.seconds)
    phases[interrupted(run, work, moment, number)] += 1
    resumed(run, work)
  return phases


def kills(run: ShortRun) -> collections.Counter[str]:
  """SIGKILL at random moments."""
  return signals(run, _KILLS.value, signal.SIGKILL)


def stops(run: ShortRun) -> collections.Counter[str]:
  """SIGTERM at random moments."""
  return signals(run, _STOPS.value, signal.SIGTERM)


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: int) -> Iterator[Callable]:
  """Mounts a file system of some bytes; yields what makes it large."""
  folder.mkdir()

  def mount(*options: str) -> None:
    subprocess.run(  # noqa: S603
      ['mount', '-t', 'tmpfs', *options, 'tmpfs', str(folder)],  # noqa: S607
      check=True,
      capture_output=True,
    )

  mount('-o', f'size={size}')
  try:
    yield lambda: mount('-o', 'remount,size=1g')
  finally:
    subprocess.run(['umount', str(folder)], check=True)  # noqa: S603, S607


def disks(run: ShortRun) -> collections.Counter[str]:
  """Disks that fill up, the earlier the smaller they are."""
  needed, found = run.bytes, collections.Counter()
  for number in range(_DISKS.value):
    work = f'disk {number}'
    size = int(needed * (number + 1) / (_DISKS.value + 1)) // 4096 * 4096
    try:
      with small_disk(run.folder / work, max(size, 4096)) as enlarge:
        status, _, errors = run.finish(f'{work}/run')
        expect(status == 1, f'status {status} on {size} bytes: {errors}')
        lines = errors.splitlines()
        expect(len(lines) == 1, f'says more than a line: {errors}')
        expect('No space left' in errors, f'does not say why: {errors}')
        enlarge()
        resumed(run, f'{work}/run')
    except subprocess.CalledProcessError:
      return collections.Counter({'left out: may not mount': 1})
    found['refused in one line, resumed'] += 1
  return found


def damages(run: ShortRun) -> collections.Counter[str]:
  """Checkpoints with a changed byte, or cut short."""
  chance, found = random.Random(2), collections.Counter()  # noqa: S311
  for number in range(_DAMAGES.value):
    work = f'damage {number}'
    # Some time is left for two checkpoints of a head that is under way.
    interrupted(run, work, 0.5 * run.seconds, signal.SIGTERM)
    files = sorted((run.folder / work).glob('checkpoints/*/*/*/*.safetensors'))
    if not files:
      found['nothing was saved yet'] += 1
      continue
    path = chance.choice(files)
    content = bytearray(path.read_bytes())
    if number % 2:
      content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content if number % 2 else content[: len(content) // 2])
    latest = path.parent == max(
      path.parent.parent.iterdir(), key=lambda one: int(one.name)
    )
    status, told, errors = run.finish(work)
    expect(status == 0, f'does not resume: {errors}')
    expect(('cannot be read' in told) == latest, f'does not say so: {told}')
    expect(run.left(work) == run.whole, 'resumes to something else')
    shutil.rmtree(run.folder / work)
    found['changed byte' if number % 2 else 'cut short'] += 1
  return found


def data(run: ShortRun) -> collections.Counter[str]:
  """Images that are damaged, change or go away, before a run and during it."""
  found = collections.Counter()
  for name, spoil in {
    'vanished folder': lambda root: shutil.rmtree(root / 'wood'),
    'vanished image': lambda root: (root / 'wood/train/good/003.png').unlink(),
    'truncated image': lambda root: (
      root / 'wood/test/good/003.png'
    ).write_bytes(b'\x89PNG\r\n\x1a\n'),
    'other size': lambda root: Image.new('RGB', (7, 5)).save(
      root / 'wood/train/good/003.png'
    ),
  }.items():
    for when, moment in (('before', None), ('during', 0.05)):
      work = f'{name} {when}'
      root = run.folder / f'data of {work}'
      shutil.copytree(run.root, root)
      if moment is None:
        spoil(root)
      process = run.start(work, f'--config.data.root={root}')
      told = run.read(process)
      if moment is not None:
        while 'features' not in told() and process.poll() is None:
          time.sleep(0.01)
        spoil(root)
      status = process.wait(timeout=120)
      errors = process.stderr.read() if process.stderr else ''
      lines = [line for line in errors.splitlines() if 'error: ' in line]
      expect('Traceback' not in errors, f'{work}: {errors}')
      expect(status in (0, 1), f'{work}: status {status}')
      expect(len(lines) == status, f'{work}: {errors}')
      expect(not run.halves(work), f'half-written: {run.halves(work)}')
      found[f'{work}: {"told in one line" if status else "not needed"}'] += 1
  return found


KINDS = {
  'kills': kills,
  'stops': stops,
  'disks': disks,
  'damages': damages,
  'data': data,
}


def main() -> None:
  """Breaks runs; writes what was found."""
  found, wrong = {}, []
  with tempfile.TemporaryDirectory() as folder:
    run = ShortRun(pathlib.Path(folder))
    for name, kind in KINDS.items():
      if _ONLY.value and name not in _ONLY.value:
        continue
      try:
        found[name] = dict(sorted(kind(run).items()))
      except Wrong as error:
        wrong.append(f'{name}: {error}')
        print(f'WRONG {wrong[-1]}')
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
