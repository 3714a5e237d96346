"""Public data sets: downloaded, compared with their checksums, unpacked."""

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3

from simplenet_jax.console import Board, at_once, console, duration
from simplenet_jax.data.unpack import amount, require_room, staged, unpack
from simplenet_jax.files import ASSETS, read_json

MARKER = '.download.json'  # Lies in folders that `obtain` made whole.
TRIES = 6  # Tries in a row that bring nothing new.
DELAY = 1.0  # Seconds before the second try; each further delay doubles.
TIMEOUT = (10.0, 60.0)  # Seconds to connect, and between two pieces.
CHUNK = 1 << 16  # Bytes received at a time.


class Archive(NamedTuple):
  """The file that a data set is published as."""

  name: str
  folder: str  # The name of the data set's folder and of its config.
  url: str
  sha256: str
  terms: str  # The licence in one line.
  citation: str
  manual: str = ''  # What TFDS says of a data set that is not there.


_FACTS = read_json(ASSETS / 'datasets.json')
ARCHIVES = {name: Archive(name, **_FACTS[name]) for name in _FACTS}


def obtain(
  archive: Archive,
  root: Path,
  *,
  given: Path | None = None,
  accepted: bool = False,
  keep: bool = False,
) -> Path:
  """Makes a data set's folder below `root`, unless it is there.

  The archive may be `given`, then it stays; one that is downloaded may be kept.
  What a signal stops, the same call goes on with later.
  """
  target = root / archive.folder
  mark = json.dumps({'name': archive.name, 'sha256': archive.sha256})
  with contextlib.suppress(OSError, ValueError):
    if (target / MARKER).read_text() == mark:
      console.print(f'{target}/ holds all of {archive.name} already')
      return target
  console.print(f'{archive.name} to {target}/\n  {archive.terms}')
  console.print(f'  cite {archive.citation}')
  if 'no commercial use' in archive.terms and not accepted:
    raise ValueError(
      f'{archive.name} comes under {archive.terms}; give --accept_license if '
      'you accept that'
    )
  if given:
    _verify(given, archive.sha256, 'give another --archive, or none')
  downloads = root / 'downloads'
  file = given or downloads / archive.url.rpartition('/')[2]
  stopped = f'stopped; what has come stays in {downloads}, start again to go on'
  with at_once(lambda: stopped), staged(target) as aside:
    if not given:
      fetch(archive.url, archive.sha256, file)
    content = unpack(file, aside)
    (content / MARKER).write_text(mark)
    content.rename(target)
  if not given and not keep:
    console.print(f'  deletes {file} (--keep_archive keeps it)')
    file.unlink()
    with contextlib.suppress(OSError):  # Other archives may lie there.
      downloads.rmdir()
  return target


def fetch(url: str, sha256: str, target: Path) -> None:
  """Downloads a file, or what an earlier call left missing of it.

  Until it is whole it lies in `<target>.part`, which the next call completes;
  with a wrong checksum it is deleted.
  """
  if target.exists():
    return _verify(target, sha256, 'delete it and start again')
  part = target.with_name(f'{target.name}.part')
  part.parent.mkdir(parents=True, exist_ok=True)
  with part.open('ab', buffering=0) as file:
    _complete(url, file, target)
  try:
    _verify(part, sha256, 'it is deleted, start again')
  except ValueError:
    part.unlink()
    raise
  part.rename(target)


def _verify(path: Path, sha256: str, mend: str) -> None:
  with path.open('rb') as file:
    found = hashlib.file_digest(file, 'sha256').hexdigest()
  if found != sha256:
    raise ValueError(
      f'{path} is damaged or another file, its SHA-256 is {found}, expected '
      f'{sha256}; {mend}'
    )


def _complete(url: str, file: IO[bytes], target: Path) -> None:
  """Tries until nothing is missing, or until tries bring nothing new."""
  tries, most = 0, file.tell()
  while problem := _receive(url, file, target):
    tries = tries + 1 if file.tell() <= most else 1
    most = max(most, file.tell())
    if tries == TRIES:
      kept = f', {amount(file.tell())} are kept' if file.tell() else ''
      raise _by_hand(f'{problem}, {tries} times{kept}', url, target)
    delay = DELAY * 2 ** (tries - 1)
    console.print(f'  {problem}; tries again in {duration(delay)}')
    time.sleep(delay)


def _receive(url: str, file: IO[bytes], target: Path) -> str:
  """Appends what is missing; returns the problem that another try may mend."""
  host, have = urlsplit(url).hostname, file.tell()
  # The bytes that are stored are those of the archive itself.
  headers = {'Accept-Encoding': 'identity'}
  headers |= {'Range': f'bytes={have}-'} if have else {}
  try:
    response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
  except (requests.ConnectionError, requests.Timeout) as error:
    cause = getattr(error.args[0] if error.args else error, 'reason', error)
    return f'{host} cannot be reached ({str(cause).rpartition(": ")[2]})'
  except requests.RequestException as error:
    raise _by_hand(str(error), url, target) from error
  with response:
    status, found = response.status_code, response.headers
    if status == 416 and have:
      return ''  # Nothing is missing.
    problem = f'{host} answers {status} {response.reason}'
    if status >= 500 or status in (408, 425, 429):
      return problem
    if status not in (200, 206):
      raise _by_hand(problem, url, target)
    # The page of a hotel's network must not replace what has come.
    if 'html' in found.get('Content-Type', ''):
      return f'{host} answers with a web page'
    part = found.get('Content-Range', '')
    if status == 200:
      file.truncate(have := file.seek(0))
    elif not part.startswith(f'bytes {have}-'):
      return f'{host} answers with another part of the file'
    whole, rest = part.rpartition('/')[2], int(found.get('Content-Length', 0))
    size = int(whole) if whole.isdigit() else have + rest
    here = f', {amount(have)} are here' if have else ''
    console.print(f'  downloads {target.name}, {amount(size)}{here}')
    require_room(target.parent, size - have, target.name)
    with contextlib.suppress(urllib3.exceptions.HTTPError):
      _append(file, size, response.raw)
      if file.tell() >= size:
        return ''
  return f'{host} broke off'


def _append(file: IO[bytes], size: int, raw: urllib3.BaseHTTPResponse) -> None:
  with Board() as board:
    for rest in raw.stream(CHUNK, decode_content=False):
      try:
        while rest:
          rest = rest[file.write(rest) :]
      except OSError as error:
        raise OSError(
          f'{file.name}: {error.strerror} after {amount(file.tell())}, which '
          'are kept; make room and start again'
        ) from None
      note = f'{amount(file.tell())} of {amount(size)}'
      board.show('download', file.tell(), size or file.tell(), note)
    board.end('download', amount(file.tell()))


def _by_hand(problem: str, url: str, target: Path) -> OSError:
  return OSError(
    f'{problem}; start again later, or get {url} by hand, put it at {target} '
    '(or give --archive=FILE) and start again'
  )
