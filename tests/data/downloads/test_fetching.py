"""Downloads that stop, go on, and are not what was asked for."""

import collections
import errno
import gzip
import itertools
import os
import resource
import shutil
import threading

import numpy as np
import pytest

from simplenet_jax import console
from simplenet_jax.data.downloads import fetching, part
from tests.data.downloads import serving

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
  monkeypatch.setattr(fetching.time, 'sleep', waited.append)
  return waited


def fetch(server, target, **other):
  return fetching.fetch(
    other.get('url', server.url), other.get('sha256', server.sha256), target
  )


def begin(server, target, monkeypatch, piece=PIECE):
  """Leaves a download that has come so far."""
  with monkeypatch.context() as patched:
    patched.setattr(fetching, 'TRIES', 1)
    server.pieces = [piece]
    with pytest.raises(OSError, match='broke off') as caught:
      fetch(server, target)
  assert part.path_of(target).stat().st_size == piece
  assert not target.exists()
  server.requests.clear()
  server.sent.clear()
  return one_line(caught)


def one_line(caught):
  assert '\n' not in str(caught.value)
  return str(caught.value)


def assert_whole(server, target):
  assert target.read_bytes() == server.content
  assert serving.listing(target.parent) == [target.name]


def test_a_file_comes_whole(server, target, capsys):
  assert fetching.fetch(server.url, server.sha256, target, 'CC0') == target
  assert_whole(server, target)
  assert server.requests[0]['Accept-Encoding'] == 'identity'
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == (
    '  downloads images.tar, 300 kB (about 0 s at 10 MB/s), CC0'
  )
  assert lines[1].startswith('  download: 300 kB in ')
  assert lines[2].startswith('  checksum: right in ')


def test_what_is_there_is_checked_and_not_downloaded(server, target):
  fetch(server, target)
  before = target.stat()
  assert fetch(server, target) == target
  assert len(server.requests) == 1
  assert target.stat() == before


def test_what_is_there_and_wrong_is_told_and_left(server, target):
  target.parent.mkdir()
  target.write_bytes(b"the user's")
  with pytest.raises(ValueError, match='delete it and start again') as caught:
    fetch(server, target)
  assert str(target) in one_line(caught)
  assert server.sha256 in one_line(caught)
  assert target.read_bytes() == b"the user's"
  assert not server.requests


def test_a_connection_that_breaks_is_taken_up(server, target, delays, capsys):
  server.pieces = [PIECE]
  fetch(server, target)
  assert_whole(server, target)
  assert server.asked == [None, f'bytes={PIECE}-']
  assert server.requests[1]['If-Range'] == '"one"'
  assert server.sent == [PIECE, len(CONTENT) - PIECE]
  assert delays == [1.0]
  told = capsys.readouterr().out
  assert '127.0.0.1 broke off; tries again in 1 s' in told
  assert 'goes on with images.tar, at 100 kB of 300 kB' in told


def test_a_run_that_ended_is_taken_up(server, target, monkeypatch):
  message = begin(server, target, monkeypatch)
  assert '100 kB are kept; start again' in message
  fetch(server, target)
  assert_whole(server, target)
  assert server.asked == [f'bytes={PIECE}-']
  assert server.sent == [len(CONTENT) - PIECE]


def test_many_breaks_are_taken_up_while_something_comes(server, target, delays):
  server.pieces = [10_000] * 20
  fetch(server, target)
  assert_whole(server, target)
  assert sum(server.sent) == len(CONTENT)
  assert delays == [1.0] * 20


def test_breaks_without_progress_end(server, target, delays):
  server.ranges = False
  server.pieces = [PIECE] * 20
  with pytest.raises(OSError, match='broke off, 6 times') as caught:
    fetch(server, target)
  one_line(caught)
  assert len(server.requests) == 6
  assert delays == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_a_server_without_ranges_starts_over(
  server, target, monkeypatch, capsys
):
  begin(server, target, monkeypatch)
  server.ranges = False
  fetch(server, target)
  assert_whole(server, target)
  assert server.sent == [len(CONTENT)]
  assert 'starts over with images.tar, 300 kB' in capsys.readouterr().out


def test_a_web_page_does_not_replace_what_has_come(
  server, target, monkeypatch, delays
):
  begin(server, target, monkeypatch)
  server.ranges, server.header = False, {'Content-Type': 'text/html'}
  with pytest.raises(
    OSError, match='with a web page, 6 times, 100 kB are kept'
  ):
    fetch(server, target)
  server.ranges, server.header = True, {}
  fetch(server, target)
  assert_whole(server, target)
  assert server.sent[-1] == len(CONTENT) - PIECE


@pytest.mark.parametrize('note', ['{}', '[]', '3', '{"size": "x"}', '{'])
def test_a_damaged_note_starts_over(server, target, monkeypatch, note):
  begin(server, target, monkeypatch)
  part.path_of(target).with_name(f'{target.name}.part.json').write_text(note)
  fetch(server, target)
  assert_whole(server, target)
  assert server.sent[-1] == len(CONTENT)


def test_a_changed_file_starts_over(server, target, monkeypatch):
  begin(server, target, monkeypatch)
  server.content = CONTENT[::-1]
  server.validators = {'ETag': '"two"'}
  fetch(server, target)
  assert_whole(server, target)
  assert server.asked == [f'bytes={PIECE}-']


@pytest.mark.parametrize(
  ('validators', 'sent'),
  [
    ({}, None),
    ({'Last-Modified': serving.MODIFIED}, serving.MODIFIED),
    (
      {'ETag': 'W/"one"', 'Last-Modified': serving.MODIFIED},
      serving.MODIFIED,
    ),
    ({'ETag': 'W/"one"'}, None),
  ],
)
def test_what_identifies_the_file_is_sent_back(
  server, target, monkeypatch, validators, sent
):
  server.validators = validators
  begin(server, target, monkeypatch)
  fetch(server, target)
  assert_whole(server, target)
  assert server.asked == [f'bytes={PIECE}-']
  assert server.requests[0].get('If-Range') == sent


@pytest.mark.parametrize('size', [50_000, PIECE, 200_000])
def test_a_file_of_another_size_starts_over(server, target, monkeypatch, size):
  server.validators = {}
  begin(server, target, monkeypatch)
  server.content = CONTENT[:size]
  fetch(server, target)
  assert_whole(server, target)
  assert server.asked == [f'bytes={PIECE}-', None]


def test_what_has_come_whole_is_not_asked_for(server, target, monkeypatch):
  begin(server, target, monkeypatch)
  part.path_of(target).write_bytes(CONTENT)  # Killed before it was renamed.
  fetch(server, target)
  assert_whole(server, target)
  assert not server.requests


def test_a_part_of_unknown_origin_is_not_taken_up(server, target, monkeypatch):
  begin(server, target, monkeypatch)
  target.with_name('images.tar.part.json').unlink()
  fetch(server, target)
  assert_whole(server, target)
  assert server.asked == [None]


def test_a_part_of_another_address_is_not_taken_up(server, target, monkeypatch):
  begin(server, target, monkeypatch)
  fetch(server, target, url=server.url + '?version=2')
  assert_whole(server, target)
  assert server.asked == [None]


def test_a_wrong_file_is_deleted(server, target, monkeypatch):
  expected = 'f' * 64
  with pytest.raises(ValueError, match='it is deleted, start again') as caught:
    fetch(server, target, sha256=expected)
  assert server.sha256 in one_line(caught)
  assert expected in one_line(caught)
  assert serving.listing(target.parent) == []


def test_the_checksum_is_of_what_lies_on_the_disk(server, target, monkeypatch):
  begin(server, target, monkeypatch)
  with part.path_of(target).open('r+b') as file:
    file.write(bytes([CONTENT[0] ^ 1]))
  with pytest.raises(ValueError, match='SHA-256'):
    fetch(server, target)
  assert serving.listing(target.parent) == []


@pytest.mark.parametrize('status', [500, 503, 429, 408])
def test_a_busy_server_is_asked_again(server, target, delays, capsys, status):
  server.statuses = [status] * 3
  fetch(server, target)
  assert_whole(server, target)
  assert delays == [1.0, 2.0, 4.0]
  assert f'answers {status} ' in capsys.readouterr().out


def test_a_server_that_stays_busy_is_told(server, target, delays):
  server.statuses = [503] * 20
  with pytest.raises(OSError, match='503 Service Unavailable, 6 t') as caught:
    fetch(server, target)
  assert str(target) in one_line(caught)
  assert len(server.requests) == 6
  assert sum(delays) == 31
  assert serving.listing(target.parent) == []


@pytest.mark.parametrize('status', [401, 403, 404, 410, 416])
def test_a_refusal_is_told_at_once(server, target, delays, status):
  server.statuses = [status]
  with pytest.raises(OSError, match=f'127.0.0.1 answers {status} ') as caught:
    fetch(server, target)
  assert server.url in one_line(caught)
  assert str(target) in one_line(caught)
  assert not delays
  assert serving.listing(target.parent) == []


def test_without_a_network_it_says_what_to_do(target, delays):
  url = serving.closed_url()
  with pytest.raises(OSError, match=r'127\.0\.0\.1 cannot be reached') as e:
    fetching.fetch(url, '0' * 64, target)
  message = one_line(e)
  assert 'Connection refused' in message
  assert message.endswith(
    f'get {url} by hand, put it at {target} (or give --archive=FILE) and '
    'start again'
  )
  assert not delays
  assert serving.listing(target.parent) == []


def test_a_network_that_goes_meanwhile_is_waited_for(
  server, target, delays, monkeypatch
):
  server.pieces = [PIECE]
  absent = iter([False, True, True, False])
  get = fetching.requests.get

  def get_if_there(url, **others):
    return get(serving.closed_url() if next(absent) else url, **others)

  monkeypatch.setattr(fetching.requests, 'get', get_if_there)
  fetch(server, target)
  assert_whole(server, target)
  assert delays == [1.0, 2.0, 4.0]
  assert server.sent == [PIECE, len(CONTENT) - PIECE]


def test_a_file_brought_by_hand_needs_no_network(target):
  target.parent.mkdir()
  target.write_bytes(CONTENT)
  sha256 = serving.Server(CONTENT).sha256
  assert fetching.fetch(serving.closed_url(), sha256, target) == target


@pytest.mark.parametrize(
  'url', ['ftp://localhost/a.tar', 'file:///etc/hosts', '/etc/hosts', '']
)
def test_other_kinds_of_addresses_are_refused(target, url):
  with pytest.raises(ValueError, match='expected an address with http') as e:
    fetching.fetch(url, '0' * 64, target)
  one_line(e)
  assert not target.parent.exists()


def test_a_redirection_elsewhere_is_refused(server, target):
  server.header = {'Location': 'file:///etc/hosts'}
  server.statuses = []
  original = serving._Handler.send_response

  def redirect(self, code, message=None):
    original(self, 302 if code == 200 else code, message)

  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(serving._Handler, 'send_response', redirect)
    with pytest.raises(OSError, match='by hand') as caught:
      fetch(server, target)
  one_line(caught)
  assert serving.listing(target.parent) == []


def test_a_server_that_falls_silent_is_taken_up(server, target, monkeypatch):
  monkeypatch.setattr(fetching, 'TIMEOUT', (5.0, 0.05))
  silence = threading.Event()
  server.pieces = [2 * fetching._CHUNK]
  server.at_piece = lambda: silence.wait(10)
  fetch(server, target)
  silence.set()
  assert_whole(server, target)
  assert server.asked == [None, f'bytes={2 * fetching._CHUNK}-']


def test_less_than_was_asked_for_is_completed(server, target, monkeypatch):
  begin(server, target, monkeypatch)
  server.most = PIECE
  fetch(server, target)
  assert_whole(server, target)
  assert server.asked == [f'bytes={PIECE}-', f'bytes={2 * PIECE}-']


def test_bytes_are_stored_as_they_are(server, target):
  server.content = gzip.compress(CONTENT)
  server.header = {'Content-Encoding': 'gzip'}
  fetch(server, target)
  assert_whole(server, target)


def test_a_server_that_tells_no_size_is_read_to_the_end(server, target, capsys):
  server.length = False
  fetch(server, target)
  assert_whole(server, target)
  assert 'of a size that the server does not tell\n' in capsys.readouterr().out


Usage = collections.namedtuple('Usage', 'total used free')


def test_a_disk_without_room_is_told_before(server, target, monkeypatch):
  monkeypatch.setattr(
    shutil, 'disk_usage', lambda _: Usage(10**6, 0, len(CONTENT) - 1)
  )
  with pytest.raises(OSError, match='needs 300 kB, 300 kB are free') as caught:
    fetch(server, target)
  one_line(caught)
  assert serving.listing(target.parent) == []


def test_what_has_come_needs_no_room(server, target, monkeypatch):
  begin(server, target, monkeypatch)
  free = len(CONTENT) - PIECE
  monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(10**6, 0, free))
  fetch(server, target)
  assert_whole(server, target)


@pytest.fixture
def full_disk():
  """A limit on the size of files acts as a disk that is full."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
  yield
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_what_has_come(server, target, full_disk):
  with pytest.raises(OSError, match='150 kB, which are kept') as caught:
    fetch(server, target)
  assert os.strerror(errno.EFBIG) in one_line(caught)
  assert part.path_of(target).read_bytes() == CONTENT[:150_000]


def test_a_second_run_is_refused(server, target, monkeypatch):
  begin(server, target, monkeypatch)
  with part.opened(target), pytest.raises(ValueError, match='another run') as e:
    fetch(server, target)
  assert str(part.path_of(target)) in one_line(e)
  assert not server.requests
  assert part.path_of(target).stat().st_size == PIECE
  fetch(server, target)
  assert_whole(server, target)


def test_a_run_that_waited_for_a_file_that_is_done_is_refused(
  server, target, monkeypatch
):
  lock = part._lock

  def late(descriptor, path):
    os.replace(path, target)  # noqa: PTH105 - by the run that was first.
    lock(descriptor, path)

  monkeypatch.setattr(part, '_lock', late)
  with pytest.raises(ValueError, match='another run'):
    fetch(server, target)
  assert serving.listing(target.parent) == [target.name]


def test_off_a_terminal_a_line_a_minute_tells(
  server, target, monkeypatch, capsys
):
  monkeypatch.setattr(console, '_EVERY', 0)
  seconds = itertools.count()
  monkeypatch.setattr(fetching.time, 'perf_counter', lambda: next(seconds))
  fetch(server, target)
  lines = capsys.readouterr().out.splitlines()
  assert lines[1].startswith('  download: 66 kB of 300 kB, ')
  assert lines[1].endswith(' left')
