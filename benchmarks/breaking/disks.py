"""Disks that fill up, or that may no longer be written to."""

import contextlib
import functools
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator

from benchmarks.breaking.short_run import ShortRun
from benchmarks.breaking.signals import interrupted
from benchmarks.breaking.verdict import Fault, LeftOut, expect, refused, resumed


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


def images_read_only(run: ShortRun) -> str:
  """Images on a disk that may not be written to."""
  work = 'read-only images'
  with disk(run.folder / 'images', '1g') as change:
    root = run.folder / 'images' / 'data'
    shutil.copytree(run.root, root)
    change('ro')
    process = run.start(work, f'--config.data.root={root}')
    _, errors = process.communicate(timeout=300)
    expect(process.returncode == 0, errors)
    expect(not run.differing(work), f'otherwise: {run.differing(work)}')
  shutil.rmtree(run.folder / work)
  return 'images: not needed'


def results_read_only(run: ShortRun, moment: float) -> str:
  """A run that is stopped, and taken up on a disk that may not be written to.

  No earlier: a disk cannot be changed under files that are open.
  """
  place = f'results {moment:.1f}'
  with disk(run.folder / place, '1g') as change:
    work = f'{place}/run'
    if moment:
      interrupted(run, work, moment, signal.SIGTERM)
    change('ro')
    status, _, errors = run.finish(work)
    refused(status, errors, 'Read-only')
    change('rw')
    resumed(run, work)
  return 'results: refused in one line, resumed'


def write_protected(run: ShortRun) -> Iterator[Fault]:
  """Disks that may not be written to, before a run and when it is resumed."""
  yield functools.partial(images_read_only, run)
  for part in (0.0, 0.2, 0.4, 0.6, 0.8):
    yield functools.partial(results_read_only, run, part * run.seconds)
