"""Watches a folder: judges the images that come, and sorts them away."""

import asyncio
import contextlib
import datetime
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from simplenet_jax import files
from simplenet_jax.console import Stop, console, first_line
from simplenet_jax.data.files import LINES, PICTURES, TABLE
from simplenet_jax.data.tree import EXTENSIONS
from simplenet_jax.detection import output
from simplenet_jax.serving.engine import Engine, Judged, Slot

_FOLDERS = {'normal': 'ok', 'anomalous': 'not_ok', None: 'no_verdict'}
_LOOK_S = 0.5  # A file that is the same from one look to the next is whole.
_AT_ONCE = 4  # Images in hand.

State = tuple[int, int]  # A file's size, and the time of its last change.


class Watch:
  """Judges what comes into one folder, and moves it to others."""

  def __init__(self, source: Path, target: Path, pictures: bool):
    """Raises a ValueError for folders that cannot be used."""
    here, there = source.resolve(), target.resolve()
    if not source.is_dir():
      raise ValueError(f'--watch={source}: there is no such folder')
    if here.is_relative_to(there) or there.is_relative_to(here):
      told = 'one is in the other; name two folders beside each other'
      raise ValueError(f'--watch={source}, --move={target}: {told}')
    self._source, self._target, self._pictures = source, target, pictures
    self._told: dict[Path, State] = {}  # What stays, and why was told.
    table, head = target / TABLE, files.csv_text([output.HEADER])
    if not table.exists():
      self._append(TABLE, head)
    with table.open('rb') as file:  # As rows below may be no text.
      if file.readline() != head.encode():
        raise ValueError(f'{table} has other columns; move it away')

  async def run(self, engine: Engine, slot: Slot, stop: Stop) -> None:
    """Goes on until `stop` is set, and then finishes what is in hand."""
    room, before = asyncio.Semaphore(_AT_ONCE), {}

    async def sort(path: Path, state: State) -> None:
      async with room:
        if stop.is_set() or self._told.get(path) == state:
          return
        try:
          is_file = stat.S_ISREG(path.lstat().st_mode)
          if not is_file or path.suffix.lower() not in EXTENSIONS:
            if path not in self._told:
              logging.warning('%s stays: no image by its name', path)
            self._told[path] = state
            return
          try:
            found = await engine.judge(slot, lambda: path, path.name)
          except ValueError as error:
            found = error
          if _state(path) == state:  # Else it was written anew.
            await asyncio.to_thread(self._sort, path, found)
        except (asyncio.QueueFull, FileNotFoundError):
          return  # Later, or somebody took it.
        except Exception as error:  # Whatever it is, the others go on.
          self._told[path] = state
          told = first_line(error)
          logging.warning('%s stays where it is: %s', path, told)

    while not stop.is_set():
      await asyncio.sleep(_LOOK_S)
      if slot.detector:
        now = await asyncio.to_thread(dict, self._look())
        same = now.items() & before.items()
        self._told = {k: v for k, v in self._told.items() if k in now}
        await asyncio.gather(*(sort(*one) for one in sorted(same)))
        before = now

  def _look(self) -> Iterator[tuple[Path, State]]:
    for folder, below, names in os.walk(self._source):
      below[:] = [name for name in below if name[0] != '.']
      for path in (Path(folder, name) for name in names if name[0] != '.'):
        with contextlib.suppress(OSError):  # Somebody took it.
          yield path, _state(path)

  def _sort(self, path: Path, found: Judged | ValueError) -> None:
    """Moves an image, and appends what was found to the tables."""
    is_read = not isinstance(found, ValueError)
    told = found[0] if is_read else {'error': str(found)}
    folder = _FOLDERS[told['verdict']] if is_read else 'unreadable'
    place = move(path, self._target / folder / path.relative_to(self._source))
    told = {**told, 'path': str(place)}
    if is_read:
      self._append(TABLE, files.csv_text([output.table_cells(told, False)]))
      if self._pictures:
        name = f'{place.relative_to(self._target)}.png'
        found[1].save(self._target / PICTURES / name)
    self._append(LINES, f'{json.dumps(told)}\n')
    console.print(f'  {place}')

  def _append(self, name: str, text: str) -> None:
    self._target.mkdir(parents=True, exist_ok=True)
    with (self._target / name).open('ab') as file:
      # Names that are no text stay as they are.
      file.write(text.encode('utf-8', 'surrogateescape'))


def move(source: Path, target: Path) -> Path:
  """Moves a file, also to another file system, and returns where it is.

  What is there already stays; the new file's name then has the time added.
  """
  target.parent.mkdir(parents=True, exist_ok=True)
  place = target
  while True:
    with contextlib.suppress(FileExistsError):
      place.touch(exist_ok=False)  # From now on nobody else gets the name.
      break
    now = datetime.datetime.now().strftime('-%Y%m%d-%H%M%S-%f')
    place = target.with_stem(target.stem + now)
  try:
    try:
      source.replace(place)
    except OSError as error:
      if error.errno != errno.EXDEV:
        raise
      with files.atomic_write(place) as aside:
        shutil.copy2(source, aside)
        with aside.open('rb+') as copy:
          os.fsync(copy.fileno())  # The other one is removed for it.
      source.unlink()
  except BaseException:
    place.unlink()
    raise
  return place


def _state(path: Path) -> State:
  found = path.lstat()
  return found.st_size, found.st_mtime_ns
