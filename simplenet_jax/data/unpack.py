"""Archives become folders: whole, or not at all.

Tar and zip obey the same rules, stricter than those of tarfile's `data` filter:
only plain files and folders, each below the target and named once, within
bounds of number and size.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from simplenet_jax.console import Board, first_line

_MOST_BYTES = 20_000_000_000  # The files of any public data set together.
_MOST_ENTRIES = 40_000  # Its files and folders.
_LONGEST = 255  # Characters of an entry's name.
# Images hardly shrink; an archive that grows more than this fills disks.
_RATIO = 100


def unpack(archive: Path, aside: Path) -> Path:
  """Unpacks a tar (plain, gzip, bzip2 or xz) or zip archive into a folder.

  Returns the folder, below the empty one that is given, that holds everything,
  without a folder around all of it.
  """
  size, root = archive.stat().st_size, aside / 'all'
  require_room(aside, size, f'what {archive.name} holds')
  root.mkdir()
  most = min(_MOST_BYTES, _RATIO * size)
  try:
    with archive.open('rb') as file, Board() as board:
      files = written = 0
      for number, (name, count, content) in enumerate(_entries(file)):
        written += count
        if number == _MOST_ENTRIES or written > most:
          raise ValueError(
            f'more than {_MOST_ENTRIES} entries or {amount(most)} in it'
          )
        files += content is not None
        _write(root, name, content)
        board.show('extraction', file.tell(), size, amount(written))
      if not files:
        raise ValueError('no files in it')
      board.end('extraction', f'{files} files, {amount(written)}')
    top = list(root.iterdir())
    return top[0] if len(top) == 1 and top[0].is_dir() else root
  except Exception as error:  # Readers of archives raise many kinds.
    # The disk's errors have a number; those of gzip and bz2 have none.
    if isinstance(error, OSError) and error.errno:
      raise OSError(
        f'{aside.parent}: {error.strerror} while {archive} is extracted; '
        'nothing of it is left'
      ) from error
    raise ValueError(
      f'{archive}: no whole tar or zip of plain files ({first_line(error)}); '
      'nothing is extracted, download it again from where it is published'
    ) from error


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
  """Yields an empty folder beside the target, for this process alone.

  It is removed in the end, with whatever was not moved out of it. A target that
  holds something is refused.
  """
  empty = target.is_dir() and not any(target.iterdir())
  if os.path.lexists(target) and (target.is_symlink() or not empty):
    raise ValueError(
      f'{target} exists already and is left as it is; use it with '
      f'--config.data.root={target}, or move it away'
    )
  aside = target.with_name(f'.partial-{target.name}')
  aside.mkdir(parents=True, exist_ok=True)
  descriptor = os.open(aside, os.O_RDONLY)
  try:
    # The lock of a process that died is gone; what it left is cleared.
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for left in aside.iterdir():
      shutil.rmtree(left)
    try:
      yield aside
    finally:
      shutil.rmtree(aside)
  except BlockingIOError:
    told = f'{target}: another run makes it; wait for its end'
    raise ValueError(told) from None
  finally:
    os.close(descriptor)


def amount(count: float) -> str:
  """Returns bytes as people say them: '0.1 MB', '4,912.0 MB'."""
  return f'{count / 1e6:,.1f} MB'


def require_room(folder: Path, needed: int, purpose: str) -> None:
  """Raises an `OSError` if fewer than so many bytes are free."""
  free = shutil.disk_usage(folder).free
  if free < needed:
    raise OSError(
      f'{folder}: {purpose} needs {amount(needed)}, {amount(free)} are free; '
      'free some, or give a --root on another disk'
    )


def _entries(file: IO[bytes]) -> Iterator[tuple[str, int, IO[bytes] | None]]:
  """Yields names, bytes at most and contents; a folder's content is None."""
  zipped = file.read(2) == b'PK'
  file.seek(0)
  if zipped:
    with zipfile.ZipFile(file) as archive:
      for info in archive.infolist():
        # Other systems than Unix leave the kind out.
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
          raise ValueError(f'{info.filename!a} is no plain file or folder')
        content = None if info.is_dir() else archive.open(info)
        # Its plain `filename` ends at a NUL.
        yield info.orig_filename, info.file_size, content
    return
  with tarfile.open(fileobj=file, tarinfo=_Header) as archive:
    for member in archive:
      plain = (member.isreg() and not member.issparse()) or member.isdir()
      if not plain or member.size < 0:
        raise ValueError(f'{member.name!a} is no plain file or folder')
      yield member.name, member.size, archive.extractfile(member)
    while archive.fileobj.read(1 << 18):  # Up to the checksum behind it.
      pass


class _Header(tarfile.TarInfo):
  """A header that raises where tarfile takes damage for the archive's end."""

  @classmethod
  def frombuf(cls, buf: Any, encoding: str, errors: str) -> '_Header':
    try:
      header = super().frombuf(buf, encoding, errors)
    except tarfile.HeaderError as error:
      if len(buf) == tarfile.BLOCKSIZE and not any(buf):
        raise  # The end.
      raise tarfile.ReadError(str(error)) from None
    # A long name is a few blocks and read at once; more would fill the memory.
    if not (header.isreg() or 0 <= header.size <= 1 << 20):
      raise tarfile.ReadError('a header of implausible size')
    return header


def _write(root: Path, name: str, content: IO[bytes] | None) -> None:
  path = PurePosixPath(name)
  outside = path.is_absolute() or '..' in path.parts or {*name} & {*'\\:'}
  odd = not name.isprintable() or len(name) > _LONGEST
  if outside or odd or (content and not path.parts):
    raise ValueError(f'an entry leads elsewhere, {name[:80]!a}')
  # Names that differ by capital letters alone may be one: the disk knows.
  try:
    folder = root / (path.parent if content else path)
    folder.mkdir(parents=True, exist_ok=True)
    if content:
      with content, (root / path).open('xb') as file:
        shutil.copyfileobj(content, file)
  except (FileExistsError, NotADirectoryError):
    raise ValueError(f'two entries named {name!a}') from None
