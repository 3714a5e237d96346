"""Downloads that stop, go on, and are not what was asked for."""

import gzip
import shutil
import types

import numpy as np
import pytest

from simplenet_jax.data import download
from tests.data import serving

CONTENT = np.random.default_rng(0).bytes(300_000)
PIECE = 100_000


@pytest.fixture
def server():
  with serving.serve(CONTENT) as server:
    yield server


@pytest.fixture
def target(tmp_path):
  return tmp_path / 'downloads' / 'images.tar'


@pytest.fixture(autouse=True)
def delays(monkeypatch):
  """Nobody waits; what would have been waited is noted."""
  waited = []
  monkeypatch.setattr(download.time, 'sleep', waited.append)
  return waited


def fetch(server, target):
  download.fetch(server.url, server.sha256, target)
  assert target.read_bytes() == server.content
  assert serving.listing(target.parent) == [target.name]


def fails(server, target, match):
  """One line says what is wrong."""
  with pytest.raises(OSError, match=match) as caught:
    fetch(server, target)
  assert '\n' not in str(caught.value)
  assert not target.exists()
  return str(caught.value)


def begin(target, content=CONTENT[:PIECE]):
  """Leaves a download that has come so far."""
  target.parent.mkdir()
  target.with_name('images.tar.part').write_bytes(content)


def test_what_is_there_is_checked_and_not_downloaded(server, target):
  target.parent.mkdir()
  target.write_bytes(CONTENT)
  fetch(server, target)
  target.write_bytes(b"the user's")
  with pytest.raises(ValueError, match='delete it and start again') as caught:
    fetch(server, target)
  assert str(target) in str(caught.value)
  assert server.sha256 in str(caught.value)
  assert target.read_bytes() == b"the user's"
  assert not server.asked


def test_a_connection_that_breaks_is_taken_up(server, target, delays, capsys):
  server.pieces = [PIECE]
  fetch(server, target)
  assert server.asked == [None, f'bytes={PIECE}-']
  assert server.sent == [PIECE, len(CONTENT) - PIECE]
  assert delays == [1.0]
  told = capsys.readouterr().out
  assert '127.0.0.1 broke off; tries again in 1 s' in told
  assert 'downloads images.tar, 0.3 MB, 0.1 MB are here' in told


def test_breaks_without_progress_end(server, target, delays):
  server.ranges = False
  server.pieces = [PIECE] * 20
  fails(server, target, 'broke off, 6 times, 0.1 MB are kept; start again')
  assert len(server.asked) == 6
  assert delays == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_a_web_page_does_not_replace_what_has_come(server, target):
  begin(target)
  server.header = {'Content-Type': 'text/html'}
  fails(server, target, 'with a web page, 6 times, 0.1 MB are kept')
  server.header = {}
  fetch(server, target)
  assert server.sent[-1] == len(CONTENT) - PIECE


@pytest.mark.parametrize('size', [50_000, PIECE, 200_000, len(CONTENT)])
def test_another_file_is_deleted(server, target, size):
  begin(target)
  expected = server.sha256
  server.content = CONTENT[::-1][:size]
  with pytest.raises(ValueError, match='it is deleted, start again') as caught:
    download.fetch(server.url, expected, target)
  assert expected in str(caught.value)
  assert serving.listing(target.parent) == []


@pytest.mark.parametrize('status', [503, 429])
def test_a_busy_server_is_asked_again(server, target, delays, status):
  server.statuses = [status] * 3
  fetch(server, target)
  assert delays == [1.0, 2.0, 4.0]
  target.unlink()
  server.statuses = [status] * 20
  fails(server, target, f'answers {status} .*, 6 times')


@pytest.mark.parametrize('status', [401, 404, 416])
def test_a_refusal_is_told_at_once(server, target, delays, status):
  server.statuses = [status]
  message = fails(server, target, f'127.0.0.1 answers {status} ')
  assert server.url in message
  assert str(target) in message
  assert not delays


@pytest.mark.parametrize(
  'url', ['', '/etc/hosts', 'file:///etc/hosts', 'http://127.0.0.1:9/a.tar']
)
def test_addresses_without_a_server_are_told(target, url):
  server = serving.Server(CONTENT)
  server.url = url
  message = fails(server, target, 'reached' if '9' in url else 'by hand')
  assert message.endswith(
    f'get {server.url} by hand, put it at {target} (or give --archive=FILE) '
    'and start again'
  )


@pytest.mark.parametrize(
  ('have', 'quirks', 'sent'),
  [
    (3 * PIECE, {}, [0]),  # Killed before it was renamed.
    (PIECE, {'ranges': False}, [3 * PIECE]),
    (PIECE, {'most': PIECE}, [PIECE, PIECE]),
    (PIECE, {'length': False}, [2 * PIECE]),
  ],
)
def test_what_is_missing_is_completed(server, target, have, quirks, sent):
  begin(target, CONTENT[:have])
  vars(server).update(quirks)
  fetch(server, target)
  assert server.sent == sent


def test_bytes_are_stored_as_they_are(server, target):
  server.content = gzip.compress(CONTENT)
  server.header, server.length = {'Content-Encoding': 'gzip'}, False
  fetch(server, target)


def test_a_full_disk_keeps_what_has_come(
  server, target, monkeypatch, file_limit
):
  file_limit(150_000)
  fails(server, target, 'File too large after 0.1 MB, which are kept')
  part = target.with_name('images.tar.part')
  assert part.read_bytes() == CONTENT[:150_000]
  usage = types.SimpleNamespace(free=1000)
  monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
  fails(server, target, 'needs 0.1 MB, 0.0 MB are free')
