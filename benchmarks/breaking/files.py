"""Files and folders of a run that are damaged, change or go away."""

import functools
import pathlib
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator

from PIL import Image

from benchmarks.breaking.short_run import ShortRun
from benchmarks.breaking.signals import interrupted
from benchmarks.breaking.verdict import Fault, expect


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


def checkpoints(run: ShortRun, count: int) -> Iterator[Fault]:
  """Checkpoints with a changed byte, or cut short."""
  chance = random.Random(2)  # noqa: S311
  for index in range(count):
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


def images(run: ShortRun) -> Iterator[Fault]:
  """What can happen to images, before a run and during it."""
  for name in _SPOILT:
    for when in ('before', 'during'):
      yield functools.partial(spoilt, run, name, when)
