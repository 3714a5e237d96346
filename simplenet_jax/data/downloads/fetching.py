"""Files from the web: taken up where they stopped, checked before use."""

import hashlib
import time
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import requests
import urllib3

from simplenet_jax.console import Board, console, duration
from simplenet_jax.data.downloads import part
from simplenet_jax.data.downloads.disk import amount, require_room
from simplenet_jax.data.downloads.part import Part

TRIES = 6  # In a row that bring nothing new.
DELAY = 1.0  # Seconds before the second try; doubled before each further one.
TIMEOUT = (10.0, 60.0)  # Seconds to connect, and from one piece to the next.

_CHUNK = 1 << 16  # Bytes received at a time.
_USUAL = 10e6  # Bytes a second, to say how long it may take.
_BUSY = (408, 425, 429)  # Refusals that pass, as those of 500 and above may.


class _Again(Exception):  # noqa: N818 - it is the caller's turn.
  """This try failed, another may not.

  Attributes:
    reached: Whether there was a server at all.
  """

  def __init__(self, message: str, reached: bool = True):
    super().__init__(message)
    self.reached = reached


def fetch(url: str, sha256: str, target: Path, note: str = '') -> Path:
  """Downloads a file, or what is missing of it.

  Args:
    url: Its address.
    sha256: Its checksum, hexadecimal.
    target: Where it goes. A file that is there already is checked, and neither
      downloaded nor changed.
    note: What else to say of it before it starts.

  Returns:
    The target, which is only ever there whole.

  Raises:
    ValueError: If the address is of another kind, the checksum is wrong (what
      was downloaded is deleted then), or another run downloads it.
    OSError: If it cannot be downloaded, or does not fit on the disk. What has
      come is kept, and completed by the next call.
  """
  if urlsplit(url).scheme not in ('http', 'https'):
    raise ValueError(f'{url}: expected an address with http:// or https://')
  if target.exists() and not target.is_file():
    raise ValueError(f'{target} is there and no file; move it away')
  if target.exists():
    console.print(f'  {target} is there, {amount(target.stat().st_size)}')
    verify(target, sha256)
    return target
  with part.opened(target) as begun:
    _complete(begun, url, note)
    try:
      verify(begun.path, sha256, 'it is deleted, start again')
    except ValueError:
      begun.clear()
      raise
    begun.path.replace(target)
  return target


def verify(
  path: Path, sha256: str, mend: str = 'delete it and start again'
) -> None:
  """Compares a file with its checksum.

  Args:
    path: The file.
    sha256: Hexadecimal.
    mend: What to do about a wrong one.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If it is another one.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file')
  size, done, digest = path.stat().st_size, 0, hashlib.sha256()
  with path.open('rb') as file, Board() as board:
    while chunk := file.read(1 << 20):
      digest.update(chunk)
      done += len(chunk)
      board.show('checksum', done, size, f'{amount(done)} of {amount(size)}')
    found = digest.hexdigest()
    board.end('checksum', 'right' if found == sha256 else '')
  if found != sha256:
    raise ValueError(
      f'{path} is damaged or another file, its SHA-256 is {found}, expected '
      f'{sha256}; {mend}'
    )


def _complete(begun: Part, url: str, note: str) -> None:
  """Tries until nothing is missing, or tries bring nothing new."""
  reached, tries, most = False, 0, begun.have
  while not begun.is_whole(url):
    try:
      return _receive(begun, url, note)
    except _Again as error:
      reached |= error.reached
      tries = tries + 1 if begun.have <= most else 1
      most = max(most, begun.have)
      if tries == TRIES or not reached:
        _give_up(begun, url, f'{error}{f", {tries} times" if reached else ""}')
      delay = DELAY * 2 ** (tries - 1)
      console.print(f'  {error}; tries again in {duration(delay)}')
      time.sleep(delay)


def _receive(begun: Part, url: str, note: str) -> None:
  """Asks once for what is missing, and appends what comes."""
  with _ask(begun, url) as response:
    first = begun.have
    # A network's or a share's own page must not replace what has come.
    kind = response.headers.get('Content-Type', '')
    if response.status_code != 416 and 'html' in kind:
      raise _Again(f'{urlsplit(url).hostname} answers with a web page')
    if response.status_code == 200:
      begun.begin(url, response.headers)
    elif not begun.is_continued_by(response.headers):
      begun.clear()
      raise _Again(f'{urlsplit(url).hostname} has another file by now')
    _announce(begun, first, note)
    missing = begun.size - begun.have
    require_room(begun.path.parent, missing, begun.target.name)
    try:
      _append(begun, response)
      whole = begun.have == begun.size or not begun.size
    except urllib3.exceptions.HTTPError:
      whole = False
    if not whole:
      raise _Again(f'{urlsplit(url).hostname} broke off')


def _ask(begun: Part, url: str) -> requests.Response:
  """Returns an answer of status 200, 206 or 416."""
  host = urlsplit(url).hostname
  try:
    response = requests.get(
      url, headers=begun.request(url), stream=True, timeout=TIMEOUT
    )
  except (requests.ConnectionError, requests.Timeout) as error:
    cause = error.args[0] if error.args else error
    reason = str(getattr(cause, 'reason', cause)).rsplit(': ', 1)[-1]
    # Of this kind are those that come before there is a connection.
    reached = not isinstance(cause, urllib3.exceptions.MaxRetryError)
    raise _Again(f'{host} cannot be reached ({reason})', reached) from error
  except requests.RequestException as error:
    _give_up(begun, url, str(error))
  status = response.status_code
  if status in (200, 206) or (status == 416 and begun.have):
    return response
  response.close()
  said = f'{host} answers {status} {response.reason}'
  if status >= 500 or status in _BUSY:
    raise _Again(said)
  _give_up(begun, url, said)


def _append(begun: Part, response: requests.Response) -> None:
  first = done = begun.have
  start = time.perf_counter()
  with Board() as board:
    for chunk in response.raw.stream(_CHUNK, decode_content=False):
      begun.write(chunk)
      done += len(chunk)
      pace = (done - first) / (time.perf_counter() - start)
      note = f'{amount(done)} of {amount(begun.size)}, {amount(pace)}/s'
      if begun.size:
        board.show('download', done, begun.size, note)
    board.end('download', amount(done))


def _announce(begun: Part, first: int, note: str) -> None:
  name, size = begun.target.name, begun.size
  if begun.have:
    verb, what = 'goes on with', f'at {amount(begun.have)} of {amount(size)}'
  else:
    verb = 'starts over with' if first else 'downloads'
    what = amount(size) if size else 'of a size that the server does not tell'
  least = duration((size - begun.have) / _USUAL)
  time_ = f' (about {least} at {amount(_USUAL)}/s)' if size else ''
  console.print(f'  {verb} {name}, {what}{time_}{", " if note else ""}{note}')


def _give_up(begun: Part, url: str, reason: str) -> NoReturn:
  kept = f', {amount(begun.have)} are kept' if begun.have else ''
  raise OSError(
    f'{reason}{kept}; start again later, or get {url} by hand, put it at '
    f'{begun.target} (or give --archive=FILE) and start again'
  )
