"""What has come of a download so far, and of which file it is.

It lies in `<target>.part`, and what the server said of the file in
`<target>.part.json`. Both are gone once the target is whole.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from simplenet_jax.data.downloads.disk import amount
from simplenet_jax.files import written_aside

# What reading a missing or damaged note raises: the download starts over.
_NO_NOTE = (FileNotFoundError, ValueError, LookupError, TypeError)


def path_of(target: Path) -> Path:
  """Returns where a download is while it is not whole."""
  return target.with_name(f'{target.name}.part')


class Part:
  """A file that grows by what comes; made by `opened`.

  Attributes:
    target: What it will be.
    path: Where it is.
    size: Of the whole file, in bytes; 0 where the server did not say.
  """

  def __init__(self, target: Path, descriptor: int):
    self.target, self.path = target, path_of(target)
    self.size = 0
    self._descriptor = descriptor
    self._about = self.path.with_name(f'{self.path.name}.json')
    self._url = self._validator = ''
    with contextlib.suppress(*_NO_NOTE):
      about = json.loads(self._about.read_text())
      self.size = int(about['size'])
      self._url, self._validator = str(about['url']), str(about['validator'])

  @property
  def have(self) -> int:
    """Bytes that have come so far."""
    return os.fstat(self._descriptor).st_size

  def is_whole(self, url: str) -> bool:
    """Whether nothing is missing of what this address gives."""
    return 0 < self.size == self.have and self._url == url

  def request(self, url: str) -> dict[str, str]:
    """Returns the header that asks for what is missing."""
    # The bytes that are stored and summed up are those of the archive itself.
    header = {'Accept-Encoding': 'identity'}
    if self.have and self._url == url:
      header['Range'] = f'bytes={self.have}-'
      if self._validator:
        header['If-Range'] = self._validator
    return header

  def is_continued_by(self, header: Mapping[str, str]) -> bool:
    """Whether an answer of status 206 goes on where this ends."""
    given = header.get('Content-Range', '')
    return given.startswith(f'bytes {self.have}-') and given.endswith(
      f'/{self.size or "*"}'
    )

  def begin(self, url: str, header: Mapping[str, str]) -> None:
    """Empties it and notes of which file the next byte is the first."""
    self.clear()
    validator = header.get('ETag', '')
    if not validator or validator.startswith('W/'):  # Not byte for byte.
      validator = header.get('Last-Modified', '')
    self._url, self._validator = url, validator
    self.size = int(header.get('Content-Length', 0))
    about = {'url': url, 'validator': validator, 'size': self.size}
    with written_aside(self._about) as aside:
      aside.write_text(json.dumps(about))

  def write(self, chunk: bytes) -> None:
    """Appends.

    Raises:
      OSError: If the disk is full or fails; what came before stays.
    """
    try:
      while chunk:
        chunk = chunk[os.write(self._descriptor, chunk) :]
    except OSError as error:
      raise OSError(
        f'{self.path}: {error.strerror} after {amount(self.have)}, which are '
        'kept; make room and start again'
      ) from None

  def clear(self) -> None:
    """Forgets what came."""
    os.ftruncate(self._descriptor, 0)
    self._url, self._validator, self.size = '', '', 0


@contextlib.contextmanager
def opened(target: Path) -> Iterator[Part]:
  """Opens what has come so far for this process alone.

  Args:
    target: What it will be; its folder is made where missing.

  Yields:
    The part. If nothing came, nothing stays.

  Raises:
    ValueError: If another run downloads it.
  """
  path = path_of(target)
  path.parent.mkdir(parents=True, exist_ok=True)
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
  try:
    _lock(descriptor, path)
    part = Part(target, descriptor)
    try:
      yield part
    finally:
      if not part.have:
        path.unlink(missing_ok=True)
      if not path.exists():
        path.with_name(f'{path.name}.json').unlink(missing_ok=True)
  finally:
    os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # One that ended just now may have renamed or removed what was opened.
    ours = os.path.samestat(os.fstat(descriptor), path.stat())
  except (BlockingIOError, FileNotFoundError):
    ours = False
  if not ours:
    raise ValueError(f'{path}: another run downloads it; wait for its end')
