"""Disks that fill up, or that may no longer be written to."""

import contextlib
import functools
import pathlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator

from benchmarks.breaking.short_run import ShortRun
from benchmarks.breaking.verdict import (
  WENT_THROUGH,
  Fault,
  LeftOut,
  expect,
  refused,
  resumed,
)


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


def filled(run: ShortRun, index: int, size: int) -> str:
  """A disk that fills up, then is made larger."""
  with disk(run.folder / f'disk {index}', str(size)) as change:
    status, _, errors = run.finish(f'disk {index}/run')
    refused(status, errors, 'No space left')
    change('size=1g')
    resumed(run, f'disk {index}/run')
  return 'refused in one line, resumed'


def full(run: ShortRun, count: int) -> Iterator[Fault]:
  """Disks that fill up, the earlier the smaller they are."""
  for index in range(count):
    size = int(run.bytes * (index + 1) / (count + 1)) // 4096 * 4096
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
      return f'{what}: {WENT_THROUGH}'
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
