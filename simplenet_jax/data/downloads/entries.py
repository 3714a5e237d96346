"""What a tar or a zip archive holds, one entry after the other."""

import bz2
import contextlib
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from typing import IO, NamedTuple

_CHUNK = 1 << 18  # Bytes of content at a time.
_HEADERS = 1 << 20  # Bytes that an entry's headers stay well below.
_OPENERS = {b'\x1f\x8b': gzip.open, b'BZh': bz2.open, b'\xfd7zXZ': lzma.open}
_DAMAGE = (
  tarfile.TarError,
  zipfile.BadZipFile,
  zlib.error,
  lzma.LZMAError,
  struct.error,
  EOFError,
  OverflowError,
  RuntimeError,  # Of zip's rarer compressions too.
  ValueError,
)


class Refused(Exception):  # noqa: N818 - nothing is wrong with the program.
  """An archive is damaged, or holds what it should not."""


class Entry(NamedTuple):
  """A file or a folder in an archive.

  Attributes:
    name: As the archive has it, unchecked.
    is_folder: Whether it is a folder.
    content: The file's, in pieces; to be read before the next entry.
  """

  name: str
  is_folder: bool
  content: Iterator[bytes]


def read(file: IO[bytes]) -> Generator[Entry, None, None]:
  """Reads an archive to its very end, checksums included.

  Args:
    file: A tar (plain, or compressed by gzip, bzip2 or xz) or a zip archive.

  Yields:
    Its files and folders.

  Raises:
    Refused: If it is no such archive, is damaged, cut off or encrypted, or
      holds something else than files and folders. Reading content raises it
      too.
    OSError: If the file cannot be read.
  """
  start = file.read(8)
  file.seek(0)
  with _damage_told():
    if start.startswith(b'PK'):
      yield from _of_zip(file)
      return
    for magic, opener in _OPENERS.items():
      if start.startswith(magic):
        with opener(file, 'rb') as plain:
          yield from _of_tar(plain)
        return
    yield from _of_tar(file)


def shown(name: str) -> str:
  """Returns an entry's name as it can be printed anywhere."""
  return ascii(name if len(name) <= 80 else f'{name[:80]}...')


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
  """Gives what the readers raise one name."""
  try:
    yield
  except _DAMAGE as error:
    raise Refused(f'damaged, cut off or no tar or zip ({error})') from error
  except OSError as error:
    if error.errno:  # Of the disk.
      raise
    raise Refused(f'damaged or cut off ({error})') from error


def _of_zip(file: IO[bytes]) -> Iterator[Entry]:
  with zipfile.ZipFile(file) as archive:
    for info in archive.infolist():
      # The other name has some characters replaced already.
      name = info.orig_filename
      if info.flag_bits & 1:
        raise Refused(f'{shown(name)} is encrypted')
      if stat.S_IFMT(info.external_attr >> 16) not in (
        0,  # Written by a system without such kinds.
        stat.S_IFREG,
        stat.S_IFDIR,
      ):
        raise Refused(f'{shown(name)} is a link or a device')
      with archive.open(info) as content:
        yield Entry(name, info.is_dir(), _pieces(content))


def _of_tar(file: IO[bytes]) -> Iterator[Entry]:
  source = _Source(file)
  with tarfile.open(fileobj=source, mode='r|', tarinfo=_Header) as archive:
    while member := archive.next():
      if member.issym() or member.islnk():
        raise Refused(f'{shown(member.name)} is a link')
      if member.issparse() or not (member.isreg() or member.isdir()):
        raise Refused(f'{shown(member.name)} is no plain file or folder')
      content = archive.extractfile(member)
      pieces = _pieces(content, source) if content else iter(())
      yield Entry(member.name, member.isdir(), pieces)
      source.allow(0)
  # Compressed files end with a checksum.
  while source.read(_CHUNK):
    pass


def _pieces(
  content: IO[bytes], source: '_Source | None' = None
) -> Iterator[bytes]:
  while True:
    if source:
      source.allow(_CHUNK)
    with _damage_told():
      chunk = content.read(_CHUNK)
    if not chunk:
      return
    yield chunk


class _Source(io.RawIOBase):
  """Unpacked bytes of a tar; headers of a huge size do not fill the memory."""

  def __init__(self, file: IO[bytes]):
    self._file = file
    self.allow(0)

  def allow(self, count: int) -> None:
    """Lets so many bytes be read, and headers."""
    self._left = count + _HEADERS

  def read(self, size: int = -1, /) -> bytes:
    """Reads as files do."""
    self._left -= size
    if self._left < 0 or size < 0:
      raise Refused('headers or an end of an implausible size')
    return self._file.read(size)


class _Header(tarfile.TarInfo):
  """One that raises where tarfile takes damage for the archive's end."""

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
    if header.size < 0:
      raise tarfile.ReadError('negative size')
    return header
