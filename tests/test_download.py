"""The command that gets public data sets, against a server of this machine."""

import json
import os
import runpy
import signal
import threading
import time

import numpy as np
import pytest

from simplenet_jax.data import download as downloads
from tests import commands
from tests.data import test_unpack
from tests.data.serving import contents, serve

RNG = np.random.default_rng(0)
FILES = {
  'bolt/train/good/0.png': RNG.bytes(150_000),
  'bolt/test/crack/0.png': RNG.bytes(150_000),
  'nut/train/good/0.png': RNG.bytes(1000),
}
# As much as is written at once, so all that a server sent can be waited for.
PIECE = downloads.CHUNK
PART = 'downloads/images.tar.part'


@pytest.fixture(scope='module')
def packed(tmp_path_factory):
  """The data set's archive."""
  path = tmp_path_factory.mktemp('packed') / 'images.tar.xz'
  return test_unpack.pack(path, *FILES.items()).read_bytes()


@pytest.fixture
def server(monkeypatch, packed):
  """Serves a small data set in place of MVTec AD and VisA."""
  with serve(packed) as server:
    served = {'url': server.url, 'sha256': server.sha256}
    for name in ('mvtec_ad', 'visa'):
      archive = downloads.ARCHIVES[name]._replace(**served)
      monkeypatch.setitem(downloads.ARCHIVES, name, archive)
    yield server


@pytest.fixture
def root(tmp_path):
  return tmp_path / 'all data'


def download(root, *more, dataset='visa', status=0):
  done = commands.run(
    'download', f'--dataset={dataset}', f'--root={root}', *more
  )
  assert done.status == status, done.errors
  return done


def assert_made(folder):
  made = contents(folder)
  assert made.pop('.download.json')
  assert made == FILES


def test_it_downloads_and_unpacks_once_and_says_how_to_go_on(server, root):
  done = download(root)
  assert_made(root / 'visa')
  assert [path.name for path in root.iterdir()] == ['visa']
  mark = json.loads((root / 'visa' / '.download.json').read_text())
  assert mark == {'name': 'visa', 'sha256': server.sha256}
  lines = done.told.splitlines()
  assert lines[:2] == [
    f'visa to {root}/visa/',
    '  CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)',
  ]
  assert lines[3] == '  downloads images.tar, 0.3 MB'
  assert lines[-2].startswith('  deletes ')
  assert lines[-1] == (
    'Go on with: simplenet train --config=visa '
    f"--config.data.root='{root}/visa'"
  )
  again = download(root)
  assert again.told.startswith(f'{root}/visa/ holds all of visa already\n')
  assert again.told.splitlines()[-1] == lines[-1]
  assert len(server.asked) == 1


def test_the_next_command_is_one(server, tmp_path, monkeypatch):
  """The settings of each data set look where it is put."""
  for archive in downloads.ARCHIVES.values():
    config = runpy.run_path(f'configs/{archive.folder}.py')['get_config']()
    assert config.data.root == f'data/{archive.folder}'
    assert config.data.dataset == archive.name
    assert len(archive.sha256) == 64
  monkeypatch.chdir(tmp_path)
  last = download('data').told.splitlines()[-1]
  assert last == 'Go on with: simplenet train --config=visa'
  assert_made(tmp_path / 'data' / 'visa')


def test_terms_are_accepted_before_anything_comes(server, root, tmp_path):
  given = tmp_path / 'mine.tar.xz'
  given.write_bytes(server.content)
  for more in ([], [f'--archive={given}']):
    done = download(root, *more, dataset='mvtec_ad', status=1)
    assert done.error == (
      'error: mvtec_ad comes under CC BY-NC-SA 4.0, no commercial use '
      '(https://creativecommons.org/licenses/by-nc-sa/4.0/); give '
      '--accept_license if you accept that'
    )
    assert not server.asked
    assert not root.exists()
  download(root, '--accept_license', '--keep_archive', dataset='mvtec_ad')
  assert_made(root / 'mvtec')
  assert (root / 'downloads/images.tar').read_bytes() == server.content
  # What is there was accepted before.
  download(root, dataset='mvtec_ad')


def test_a_given_archive_is_taken_and_stays(server, root, tmp_path):
  given = tmp_path / 'mine.tar.xz'
  given.write_bytes(server.content[:-1])
  done = download(root, f'--archive={given}', status=1)
  assert str(given) in done.error
  assert 'give another --archive' in done.error
  assert not root.exists()
  given.write_bytes(server.content)
  download(root, f'--archive={given}')
  assert_made(root / 'visa')
  assert given.read_bytes() == server.content
  assert not server.asked


@pytest.mark.parametrize(
  ('flag', 'status', 'message'),
  [
    ('--archive=none.tar', 1, 'none.tar: No such file'),
    ('--archive=', 2, 'flag --archive=: must name a file'),
  ],
)
def test_wrong_flags_are_told(server, root, flag, status, message):
  done = download(root, flag, status=status)
  assert message in done.error
  assert not root.exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_download_goes_on(server, root, number):
  server.pieces = [PIECE]
  answered, part = threading.Event(), root / PART

  def stop():
    until = time.monotonic() + 300
    while not part.exists() or part.stat().st_size < PIECE:
      assert time.monotonic() < until
      time.sleep(0.01)  # Until all that was sent is written.
    os.kill(os.getpid(), number)
    answered.wait(300)  # As a server that says nothing more.

  server.at_piece = stop
  done = download(root, status=128 + number)
  answered.set()
  assert done.error == (
    f'stop: stopped; what has come stays in {root}/downloads, start again to '
    'go on'
  )
  assert part.stat().st_size == PIECE
  download(root)
  assert server.asked == [None, f'bytes={PIECE}-']
  assert_made(root / 'visa')
