"""Features on disk that runs share, by what they were made of.

A file holds the features of one category and their checksum, under a digest of
all that they depend on: files are never out of date. Several processes can
fill, read and trim the same folder.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from simplenet_jax.console import console, first_line
from simplenet_jax.data.inputs import Inputs

_CHECKSUM = 4  # Bytes after the features.
_PARTIAL = '.partial-'


def key(inputs: Inputs, made_by: str) -> str:
  """Returns a digest of a category's images and of what made their features."""
  digest = hashlib.sha256(made_by.encode())
  test = [sample.path for sample in inputs.category.test]
  frames = [*inputs.train, *inputs.test]
  for file, frame in zip([*inputs.category.train, *test], frames, strict=True):
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    digest.update(f'{found} {frame}\n'.encode())
  return digest.hexdigest()


class FeatureCache:
  """A folder of features, arrays of `layout.row_type`; the oldest go first."""

  def __init__(self, folder: Path, gigabytes: float):
    """Makes the folder; its files together take `gigabytes` at most."""
    folder.mkdir(parents=True, exist_ok=True)
    self._folder, self._limit = folder, int(gigabytes * 1e9)

  def has(self, key: str) -> bool:
    """Returns whether there is a file, whole or not."""
    return self._path(key).exists()

  def read(self, key: str, kind: np.dtype, images: int) -> np.ndarray | None:
    """Maps features into memory; a file that is damaged is told and removed."""
    path = self._path(key)
    try:
      content = np.memmap(path, np.uint8, 'r')
      data, checksum = content[:-_CHECKSUM], content[-_CHECKSUM:]
      if len(data) != images * kind.itemsize:
        raise ValueError(f'{len(content)} bytes are too few or too many')
      if _checksum(data) != checksum.tobytes():
        raise ValueError('its checksum is another than when it was written')
      os.utime(path)
    except FileNotFoundError:
      return None
    except (OSError, ValueError) as error:
      console.print(f'  {path} is damaged and made again ({first_line(error)})')
      path.unlink(missing_ok=True)
      return None
    return data.view(kind)

  @contextlib.contextmanager
  def filled(
    self, key: str, kind: np.dtype, images: int
  ) -> Iterator[np.ndarray | None]:
    """Yields an array to fill, and keeps it; None where there is no room."""
    size = images * kind.itemsize + _CHECKSUM
    with contextlib.ExitStack() as opened:
      try:
        self._make_room(size)
        file = opened.enter_context(
          tempfile.NamedTemporaryFile(
            prefix=_PARTIAL, dir=self._folder, delete=False
          )
        )
        opened.callback(Path(file.name).unlink, missing_ok=True)
        # Held until this process ends: others tell by it what a kill has left.
        fcntl.flock(file, fcntl.LOCK_EX)
        os.posix_fallocate(file.fileno(), 0, size)
      except (OSError, ValueError) as error:
        console.print(
          f'  features are not kept in the cache: {first_line(error)}'
        )
        yield None
        return
      content = np.memmap(file, np.uint8, 'r+')
      data = content[:-_CHECKSUM]
      yield data.view(kind)
      content[-_CHECKSUM:] = np.frombuffer(_checksum(data), np.uint8)
      content.flush()
      # Another process may have taken it for what a kill has left.
      with contextlib.suppress(FileNotFoundError):
        Path(file.name).replace(self._path(key))

  def _path(self, key: str) -> Path:
    return self._folder / f'{key}.features'

  def _make_room(self, size: int) -> None:
    """Removes what a kill has left, then what was not used for longest."""
    for path in self._folder.glob(f'{_PARTIAL}*'):
      with contextlib.suppress(OSError), path.open('rb') as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    if size > self._limit:
      raise ValueError(
        f'they take {size / 1e9:.3g} GB; raise --config.bank.cache_gb (now '
        f'{self._limit / 1e9:.3g})'
      )
    found = []
    for path in self._folder.glob('*.features'):
      with contextlib.suppress(FileNotFoundError):
        about = path.stat()
        found.append((about.st_mtime_ns, about.st_size, path))
    taken = sum(one for _, one, _ in found)
    for _, one, path in sorted(found):
      if taken + size <= self._limit:
        break
      path.unlink(missing_ok=True)
      taken -= one


def _checksum(data: np.ndarray) -> bytes:
  return zlib.crc32(data.data).to_bytes(_CHECKSUM, 'big')
