"""Archives become folders: whole, or not at all.

An archive is not trusted: only plain files and folders below the target are
made of it, and no more of them than its data set has.
"""

import contextlib
import fcntl
import glob
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from simplenet_jax.console import Board, counted
from simplenet_jax.data.downloads import entries
from simplenet_jax.data.downloads.disk import amount, require_room
from simplenet_jax.data.downloads.entries import Entry, Refused, shown

# A folder of one of these is a category itself; VisA's hold Data.
_OF_A_CATEGORY = ('train', 'test', 'Data')
_LONGEST = 255  # Characters of an entry's name.
# Images hardly shrink; an archive that grows beyond is made to fill a disk.
_RATIO = 100


def extract(
  archive: Path,
  target: Path,
  *,
  most_bytes: int,
  most_entries: int,
  also: Mapping[str, str] | None = None,
) -> Path:
  """Unpacks a tar (plain, gzip, bzip2 or xz) or a zip archive.

  If everything lies in one folder, which is no category, the target becomes
  that folder.

  Args:
    archive: The file.
    target: The folder to make. One that is there must be empty.
    most_bytes: Of all files together.
    most_entries: Files and folders.
    also: Texts to put beside, by file name.

  Returns:
    The target.

  Raises:
    ValueError: If it is not such an archive, damaged, cut off, or holds what
      an archive of images does not; if the target is there, or another run
      makes it.
    OSError: If a file cannot be read or written. Whatever is raised, nothing
      is left behind.
  """
  if not is_free(target):
    raise ValueError(f'{target} is there already; it is left as it is')
  size = archive.stat().st_size
  with _staged(target) as aside:
    require_room(target.parent, size, f'what {archive.name} holds')
    writer = _Writer(aside, min(most_bytes, _RATIO * size), most_entries)
    try:
      _unpack(archive, size, writer)
      content = _content(aside)
      for name, text in (also or {}).items():
        with (content / name).open('x') as file:
          file.write(text)
    except Refused as error:
      raise ValueError(
        f'{archive}: {error}; nothing is extracted, get it anew from where it '
        'is published'
      ) from None
    except OSError as error:
      raise OSError(
        f'{target}: {error.strerror or error} while {archive} is extracted; '
        'nothing of it is left'
      ) from error
    content.rename(target)
  return target


def is_free(target: Path) -> bool:
  """Whether a folder can be made: nothing is there, or an empty folder."""
  if target.is_symlink() or not target.is_dir():
    return not os.path.lexists(target)
  return not any(target.iterdir())


class _Writer:
  """Writes entries below a folder, within bounds.

  Attributes:
    entries: Written so far.
    files: Of them, those that are no folders.
    bytes: In these files.
  """

  def __init__(self, root: Path, most_bytes: int, most_entries: int):
    self._root = root
    self._most_bytes, self._most_entries = most_bytes, most_entries
    self.entries = self.files = self.bytes = 0

  def write(self, entry: Entry, told: Callable[[], None]) -> None:
    """Writes one, and calls `told` after each piece of it."""
    self.entries += 1
    if self.entries > self._most_entries:
      raise Refused(f'more than {self._most_entries} entries')
    path = self._root / _checked(entry)
    # Names that differ by capital letters alone may be one: the disk knows.
    try:
      folder = path if entry.is_folder else path.parent
      folder.mkdir(parents=True, exist_ok=True)
      if not entry.is_folder:
        with path.open('xb') as file:
          self._fill(file, entry, told)
    except (FileExistsError, NotADirectoryError):
      raise Refused(f'two entries named {shown(entry.name)}') from None

  def _fill(
    self, file: BinaryIO, entry: Entry, told: Callable[[], None]
  ) -> None:
    self.files += 1
    for piece in entry.content:
      # What comes counts, not what a header promises.
      self.bytes += len(piece)
      if self.bytes > self._most_bytes:
        raise Refused(f'more than {amount(self._most_bytes)} in it')
      file.write(piece)
      told()


def _unpack(archive: Path, size: int, writer: _Writer) -> None:
  def so_far() -> str:
    return f'{counted(writer.files, "file")}, {amount(writer.bytes)}'

  with (
    archive.open('rb') as file,
    contextlib.closing(entries.read(file)) as found,
    Board() as board,
  ):
    for entry in found:
      writer.write(
        entry, lambda: board.show('extraction', file.tell(), size, so_far())
      )
    if not writer.files:
      raise Refused('no files in it')
    board.end('extraction', so_far())


def _checked(entry: Entry) -> PurePosixPath:
  """Returns an entry's name as a path below the target."""
  name, path = entry.name, PurePosixPath(entry.name)
  empty = not path.parts and not entry.is_folder
  if empty or len(name) > _LONGEST or not name.isprintable():
    raise Refused(f'an entry has the name {shown(name)}, which is not valid')
  if path.is_absolute() or '..' in path.parts or set(name) & set('\\:'):
    raise Refused(f'an entry leads elsewhere, {shown(name)}')
  return path


def _content(aside: Path) -> Path:
  """Returns the folder that becomes the target."""
  top = list(aside.iterdir())
  if len(top) > 1 or not top[0].is_dir():
    return aside
  is_category = any((top[0] / name).is_dir() for name in _OF_A_CATEGORY)
  return aside if is_category else top[0]


@contextlib.contextmanager
def _staged(target: Path) -> Iterator[Path]:
  """Yields a folder beside the target, which is gone in the end."""
  target.parent.mkdir(parents=True, exist_ok=True)
  for left in target.parent.glob(f'.partial-*-{glob.escape(target.name)}'):
    with _locked(left, target):
      shutil.rmtree(left)
  aside = target.with_name(f'.partial-{os.getpid()}-{target.name}')
  aside.mkdir()
  with _locked(aside, target):
    try:
      yield aside
    finally:
      if aside.exists():  # It may have become the target.
        shutil.rmtree(aside)


@contextlib.contextmanager
def _locked(folder: Path, target: Path) -> Iterator[None]:
  """Holds a folder for this process; the lock of one that died is gone."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield
  except BlockingIOError:
    raise ValueError(
      f'{target}: another run extracts it; wait for its end'
    ) from None
  finally:
    os.close(descriptor)
