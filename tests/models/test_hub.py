"""Weights by name: downloads, the cache, and what is said without either."""

import contextlib
import hashlib
import http.server
import os
import subprocess
import sys
import threading

import huggingface_hub
import pytest

from simplenet_jax.models import weights
from tests.models import fabricated

NAME = 'timm/resnet18.tv_in1k'
URL = f'/{NAME}/resolve/main/model.safetensors'


class Hub(http.server.BaseHTTPRequestHandler):
  """As much of the Hugging Face hub as serves one file of one repository."""

  files: dict[str, bytes]

  def do_GET(self):
    content = self.files.get(self.path)
    self.send_response(404 if content is None else 200)
    if content is None:
      self.send_header('X-Error-Code', 'RepoNotFound')
    else:
      self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
      self.send_header('X-Repo-Commit', 'c' * 40)
    self.send_header('Content-Length', str(len(content or b'')))
    self.end_headers()
    if self.command == 'GET':
      self.wfile.write(content or b'')

  do_HEAD = do_GET  # noqa: N815

  def log_message(self, format, *args):
    pass


@contextlib.contextmanager
def serve(files):
  handler = type('Handler', (Hub,), {'files': files})
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  with server:
    threading.Thread(target=server.serve_forever).start()
    try:
      yield f'http://127.0.0.1:{server.server_port}'
    finally:
      server.shutdown()


PROGRAM = """
import sys
from simplenet_jax.models import weights
for name in sys.argv[1:]:
  try:
    found = weights.load(name, 'demo_resnet', (1,))
    print(found.name, found.sha256)
  except (FileNotFoundError, ValueError) as error:
    print(error)
"""


def load_elsewhere(cache, *names, **variables):
  """Loads in a fresh process, since the hub's client reads these at import."""
  environment = {
    **os.environ,
    'HF_HOME': str(cache),
    'HF_HUB_CACHE': str(cache),
    'HF_HUB_OFFLINE': '0',
    'NO_PROXY': '127.0.0.1',
    'no_proxy': '127.0.0.1',
    **variables,
  }
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, *names],
    env=environment,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr
  # The client's warnings and bars are not to be seen.
  assert not done.stderr
  return done.stdout.splitlines()


def refusal(name, endpoint, cause):
  return (
    f'{name}: cannot download model.safetensors from {endpoint} ({cause}; get '
    'the file elsewhere and give --config.backbone.weights=PATH'
  )


def test_download_then_offline(tmp_path):
  demo = fabricated.tensors('demo_resnet')
  path = fabricated.write(tmp_path / 'net.safetensors', demo)
  content = path.read_bytes()
  sha256 = hashlib.sha256(content).hexdigest()
  cache = tmp_path / 'cache'
  with serve({URL: content}) as endpoint:
    lines = load_elsewhere(cache, NAME, 'timm/none', HF_ENDPOINT=endpoint)
  assert lines[0] == (
    f'Downloads model.safetensors of {NAME} from {endpoint} to {cache}'
  )
  assert lines[1] == f'{NAME} {sha256}'
  assert lines[2].startswith('Downloads model.safetensors of timm/none from ')
  start, end = refusal('timm/none', endpoint, '|').split('|')
  assert lines[3].startswith(f'{start}RepositoryNotFoundError: 404')
  assert lines[3].endswith(end)
  assert len(lines) == 4

  # The server is gone; the cache serves, whether or not that is known.
  offline = {'HF_ENDPOINT': endpoint, 'HF_HUB_OFFLINE': '1'}
  lines = load_elsewhere(cache, NAME, 'timm/none', **offline)
  assert lines[0] == f'{NAME} {sha256}'
  assert lines[1].startswith(f'{start}OfflineModeIsEnabled: Cannot reach')
  assert 'unset the `HF_HUB_OFFLINE` environment variable' in lines[1]
  assert len(lines) == 2
  lines = load_elsewhere(cache, NAME, HF_ENDPOINT=endpoint)
  assert lines == [f'{NAME} {sha256}']


def test_failed_download_is_one_clear_line(monkeypatch):
  def fail(*_):
    raise RuntimeError('no route to host\nmany details')

  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', fail)
  with pytest.raises(FileNotFoundError) as caught:
    weights.load(NAME, 'resnet18', (2, 3))
  endpoint = huggingface_hub.constants.ENDPOINT
  cause = 'RuntimeError: no route to host)'
  assert str(caught.value) == refusal(NAME, endpoint, cause)
