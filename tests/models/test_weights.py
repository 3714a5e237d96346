"""Loading of pretrained weights: names, strictness, files, downloads."""

import contextlib
import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch
from flax import nnx

from simplenet_jax.models import resnet, weights
from tests.models import torch_resnet

HUB_NAME = 'timm/resnet18.tv_in1k'


@functools.cache
def fabricated(architecture, whole=False):
  return torch_resnet.tensors(torch_resnet.fabricate(architecture, whole))


@pytest.fixture
def demo():
  """Fresh tensors of a whole demo network: layer4, fc, counters and all."""
  return dict(fabricated('demo_resnet', whole=True))


@pytest.fixture
def write(tmp_path):
  def write(tensors, name='net.safetensors'):
    path = tmp_path / name
    safetensors.numpy.save_file(tensors, path)
    return path

  return write


def assert_same(state, other):
  assert jax.tree.structure(state) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, state, other)


@pytest.mark.parametrize('architecture', resnet.ARCHITECTURES)
def test_round_trip_is_exact(architecture):
  tensors = fabricated(architecture)
  state = weights.from_torch_names(tensors, architecture, (1, 2, 3))
  _, expected = resnet.abstract(architecture, (1, 2, 3))
  assert jax.tree.structure(state) == jax.tree.structure(expected)
  back = weights.to_torch_names(state)
  used = {n for n in tensors if not n.endswith('num_batches_tracked')}
  assert back.keys() == used
  for name, value in back.items():
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, tensors[name])


def test_load_tells_where_weights_came_from(write, demo):
  path = write(demo)
  found = weights.load(str(path), 'demo_resnet', (2, 3))
  assert found.path == path
  assert found.name == str(path)
  assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(found.state))
  assert_same(
    found.state, weights.from_torch_names(demo, 'demo_resnet', (2, 3))
  )


@pytest.mark.parametrize('levels', [(1,), (2,), (1, 2)])
def test_layers_above_the_last_level_are_left_out(write, demo, levels):
  state = weights.load(str(write(demo)), 'demo_resnet', levels).state
  layers = {name.split('.')[0] for name in weights.to_torch_names(state)}
  built = {f'layer{level}' for level in range(1, levels[-1] + 1)}
  assert layers == {'conv1', 'bn1'} | built


def test_a_file_may_end_with_the_last_level(write, demo):
  tensors = {
    n: v for n, v in demo.items() if not n.startswith(('layer3', 'layer4'))
  }
  path = str(write(tensors))
  weights.load(path, 'demo_resnet', (1, 2))
  with pytest.raises(ValueError, match=r'missing \(25\): layer3\.0\.bn1'):
    weights.load(path, 'demo_resnet', (2, 3))


@pytest.mark.parametrize(('name', 'size'), [('resnet18', 2), ('resnet50', 3)])
def test_real_files_load(shared, name, size):
  path = shared(f'weights/{name}.safetensors')
  found = weights.load(str(path), name, (2, 3))
  leaves = dict(nnx.to_flat_state(found.state))
  last = leaves['layers', 2, 0, 'convs', size - 1, 'kernel'].get_value()
  with safetensors.safe_open(path, 'numpy') as file:
    kernel = file.get_tensor(f'layer3.0.conv{size}.weight')
  assert kernel.std() > 0
  np.testing.assert_array_equal(last, kernel.transpose(2, 3, 1, 0))


@pytest.mark.parametrize('name', ['resnet18', 'resnet50'])
def test_real_files_are_recognised(shared, name):
  path = shared(f'weights/{name}.safetensors')
  with pytest.raises(ValueError, match=f'is a {name}, expected resnet101'):
    weights.load(str(path), 'resnet101', (2, 3))


@pytest.mark.parametrize('dtype', [np.float16, np.float64, jnp.bfloat16])
def test_other_floats_become_float32(write, demo, dtype):
  tensors = {name: value.astype(dtype) for name, value in demo.items()}
  state = weights.load(str(write(tensors)), 'demo_resnet', (2, 3)).state
  kernel = weights.to_torch_names(state)['conv1.weight']
  assert kernel.dtype == np.float32
  expected = demo['conv1.weight'].astype(dtype).astype(np.float32)
  np.testing.assert_array_equal(kernel, expected)


def test_all_mismatches_are_reported_together(write, demo):
  for name in ('bn1.bias', 'layer1.0.bn1.weight', 'layer1.0.bn1.bias'):
    del demo[name]
  del demo['layer3.0.bn1.running_var'], demo['layer3.0.bn2.running_var']
  demo['layer1.0.conv9.weight'] = np.ones((1, 1, 1, 1), np.float32)
  demo['layer5.0.conv1.weight'] = np.ones((1, 1, 1, 1), np.float32)
  demo['layer2.0.conv1.weight'] = np.ones((64, 32, 1, 1), np.float32)
  demo['layer2.0.bn1.bias'] = np.ones(64, np.int32)
  demo['layer2.0.bn2.bias'] = np.full(64, np.nan, np.float32)
  demo['layer2.1.bn2.bias'] = np.full(64, 1e300)
  path = write(demo)
  with pytest.raises(ValueError) as caught:
    weights.load(str(path), 'demo_resnet', (2, 3))
  head, problems = str(caught.value).split(': ', 1)
  assert head == f'{path} does not fit demo_resnet with levels (2, 3)'
  assert sorted(problems.split('; ')) == [
    'missing (5): bn1.bias, layer1.0.bn1.bias, layer1.0.bn1.weight and 2 more',
    'not finite in float32 (2): layer2.0.bn2.bias, layer2.1.bn2.bias',
    'not floating point (1): layer2.0.bn1.bias (int32)',
    'unexpected (2): layer1.0.conv9.weight, layer5.0.conv1.weight',
    'wrong shape (1): layer2.0.conv1.weight '
    '(found [64, 32, 1, 1], expected [64, 32, 3, 3])',
  ]


@pytest.mark.parametrize(
  'name',
  ['conv1.weight', 'bn1.running_mean', 'layer3.0.downsample.1.running_var'],
)
def test_every_single_tensor_is_needed(demo, name):
  del demo[name]
  with pytest.raises(ValueError, match=rf'missing \(1\): {name}$'):
    weights.from_torch_names(demo, 'demo_resnet', (2, 3))


@pytest.mark.parametrize('expected', resnet.ARCHITECTURES)
@pytest.mark.parametrize('given', resnet.ARCHITECTURES)
def test_another_architecture_is_named(given, expected):
  tensors = fabricated(given)
  if given == expected:
    weights.from_torch_names(tensors, expected, (1,))
    return
  message = f'^the file is a {given}, expected {expected}; set'
  # ResNet50 and ResNet101 are one up to layer2: even so the file tells.
  with pytest.raises(ValueError, match=message):
    weights.from_torch_names(tensors, expected, (1, 2), 'the file')


def test_scalars_in_place_of_kernels_are_reported(demo):
  scalar = np.array(1, np.float32)
  demo['conv1.weight'] = demo['layer1.0.conv1.weight'] = scalar
  with pytest.raises(ValueError, match=r'wrong shape \(2\): conv1\.weight \(f'):
    weights.from_torch_names(demo, 'demo_resnet', (2, 3))


def test_an_unknown_architecture_does_not_fit(demo):
  demo['layer2.2.conv1.weight'] = demo['layer2.1.conv1.weight']
  with pytest.raises(ValueError, match=r'unexpected \(1\): layer2\.2\.conv1'):
    weights.from_torch_names(demo, 'demo_resnet', (2, 3))


@pytest.mark.parametrize('kept', [0, 5, 1000, -1])
def test_a_damaged_safetensors_file_is_refused(write, demo, kept):
  path = write(demo)
  path.write_bytes(path.read_bytes()[:kept])
  with pytest.raises(ValueError, match='damaged, or not a file') as caught:
    weights.load(str(path), 'demo_resnet', (2, 3))
  assert str(path) in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('nested', [False, True])
@pytest.mark.parametrize('suffix', ['.pth', '.pt'])
def test_torch_files(tmp_path, demo, suffix, nested):
  tensors = {name: torch.tensor(value) for name, value in demo.items()}
  # Types that NumPy does not take from torch as they are.
  tensors['bn1.bias'] = tensors['bn1.bias'].bfloat16()
  tensors['bn1.weight'] = torch.nn.Parameter(tensors['bn1.weight'])
  path = tmp_path / f'net{suffix}'
  torch.save({'epoch': 3, 'state_dict': tensors} if nested else tensors, path)
  state = weights.load(str(path), 'demo_resnet', (2, 3)).state
  demo['bn1.bias'] = tensors['bn1.bias'].float().numpy()
  assert_same(state, weights.from_torch_names(demo, 'demo_resnet', (2, 3)))


@pytest.mark.parametrize('content', [[1, 2], {'epoch': 3}, torch.ones(2)])
def test_a_torch_file_without_state_dict_is_refused(tmp_path, content):
  path = tmp_path / 'net.pth'
  torch.save(content, path)
  with pytest.raises(ValueError, match=r'net\.pth: damaged, or not a file'):
    weights.load(str(path), 'demo_resnet', (2, 3))


class Unsafe:
  def __reduce__(self):
    return (os.getcwd, ())


@pytest.mark.parametrize('damage', ['cut', 'text', 'code'])
def test_a_damaged_or_unsafe_torch_file_is_refused(tmp_path, damage):
  path = tmp_path / 'net.pth'
  torch.save({'a': Unsafe()} if damage == 'code' else torch.ones(99), path)
  if damage == 'cut':
    path.write_bytes(path.read_bytes()[:-200])
  elif damage == 'text':
    path.write_text('no weights here')
  with pytest.raises(ValueError, match=r'net\.pth: damaged, or not') as caught:
    weights.load(str(path), 'demo_resnet', (2, 3))
  assert '\n' not in str(caught.value)


def test_a_torch_file_without_torch(tmp_path, monkeypatch):
  path = tmp_path / 'net.pth'
  torch.save({}, path)
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(ValueError, match=r'needs PyTorch .* install torch'):
    weights.load(str(path), 'demo_resnet', (2, 3))


def test_wrong_sources_are_refused(tmp_path):
  (tmp_path / 'net.h5').write_bytes(b'')
  for source in (tmp_path / 'net.h5', tmp_path):
    with pytest.raises(ValueError, match=r'expected a file .*\.safetensors'):
      weights.load(str(source), 'resnet18', (2, 3))
  with pytest.raises(FileNotFoundError, match=r'none\.safetensors: no such'):
    weights.load(str(tmp_path / 'none.safetensors'), 'resnet18', (2, 3))
  for source in ('', 'imagenet', 'a/b/c', 'a b/c'):
    with pytest.raises(ValueError, match=r'backbone\.weights is .* no such'):
      weights.load(source, 'resnet18', (2, 3))


def test_every_architecture_has_default_weights():
  assert weights.DEFAULT_WEIGHTS.keys() == resnet.ARCHITECTURES.keys()


def test_demo_weights_come_with_the_package():
  found = weights.load('demo', 'demo_resnet', (1, 2, 3))
  assert found.name == 'demo'
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(found.state))


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
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  try:
    yield f'http://127.0.0.1:{server.server_port}'
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


PROGRAM = """
import sys
from simplenet_jax.models import weights
for name in sys.argv[1:]:
  try:
    found = weights.load(name, 'demo_resnet', (2, 3))
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
  return done.stdout.splitlines()


def test_download_then_offline(tmp_path, write, demo):
  content = write(demo).read_bytes()
  sha256 = hashlib.sha256(content).hexdigest()
  url = f'/{HUB_NAME}/resolve/main/model.safetensors'
  cache = tmp_path / 'cache'
  with serve({url: content}) as endpoint:
    lines = load_elsewhere(
      cache, HUB_NAME, 'timm/none', HF_ENDPOINT=endpoint, HF_HUB_OFFLINE='0'
    )
  assert lines[0] == f'{HUB_NAME} {sha256}'
  assert lines[1].startswith(
    f'timm/none: cannot download model.safetensors from {endpoint} ('
  )
  assert 'RepositoryNotFoundError' in lines[1]
  assert lines[1].endswith('give --config.backbone.weights=PATH')

  # The server is gone; the cache still serves.
  lines = load_elsewhere(
    cache, HUB_NAME, 'timm/none', HF_ENDPOINT=endpoint, HF_HUB_OFFLINE='1'
  )
  assert lines[0] == f'{HUB_NAME} {sha256}'
  assert 'timm/none: cannot download' in lines[1]
  assert 'offline mode is enabled' in lines[1]
  assert len(lines) == 2


def test_failed_download_is_one_clear_line(monkeypatch):
  def fail(*_):
    raise RuntimeError('no route to host\nmany details')

  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', fail)
  with pytest.raises(FileNotFoundError) as caught:
    weights.load(HUB_NAME, 'resnet18', (2, 3))
  assert str(caught.value) == (
    f'{HUB_NAME}: cannot download model.safetensors from '
    f'{huggingface_hub.constants.ENDPOINT} (RuntimeError: no route to host); '
    'get the file elsewhere and give --config.backbone.weights=PATH'
  )
