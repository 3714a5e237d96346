"""Weights by name: downloads, the cache, and what is said without either."""

import hashlib
import http.server
import threading

import huggingface_hub
import pytest

from simplenet_jax.models import weights
from tests import commands
from tests.models import fabricated

NAME = 'timm/resnet18.tv_in1k'

PROGRAM = """
import sys
from simplenet_jax.models import weights
for name in sys.argv[1:]:
  try:
    found = weights.load(name, 'resnet18', (1,))
    print(found.name, found.sha256)
  except (FileNotFoundError, ValueError) as error:
    print(error)
"""


@pytest.fixture
def hub(tmp_path):
  """As much of the Hugging Face hub as serves one file; its address, sha256."""
  tensors = fabricated.tensors('resnet18')
  content = fabricated.write(tmp_path / 'a.safetensors', tensors).read_bytes()
  sha256 = hashlib.sha256(content).hexdigest()

  class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      known = self.path == f'/{NAME}/resolve/main/model.safetensors'
      self.send_response(200 if known else 404)
      if known:
        self.send_header('ETag', f'"{sha256}"')
        self.send_header('X-Repo-Commit', 'c' * 40)
      else:
        self.send_header('X-Error-Code', 'RepoNotFound')
      body = content if known else b''
      self.send_header('Content-Length', str(len(body)))
      self.end_headers()
      if self.command == 'GET':
        self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format, *args):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub) as server:
    threading.Thread(target=server.serve_forever).start()
    yield server, f'http://127.0.0.1:{server.server_port}', sha256
    server.shutdown()


def load_elsewhere(cache, *names, **variables):
  """Loads in a fresh process, since the hub's client reads these at import."""
  settings = {
    'HF_HOME': str(cache),
    'HF_HUB_CACHE': str(cache),
    'HF_HUB_OFFLINE': '0',
    'NO_PROXY': '127.0.0.1',
    'no_proxy': '127.0.0.1',
    **variables,
  }
  done = commands.python('-c', PROGRAM, *names, **settings)
  # The client's warnings and bars are not to be seen.
  assert (done.returncode, done.stderr) == (0, '')
  return done.stdout.splitlines()


ADVICE = 'get the file elsewhere and give --config.backbone.weights=PATH'


def test_download_then_offline(tmp_path, hub):
  server, endpoint, sha256 = hub
  cache, where = tmp_path / 'cache', {'HF_ENDPOINT': endpoint}
  refused = f'timm/none: cannot download model.safetensors from {endpoint} ('
  lines = load_elsewhere(cache, NAME, 'timm/none', **where)
  assert lines[:2] == [
    f'Downloads model.safetensors of {NAME} from {endpoint} to {cache}',
    f'{NAME} {sha256}',
  ]
  assert lines[2].startswith('Downloads model.safetensors of timm/none from ')
  assert lines[3].startswith(f'{refused}RepositoryNotFoundError: 404')
  assert lines[3].endswith(ADVICE)
  assert len(lines) == 4

  # The server is gone; the cache serves, whether or not that is known.
  server.server_close()
  offline = where | {'HF_HUB_OFFLINE': '1'}
  found, told = load_elsewhere(cache, NAME, 'timm/none', **offline)
  assert found == f'{NAME} {sha256}'
  assert told.startswith(f'{refused}OfflineModeIsEnabled: Cannot reach')
  assert 'unset the `HF_HUB_OFFLINE` environment variable' in told
  assert load_elsewhere(cache, NAME, **where) == [found]


def test_failed_download_is_one_clear_line(monkeypatch):
  def fail(*_):
    raise RuntimeError('no route to host\nmany details')

  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', fail)
  said = rf'\(RuntimeError: no route to host\); {ADVICE}$'
  with pytest.raises(FileNotFoundError, match=said):
    weights.load(NAME, 'resnet18', (2, 3))
