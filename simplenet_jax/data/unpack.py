"""Archives become folders: whole, or not at all.

An archive is not trusted. Tar and zip obey the same rules, stricter than those
of tarfile's `data` filter: only plain files and folders, each below the target
and named once, within bounds of number and size.
"""

import bz2
import contextlib
import fcntl
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from simplenet_jax.console import Board

MOST_BYTES = 20_000_000_000  # The files of any public data set together.
MOST_ENTRIES = 40_000  # Its files and folders.

_CHUNK = 1 << 18  # Bytes of content at a time.
_LONGEST = 255  # Characters of an entry's name.
# Images hardly shrink; an archive that grows more than this fills disks.
_RATIO = 100
# A folder that holds one of these is a category; VisA's categories hold Data.
_OF_A_CATEGORY = ('train', 'test', 'Data')
_OPENERS = {b'\x1f\x8b': gzip.open, b'BZ': bz2.open, b'\xfd7': lzma.open}
_DAMAGE = (
  tarfile.TarError,
  zipfile.BadZipFile,
  zlib.error,
  lzma.LZMAError,
  struct.error,
  EOFError,
  OverflowError,
  RuntimeError,  # Encrypted zips, and zip's rarer compressions.
  ValueError,
)


class _Refused(Exception):  # noqa: N818 - nothing is wrong with the program.
  """An archive holds what it should not."""


class _Entry(NamedTuple):
  name: str
  content: IO[bytes] | None  # None is a folder.


def unpack(
  archive: Path,
  aside: Path,
  most_bytes: int = MOST_BYTES,
  most_entries: int = MOST_ENTRIES,
) -> Path:
  """Unpacks a tar (plain, gzip, bzip2 or xz) or a zip archive.

  Args:
    archive: The file.
    aside: An empty folder, from `staged`.
    most_bytes: A bound of all files together.
    most_entries: A bound of the number of files and folders.

  Returns:
    The folder, below `aside`, that holds everything. A folder around all of
    it is taken off, unless it is a category.

  Raises:
    ValueError: If it is no such archive, damaged, or breaks a rule.
    OSError: If a file cannot be read or written.
  """
  size = archive.stat().st_size
  require_room(aside, size, f'what {archive.name} holds')
  root = aside / 'all'
  root.mkdir()
  most_bytes = min(most_bytes, _RATIO * size)
  try:
    with archive.open('rb') as file, Board() as board:
      written = files = 0
      for number, entry in enumerate(_entries(file)):
        if number == most_entries:
          raise _Refused(f'more than {most_entries} entries')
        files += entry.content is not None
        for count in _write(root, entry):
          # The bytes that come count, not those that a header promises.
          written += count
          if written > most_bytes:
            raise _Refused(f'more than {amount(most_bytes)} in it')
          board.show('extraction', file.tell(), size, amount(written))
      if not files:
        raise _Refused('no files in it')
      board.end('extraction', f'{files} files, {amount(written)}')
    return _content(root)
  except _Refused as error:
    problem = str(error)
  except _DAMAGE as error:
    problem = f'damaged, cut off or no tar or zip ({error})'
  except OSError as error:
    if error.errno:  # The disk's. Errors of gzip and bz2 have no number.
      raise OSError(
        f'{aside.parent}: {error.strerror} while {archive} is extracted; '
        'nothing of it is left'
      ) from error
    problem = f'damaged or cut off ({error})'
  raise ValueError(
    f'{archive}: {problem}; nothing is extracted, get it anew from where it is '
    'published'
  )


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
  """Yields an empty folder beside the target, for this process alone.

  It is removed in the end, with whatever was not moved out of it.

  Raises:
    ValueError: If the target is there and not empty, or another process makes
      it.
  """
  if os.path.lexists(target) and (
    target.is_symlink() or not target.is_dir() or any(target.iterdir())
  ):
    raise ValueError(
      f'{target} is there already and left as it is; use it with '
      f'--config.data.root={target}, or move it away'
    )
  aside = target.with_name(f'.partial-{target.name}')
  aside.mkdir(parents=True, exist_ok=True)
  descriptor = os.open(aside, os.O_RDONLY)
  try:
    # The lock of a process that died is gone; what it left is cleared.
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not os.path.samestat(os.fstat(descriptor), aside.stat()):
      raise FileNotFoundError
  except (BlockingIOError, FileNotFoundError):
    os.close(descriptor)
    raise ValueError(
      f'{target}: another run makes it; wait for its end'
    ) from None
  try:
    for left in aside.iterdir():
      shutil.rmtree(left)
    yield aside
  finally:
    shutil.rmtree(aside)
    os.close(descriptor)


def amount(count: float) -> str:
  """Returns bytes as people say them: '12 kB', '850 MB', '5.3 GB'."""
  for unit in ('bytes', 'kB', 'MB'):
    if count < 999.5:
      return f'{count:.0f} {unit}'
    count /= 1000
  return f'{count:.1f} GB'


def require_room(folder: Path, needed: int, purpose: str) -> None:
  """Raises an `OSError` if fewer than so many bytes are free."""
  free = shutil.disk_usage(folder).free
  if free < needed:
    raise OSError(
      f'{folder}: {purpose} needs {amount(needed)}, {amount(free)} are free; '
      'free some, or give a --root on another disk'
    )


def _entries(file: IO[bytes]) -> Iterator[_Entry]:
  """Reads an archive to its very end, checksums included."""
  start = file.read(2)
  file.seek(0)
  if start == b'PK':
    yield from _of_zip(file)
    return
  with _OPENERS.get(start, lambda file: file)(file) as plain:
    with tarfile.open(fileobj=plain, mode='r|', tarinfo=_Header) as archive:
      while member := archive.next():
        if not (member.isreg() or member.isdir()) or member.issparse():
          raise _Refused(f'{_shown(member.name)} is a link or a device')
        yield _Entry(member.name, archive.extractfile(member))
    while plain.read(_CHUNK):
      pass


def _of_zip(file: IO[bytes]) -> Iterator[_Entry]:
  with zipfile.ZipFile(file) as archive:
    for info in archive.infolist():
      # The other name ends at a NUL.
      name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
      # Other systems than Unix leave the kind out.
      if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _Refused(f'{_shown(name)} is a link or a device')
      with archive.open(info) as content:
        yield _Entry(name, None if info.is_dir() else content)


class _Header(tarfile.TarInfo):
  """A header that raises where tarfile takes damage for the archive's end."""

  @classmethod
  def frombuf(
    cls, buf: bytes | bytearray, encoding: str, errors: str
  ) -> '_Header':
    try:
      header = super().frombuf(buf, encoding, errors)
    except tarfile.HeaderError as error:
      if len(buf) == tarfile.BLOCKSIZE and not any(buf):
        raise  # The end.
      raise tarfile.ReadError(str(error)) from None
    # A header is a block or, for long names, a few; more fill the memory.
    if header.size < 0 or (header.size > 1 << 20 and not header.isreg()):
      raise tarfile.ReadError('implausible size')
    return header


def _write(root: Path, entry: _Entry) -> Iterator[int]:
  """Writes an entry; yields the number of bytes of each piece."""
  path = root / _checked(entry.name, entry.content is None)
  # Names that differ by capital letters alone may be one: the disk knows.
  try:
    if entry.content is None:
      path.mkdir(parents=True, exist_ok=True)
      return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open('xb')
  except (FileExistsError, NotADirectoryError):
    raise _Refused(f'two entries named {_shown(entry.name)}') from None
  with file:
    while piece := entry.content.read(_CHUNK):
      yield file.write(piece)


def _checked(name: str, is_folder: bool) -> PurePosixPath:
  """Returns an entry's name as a path below the target."""
  path = PurePosixPath(name)
  empty = not path.parts and not is_folder
  if empty or len(name) > _LONGEST or not name.isprintable():
    raise _Refused(f'an entry has the name {_shown(name)}, which is not valid')
  if path.is_absolute() or '..' in path.parts or set(name) & set('\\:'):
    raise _Refused(f'an entry leads elsewhere, {_shown(name)}')
  return path


def _shown(name: str) -> str:
  return ascii(name if len(name) <= 80 else f'{name[:80]}...')


def _content(root: Path) -> Path:
  top = list(root.iterdir())
  if len(top) > 1 or not top[0].is_dir():
    return root
  is_category = any((top[0] / name).is_dir() for name in _OF_A_CATEGORY)
  return root if is_category else top[0]
