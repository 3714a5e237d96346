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
import contextlib
import functools
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


class LeftOut(Exception):  # noqa: N818 - a circumstance.
  """A fault that cannot be made to happen here."""


# Makes something happen; returns what came of it, or raises one of the above.
Fault = Callable[[], str]


def expect(holds: bool, what: str) -> None:
  """Raises `Wrong` unless something holds."""
  if not holds:
    raise Wrong(what)


def resumed(run: ShortRun, work: str) -> None:
  """Checks what is left, takes a run up again and compares."""
  expect(not run.halves(work), f'half-written: {run.halves(work)}')
  status, _, errors = run.finish(work)
  expect(status == 0, f'does not resume: {errors}')
  expect(not run.differing(work), f'is left otherwise: {run.differing(work)}')
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


def signalled(
  run: ShortRun, number: signal.Signals, index: int, moment: float
) -> str:
  """A signal after some seconds, to a run that is then taken up again."""
  work = f'{number.name} {index}'
  phase = interrupted(run, work, moment, number)
  resumed(run, work)
  return phase


def signals(
  run: ShortRun, count: int, number: signal.Signals
) -> Iterator[Fault]:
  """Yields signals at random moments, each to a run of its own."""
  chance = random.Random(int(number))  # noqa: S311
  for index in range(count):
    moment = chance.uniform(0.0, run.seconds)
    yield functools.partial(signalled, run, number, index, moment)


def kills(run: ShortRun) -> Iterator[Fault]:
  """SIGKILL at random moments."""
  return signals(run, _KILLS.value, signal.SIGKILL)


def stops(run: ShortRun) -> Iterator[Fault]:
  """SIGTERM at random moments."""
  return signals(run, _STOPS.value, signal.SIGTERM)


@contextlib.contextmanager
def disk(folder: pathlib.Path, size: str) -> Iterator[Callable[[str], None]]:
  """Mounts a file system of some size; yields what changes its options.

  Raises:
    LeftOut: If that is not granted.
  """
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


def refused(status: int, errors: str, reason: str) -> None:
  """Checks that a run gave up in one line that says why."""
  expect(status == 1, f'status {status}: {errors}')
  expect(len(errors.splitlines()) == 1, f'says more than a line: {errors}')
  expect(reason in errors, f'does not say why: {errors}')


def filled(run: ShortRun, index: int, size: int) -> str:
  """A disk that fills up, then is made larger."""
  with disk(run.folder / f'disk {index}', str(size)) as change:
    status, _, errors = run.finish(f'disk {index}/run')
    refused(status, errors, 'No space left')
    change('size=1g')
    resumed(run, f'disk {index}/run')
  return 'refused in one line, resumed'


def disks(run: ShortRun) -> Iterator[Fault]:
  """Disks that fill up, the earlier the smaller they are."""
  for index in range(_DISKS.value):
    size = int(run.bytes * (index + 1) / (_DISKS.value + 1)) // 4096 * 4096
    yield functools.partial(filled, run, index, max(size, 4096))


def read_only(run: ShortRun, what: str, moment: float | None) -> str:
  """Images or results on a disk that may not be written, or no longer."""
  name = f'read-only {what} {moment}'
  with disk(run.folder / name, '1g') as change:
    root, work = f'{name}/data', f'{name}/run'
    shutil.copytree(run.root, run.folder / root)
    if what == 'images':
      change('ro')
      work = f'{name} run'
    process = run.start(work, f'--config.data.root={run.folder / root}')
    told = run.read(process)
    if what == 'images':
      _, errors = process.communicate(timeout=300)
      expect(process.returncode == 0, errors)
      expect(not run.differing(work), f'otherwise: {run.differing(work)}')
      return 'images: not needed'
    time.sleep(moment or 0.0)
    change('ro')
    status = process.wait(timeout=120)
    errors = process.stderr.read() if process.stderr else ''
    if status == 0:
      return f'{what}: {_NO_STATUS}'
    expect(bool(told()), 'told nothing')
    refused(status, errors, 'Read-only')
    change('rw')
    shutil.rmtree(run.folder / root)
    resumed(run, work)
  return f'{what}: refused in one line, resumed'


def write_protected(run: ShortRun) -> Iterator[Fault]:
  """Disks that become read-only before a run and at moments of it."""
  yield functools.partial(read_only, run, 'images', None)
  for part in (0.0, 0.2, 0.4, 0.6, 0.8):
    yield functools.partial(read_only, run, 'results', part * run.seconds)


def damaged(run: ShortRun, index: int, chance: random.Random) -> str:
  """A checkpoint with a changed byte, or cut short."""
  work = f'damage {index}'
  # Some time is left for two checkpoints of a head that is under way.
  interrupted(run, work, 0.5 * run.seconds, signal.SIGTERM)
  files = sorted((run.folder / work).glob('checkpoints/*/*/*/*.safetensors'))
  if not files:
    return 'nothing was saved yet'
  path = chance.choice(files)
  content = bytearray(path.read_bytes())
  if index % 2:
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
  path.write_bytes(content if index % 2 else content[: len(content) // 2])
  latest = path.parent == max(
    path.parent.parent.iterdir(), key=lambda one: int(one.name)
  )
  status, told, errors = run.finish(work)
  expect(status == 0, f'does not resume: {errors}')
  expect(('cannot be read' in told) == latest, f'does not say so: {told}')
  expect(not run.differing(work), f'is left otherwise: {run.differing(work)}')
  shutil.rmtree(run.folder / work)
  return 'changed byte' if index % 2 else 'cut short'


def damages(run: ShortRun) -> Iterator[Fault]:
  """Checkpoints with a changed byte, or cut short."""
  chance = random.Random(2)  # noqa: S311
  for index in range(_DAMAGES.value):
    yield functools.partial(damaged, run, index, chance)


_SPOILT: dict[str, Callable[[pathlib.Path], object]] = {
  'vanished folder': lambda root: shutil.rmtree(root / 'wood'),
  'vanished image': lambda root: (root / 'wood/train/good/003.png').unlink(),
  'truncated image': lambda root: (root / 'wood/test/good/003.png').write_bytes(
    b'\x89PNG\r\n\x1a\n'
  ),
  'other size': lambda root: Image.new('RGB', (7, 5)).save(
    root / 'wood/train/good/003.png'
  ),
}


def spoilt(run: ShortRun, name: str, when: str) -> str:
  """Images that are damaged, change or go away."""
  work, spoil = f'{name} {when}', _SPOILT[name]
  root = run.folder / f'data of {work}'
  shutil.copytree(run.root, root)
  if when == 'before':
    spoil(root)
  process = run.start(work, f'--config.data.root={root}')
  told = run.read(process)
  if when == 'during':
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
  return f'{work}: {"told in one line" if status else "not needed"}'


def data(run: ShortRun) -> Iterator[Fault]:
  """What can happen to images, before a run and during it."""
  for name in _SPOILT:
    for when in ('before', 'during'):
      yield functools.partial(spoilt, run, name, when)


KINDS: dict[str, Callable[[ShortRun], Iterator[Fault]]] = {
  'kills': kills,
  'stops': stops,
  'disks': disks,
  'read-only': write_protected,
  'damages': damages,
  'data': data,
}


def inject(faults: Iterator[Fault], wrong: list[str]) -> dict[str, int]:
  """Makes faults happen; returns what came of how many, and notes findings."""
  found: collections.Counter[str] = collections.Counter()
  for number, fault in enumerate(faults):
    try:
      found[fault()] += 1
    except LeftOut as reason:
      return {f'left out: {reason}': 1}
    except Wrong as error:
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
