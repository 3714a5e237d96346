"""Runs of the training command whose memory is watched while they go on."""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

_PAUSE = 0.02  # Seconds between two looks.


@dataclasses.dataclass
class Watched:
  """What was seen of a run.

  Attributes:
    seconds: From its start to its end.
    peak_bytes: Its memory at most, with the pages of mapped files, which the
      system takes back when it needs them.
    own_bytes: Its memory at most without those.
    mapped_bytes: What it had mapped at most of files in its work directory.
    mapped_bytes_at_the_end: The same, when it was last looked at.
  """

  seconds: float = 0.0
  peak_bytes: int = 0
  own_bytes: int = 0
  mapped_bytes: int = 0
  mapped_bytes_at_the_end: int = 0

  def look(self, pid: int, folder: pathlib.Path) -> None:
    """Takes note of a process, if it is still there."""
    try:
      process = pathlib.Path('/proc', str(pid))
      fields = memory(process)
      maps = (process / 'maps').read_text()
    except (FileNotFoundError, ProcessLookupError):
      return
    if 'VmHWM' not in fields:  # It has ended.
      return
    # Not `ru_maxrss`: that of a child begins with its parent's.
    self.peak_bytes = fields['VmHWM']
    self.own_bytes = max(self.own_bytes, fields['RssAnon'])
    self.mapped_bytes_at_the_end = _mapped(maps, folder)
    self.mapped_bytes = max(self.mapped_bytes, self.mapped_bytes_at_the_end)

  def figures(self) -> dict[str, float]:
    """Returns seconds and megabytes, for JSON."""
    return {
      'seconds': self.seconds,
      'peak_mb': self.peak_bytes / 1e6,
      'peak_mb_without_mapped_files': self.own_bytes / 1e6,
      'mapped_mb_of_the_work_directory': self.mapped_bytes / 1e6,
    }


def memory(process: pathlib.Path) -> dict[str, int]:
  """Returns the fields of `/proc/<process>/status` that are sizes, in bytes."""
  found = re.findall(r'(\w+):\s+(\d+) kB', (process / 'status').read_text())
  return {name: 1024 * int(size) for name, size in found}


def _mapped(maps: str, folder: pathlib.Path) -> int:
  """Returns the bytes mapped of files in a folder, nameless ones too."""
  ranges = (
    line.split()[0] for line in maps.splitlines() if str(folder) in line
  )
  return sum(
    int(end, 16) - int(start, 16)
    for start, end in (one.split('-') for one in ranges)
  )


def train(
  config: str, settings: Mapping[str, Any], workdir: pathlib.Path
) -> Watched:
  """Trains in a process of its own.

  Args:
    config: One of `configs`.
    settings: Its fields that are to be others, such as `train.epochs`.
    workdir: Where results go.

  Raises:
    ValueError: If the run fails; what it said is in the message.
  """
  found, start = Watched(), time.monotonic()
  with tempfile.TemporaryFile('w+') as told:
    process = subprocess.Popen(  # noqa: S603 - our own.
      [
        *(sys.executable, '-m', 'simplenet_jax.main'),
        f'--config=configs/{config}.py',
        f'--workdir={workdir}',
        *(f'--config.{field}={value}' for field, value in settings.items()),
      ],
      env={**os.environ, 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'},
      stdout=told,
      stderr=subprocess.STDOUT,
    )
    try:
      while process.poll() is None:
        found.look(process.pid, workdir)
        time.sleep(_PAUSE)
    finally:
      process.kill()
    found.seconds = time.monotonic() - start
    if process.returncode:
      told.seek(0)
      raise ValueError(f'a run failed: {told.read()[-2000:]}')
  return found
