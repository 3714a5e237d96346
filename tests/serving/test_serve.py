"""The command, in a process of its own: signals, swaps, a watched folder."""

import contextlib
import json
import os
import pathlib
import shutil
import signal

import pytest

from simplenet_jax.serving import watch
from tests import commands
from tests.detection import detectors
from tests.serving.conftest import until

PREDICT = '/v1/detectors/part:predict'


def test_a_server_from_start_to_end(served, tmp_path):
  server = served()
  image = detectors.pictures(tmp_path / 'images')[0].read_bytes()
  assert server.ask('/readyz')[0] == 200
  _, before = server.ask(PREDICT, image)
  # A bad file in the detector's place is told, and changes nothing.
  path = tmp_path / 'part.safetensors'
  good = path.read_bytes()
  path.write_bytes(good[:1000])
  until(lambda: 'the earlier detector stays' in server.told.read_text())
  assert server.ask(PREDICT, image)[1]['score'] == before['score']
  # Another detector is taken, on SIGHUP the one that was there.
  detectors.make(levels=(1,), heads=2).save(path)
  until(lambda: server.ask(PREDICT, image)[1]['threshold'] is None)
  server.process.send_signal(signal.SIGHUP)
  until(lambda: server.told.read_text().count('loaded anew') == 2)
  # What has begun before SIGTERM is answered, what comes later refused.
  with contextlib.closing(server.connection()) as slow:
    slow.putrequest('POST', PREDICT)
    slow.putheader('Content-Length', str(len(image)))
    slow.endheaders(image[:99])
    assert server.ask('/healthz')[0] == 200  # Which came after it.
    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.ask('/readyz')[0] == 503)
    assert server.ask(PREDICT, image)[0] == 503
    slow.send(image[99:])
    assert slow.getresponse().status == 200
  assert server.process.wait(timeout=60) == 0


def test_a_watched_folder_is_sorted(served, tmp_path):
  come, gone = tmp_path / 'in', tmp_path / 'out'
  shown = detectors.pictures(tmp_path / 'images')
  (come / 'deeper').mkdir(parents=True)
  server = served(f'--watch={come}', f'--move={gone}', '--pictures')
  for path in shown:
    shutil.copy(path, come)
    shutil.copy(path, come / 'deeper')
  (come / 'bad.png').write_bytes(b'nothing')
  (come / 'part.txt').write_text('no image')
  odd = come / os.fsdecode(b'caf\xe9.png')  # Not UTF-8.
  shutil.copy(shown[0], odd)
  until(lambda: len([*come.rglob('*')]) == 2)  # The folder and the text.
  until(
    lambda: len((gone / 'predictions.jsonl').read_text().splitlines()) == 14
  )
  status, recent = server.ask('/v1/recent')
  assert status == 200
  assert 'caf?.png' in {one['path'] for one in recent}
  server.process.send_signal(signal.SIGTERM)
  assert server.process.wait(timeout=60) == 0
  rows = (gone / 'predictions.jsonl').read_text().splitlines()
  rows = [json.loads(row) for row in rows]
  folders = {'normal': 'ok', 'anomalous': 'not_ok'}
  for row in rows:
    path = pathlib.Path(row['path'])
    below = path.relative_to(gone)
    assert below.parts[0] == folders.get(row.get('verdict'), 'unreadable')
    assert path.exists()
    if 'score' in row:
      assert (gone / f'pictures/{below}.png').exists()
  table = (gone / 'predictions.csv').read_bytes().splitlines()
  # With the header, without the one that is unreadable.
  assert len(table) == 14
  assert len({row['path'] for row in rows}) == 14
  watch.Watch(come, gone, False)  # A later start takes the same table.
  assert bytes(come / 'part.txt') in server.told.read_bytes()


@pytest.mark.parametrize('apart', [False, True])
def test_moves_keep_what_is_there(tmp_path, monkeypatch, apart):
  if apart:  # As between file systems.
    usual = watch.Path.replace

    def replace(self, target):
      if not self.name.startswith('.partial'):
        raise OSError(watch.errno.EXDEV, 'apart')
      return usual(self, target)

    monkeypatch.setattr(watch.Path, 'replace', replace)
  target = tmp_path / 'out/a.png'
  for content in (b'one', b'two', b'three'):
    (tmp_path / 'a.png').write_bytes(content)
    place = watch.move(tmp_path / 'a.png', target)
    assert place.read_bytes() == content
  found = sorted(path.read_bytes() for path in target.parent.iterdir())
  assert found == [b'one', b'three', b'two']
  assert [*tmp_path.iterdir()] == [target.parent]


@pytest.mark.parametrize(
  ('given', 'told'),
  [
    ([], '--detector is given 0 times'),
    (['--detector=a', '--detector=a'], 'each has a name of its own'),
    (['--detector=a b'], 'NAME='),
    (['--detector=a', '--watch=in'], '--watch and --move go together'),
    (['--detector=a', '--pictures'], '--watch and --move go together'),
    (['--detector=a', '--host=192.0.2.1'], '--host=192.0.2.1 --port=8000'),
    (['--detector=a', '--token_file=none'], 'none: No such file'),
    (['--detector=a', '--token_file=latin'], 'latin: damaged'),
    (['--detector=none/a', '--port=0'], 'no such detector'),
    (
      ['--detector=a', '--port=0', '--watch=none', '--move=b'],
      'no such folder',
    ),
    (
      ['--detector=a', '--port=0', '--watch=.', '--move=b'],
      'one is in the other',
    ),
  ],
)
def test_wrong_flags_are_one_line(given, told, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'latin').write_bytes(b'\xe4')
  done = commands.run('serve', *given)
  assert done.status == 1
  assert told in done.error


# Without a network, and as root in containers.
ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']


def test_the_page_judges_what_is_dropped_on_it(served, tmp_path):
  names = ('chromium', 'chromium-browser', 'google-chrome')
  browser = next((path for one in names if (path := shutil.which(one))), None)
  if browser is None:
    pytest.skip('needs Chromium on the PATH')
  from playwright.sync_api import expect, sync_playwright

  server, shown = served(), detectors.pictures(tmp_path / 'images', 3)
  bad = tmp_path / 'bad.png'
  bad.write_bytes(b'nothing')
  with sync_playwright() as playwright:
    options = {'executable_path': browser, 'args': ARGUMENTS}
    tab = playwright.chromium.launch(**options).new_page()
    complaints = []
    tab.on('pageerror', lambda error: complaints.append(str(error)))
    tab.goto(f'http://127.0.0.1:{server.port}/')
    expect(tab.locator('#detector')).to_have_value('part')
    tab.set_input_files('#files', [*shown, bad])
    expect(tab.locator('.shot')).to_have_count(3)
    expect(tab.locator('#errors')).to_contain_text('bad.png: not a readable')
    expect(tab.locator('#title')).to_contain_text('The last 3 images')
    first = tab.locator('.shot').first
    first.focus()
    tab.keyboard.press('Enter')
    large = tab.locator('#picture')
    expect(large).to_be_visible()
    before = large.get_attribute('alt')
    tab.keyboard.press('ArrowRight')
    expect(large).not_to_have_attribute('alt', before)
    drawn = 'image => image.decode().then(() => image.naturalWidth)'
    assert large.evaluate(drawn) > 500
    tab.keyboard.press('Escape')
    expect(large).to_be_hidden()
    assert complaints == []
