"""Detectors on the Hugging Face hub, or on as much of it as takes commits."""

import base64
import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest

from simplenet_jax.detector import Detector
from simplenet_jax.evaluation import results
from tests import commands
from tests.detection import detectors

NAME = 'me/part'

PROGRAM = """
import sys
from simplenet_jax import Detector
detector = Detector.load(sys.argv[1])
print(detector.push_to_hub('me/part', token='hf_mine', private=True))
detector.threshold = 7
print(detector.push_to_hub('me/part', revision='dev', commit_message='Seven'))
for revision in ('main', 'dev'):
  print(Detector.from_pretrained('me/part', revision=revision).threshold)
try:
  detector.push_to_hub('me/public', private=True)
except ValueError as error:
  print(error)
for wrong in ('me/none', 'no such/name'):
  try:
    Detector.from_pretrained(wrong)
  except (OSError, ValueError) as error:
    print(type(error).__name__)
"""


class Hub(http.server.ThreadingHTTPServer):
  """Branches of one private repository, as dicts of contents by path."""

  def __init__(self):
    super().__init__(('127.0.0.1', 0), Handler)
    self.branches, self.tokens, self.messages = {'main': {}}, set(), []
    self.endpoint = f'http://127.0.0.1:{self.server_port}'


class Handler(http.server.BaseHTTPRequestHandler):
  def answer(self, content, status=200, **headers):
    body = (
      content if isinstance(content, bytes) else json.dumps(content).encode()
    )
    self.send_response(status)
    for name, value in (headers | {'Content-Length': len(body)}).items():
      self.send_header(name.replace('_', '-'), str(value))
    self.end_headers()
    if self.command != 'HEAD':
      self.wfile.write(body)

  def do_GET(self):
    if self.path.startswith('/api/models/'):
      name = self.path.removeprefix('/api/models/')
      self.answer({'id': name, 'private': name == NAME})
      return
    here, _, rest = self.path.partition('/resolve/')
    branch, _, path = rest.partition('/')
    content = self.server.branches.get(branch, {}).get(path)
    if here != f'/{NAME}' or content is None:
      missing = 'EntryNotFound' if here == f'/{NAME}' else 'RepoNotFound'
      self.answer({}, 404, X_Error_Code=missing)
      return
    sha = hashlib.sha256(content).hexdigest()
    commit = hashlib.sha1(branch.encode()).hexdigest()
    self.answer(content, ETag=f'"{sha}"', X_Repo_Commit=commit)

  do_HEAD = do_GET  # noqa: N815

  def do_POST(self):
    hub = self.server
    body = self.rfile.read(int(self.headers['Content-Length'] or 0))
    hub.tokens.add(self.headers['Authorization'])
    *_, kind, branch = self.path.split('/')
    if self.path == '/api/repos/create':
      name = '{organization}/{name}'.format(**json.loads(body))
      self.answer({'url': f'{hub.endpoint}/{name}'})
    elif self.path == '/api/validate-yaml':
      assert 'library_name: simplenet-jax' in json.loads(body)['content']
      self.answer({'errors': [], 'warnings': []})
    elif kind == 'branch':
      hub.branches.setdefault(branch, dict(hub.branches['main']))
      self.answer({})
    elif kind == 'preupload':
      plain = {'uploadMode': 'regular', 'shouldIgnore': False}
      paths = [one['path'] for one in json.loads(body)['files']]
      self.answer({'files': [{'path': path, **plain} for path in paths]})
    else:
      assert kind == 'commit'
      header, *changes = map(json.loads, body.splitlines())
      hub.messages.append(header['value']['summary'])
      for change in changes:
        one = change['value']
        hub.branches[branch][one['path']] = base64.b64decode(one['content'])
      url = f'{hub.endpoint}/{NAME}/commit/{len(hub.messages)}'
      self.answer({'success': True, 'commitOid': '1', 'commitUrl': url})

  def log_message(self, format, *args):
    pass


@pytest.fixture
def hub():
  with Hub() as server:
    threading.Thread(target=server.serve_forever).start()
    yield server
    server.shutdown()


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
  """Of a run with figures."""
  made, workdir = (
    detectors.make(thresholds=True),
    tmp_path_factory.mktemp('run'),
  )
  made.save(workdir / 'detectors/part')
  last = results.undefined(1) | {'image_auroc': {'mean': 0.987}}
  found = {'files': [], 'categories': {'part': {'last': last}}}
  (workdir / 'results.json').write_text(json.dumps(found))
  return Detector.load(workdir / 'detectors/part')


def test_a_detector_goes_to_the_hub_and_comes_back(detector, hub, tmp_path):
  path = detector.workdir / 'detectors/part.safetensors'
  settings = {'HF_ENDPOINT': hub.endpoint, 'HF_HUB_OFFLINE': '0'}
  settings |= {'HF_HOME': str(tmp_path), 'HF_HUB_CACHE': str(tmp_path)}
  settings |= {'NO_PROXY': '127.0.0.1', 'no_proxy': '127.0.0.1'}
  done = commands.python('-c', PROGRAM, str(path), **settings)
  assert done.returncode == 0, done.stderr
  first, second, *limits, refused, missing, wrong = done.stdout.splitlines()
  assert (first, second) == tuple(
    f'{hub.endpoint}/{NAME}/commit/{number}' for number in (1, 2)
  )
  assert hub.messages == ['Upload detector', 'Seven']
  assert 'Bearer hf_mine' in hub.tokens
  assert list(map(float, limits)) == [detector.threshold, 7.0]
  assert refused.startswith('me/public is public; nothing was uploaded')
  assert (missing, wrong) == ('RepositoryNotFoundError', 'HFValidationError')
  main, dev = hub.branches['main'], hub.branches['dev']
  assert set(main) == {'README.md', 'model.safetensors'}
  (tmp_path / 'sent.safetensors').write_bytes(main['model.safetensors'])
  assert Detector.load(tmp_path / 'sent').card == detector.card
  assert dev['README.md'] == main['README.md']  # It may have been edited.


def test_the_model_card(detector, tmp_path):
  detector.save_pretrained(tmp_path / 'gears')
  card = (tmp_path / 'gears/README.md').read_text()
  assert card.startswith('---\nlibrary_name: simplenet-jax\n')
  assert "Detector.from_pretrained('gears')" in card
  assert '| backbone | resnet18, levels 2 and 3 |' in card
  assert f'- threshold {detector.threshold:.4g}' in card
  assert '| image AUROC | 98.7 |' in card
  assert 'pixel AUROC' not in card  # It is not known.
  assert 'Undefined' not in card
  for mine in (str(tmp_path), str(detector.workdir), str(Path.home())):
    assert mine not in card
  again = Detector.from_pretrained(tmp_path / 'gears')
  assert again.card == detector.card
  assert (again.workdir, again.results) == (None, None)
  (tmp_path / 'gears/README.md').write_text('mine')
  again.save_pretrained(tmp_path / 'gears')
  assert (tmp_path / 'gears/README.md').read_text() == 'mine'
  with pytest.raises(
    FileNotFoundError, match=r'no such detector; there is par'
  ):
    Detector.from_pretrained(detector.workdir / 'detectors')
