"""Files of weights: complete ones, damaged ones, and what is none."""

import collections
import hashlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from simplenet_jax.models import resnet, weights
from simplenet_jax.models.weights import files
from tests.models.test_torch_file import Trap
from tests.models.weights import fabricated


def assert_same(tensors, others):
  assert tensors.keys() == others.keys()
  for name, value in tensors.items():
    assert value.dtype == others[name].dtype
    np.testing.assert_array_equal(value, others[name])


@pytest.mark.parametrize('maker', ['torchvision', 'timm'])
@pytest.mark.parametrize(
  'architecture', ['resnet18', 'resnet50', 'resnet101', 'wide_resnet50_2']
)
def test_files_of_all_architectures_load(write, architecture, maker):
  tensors = fabricated.tensors(architecture)
  tensors['fc.weight'] = np.zeros((1000, 8), np.float32)
  if maker == 'timm':
    tensors = {n: v for n, v in tensors.items() if not n.endswith('tracked')}
  suffix = {'torchvision': '.pth', 'timm': '.safetensors'}[maker]
  path = write(tensors, f'{architecture}{suffix}')
  found = weights.load(str(path), architecture, (1,))
  assert found.variant.classes == 1000
  back = weights.to_torch_names(found.state)
  assert_same(back, {name: tensors[name] for name in back})


def test_load_tells_where_weights_came_from(write, demo):
  path = write(demo)
  found = weights.load(str(path), 'demo_resnet', (2, 3))
  assert found.path == path
  assert found.name == found.variant.name == str(path)
  assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(found.state))


def test_demo_weights_come_with_the_package():
  found = weights.load('demo', 'demo_resnet', (1, 2, 3))
  assert found.name == 'demo'
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(found.state))


def test_every_architecture_has_default_weights():
  assert weights.DEFAULT_WEIGHTS.keys() == resnet.ARCHITECTURES.keys()


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth', '.pt'])
def test_tensors_keep_their_types(tmp_path, suffix):
  values = torch.randn(3, 4).T  # Not contiguous.
  types = ('float16', 'bfloat16', 'float32', 'float64', 'int64')
  tensors = {name: values.to(getattr(torch, name)) for name in types}
  tensors['number'] = torch.tensor(7)
  tensors['parameter'] = torch.nn.Parameter(values.contiguous())
  path = tmp_path / f'net{suffix}'
  if suffix == '.safetensors':
    expected = {name: as_array(value) for name, value in tensors.items()}
    fabricated.write(
      path, {k: np.asarray(v, order='C') for k, v in expected.items()}
    )
  else:
    torch.save(tensors, path)
  found, sha256 = files.read(path)
  assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
  assert_same(found, {name: as_array(value) for name, value in tensors.items()})


def as_array(value):
  value = value.detach()
  if value.dtype == torch.bfloat16:
    return value.float().numpy().astype(jnp.bfloat16)
  return value.numpy()


WRAPPED = {
  'state_dict': lambda t: {
    'epoch': 3,
    'state_dict': t,
    'optimizer': {'a': [1]},
  },
  'model': lambda t: {'model': t, 'lr_scheduler': {'last_epoch': 9}},
  'ordered': lambda t: {'state_dict': collections.OrderedDict(t)},
  'parallel': lambda t: {f'module.{k}': v for k, v in t.items()},
  'backbone': lambda t: {'model': {f'backbone.{k}': v for k, v in t.items()}},
  'twice': lambda t: {f'module.model.{k}': v for k, v in t.items()},
}


@pytest.mark.parametrize('wrapping', WRAPPED)
def test_checkpoints_are_opened(tmp_path, wrapping):
  tensors = {'conv1.weight': torch.ones(2), 'fc.bias': torch.zeros(3)}
  path = tmp_path / 'net.pth'
  torch.save(WRAPPED[wrapping](tensors), path)
  found, _ = files.read(path)
  assert_same(found, {name: value.numpy() for name, value in tensors.items()})


def test_prefixes_are_taken_off_safetensors(write, demo):
  path = write({f'module.{name}': value for name, value in demo.items()})
  assert_same(files.read(path)[0], demo)


def test_a_prefix_that_not_all_names_have_stays(write, demo):
  tensors = {f'module.{name}': value for name, value in demo.items()}
  tensors['head.weight'] = np.zeros(3, np.float32)
  path = write(tensors)
  assert_same(files.read(path)[0], tensors)
  said = r'begin with module\., to be taken off; others do not: head\.weight'
  with pytest.raises(ValueError, match=said):
    weights.load(str(path), 'demo_resnet', (2, 3))


CONTENTS = {
  'list': ([1, 2], 'holds no named tensors'),
  'tensor': (torch.ones(2), 'holds no named tensors'),
  'numbers': (
    {'epoch': 3},
    r'other things than tensors: epoch \(int\); tensor',
  ),
  'elsewhere': ({'net': {'a': torch.ones(1)}}, r'than tensors: net \(dict\)'),
  'both': (
    {'model': {'a': torch.ones(1)}, 'state_dict': {'a': torch.ones(1)}},
    'holds state_dict and model, only one is expected',
  ),
  'mixed': (
    {'state_dict': {'a': torch.ones(1), 'version': 2}},
    r'other things than tensors: version \(int\)',
  ),
}


@pytest.mark.parametrize('content', CONTENTS)
def test_a_torch_file_of_other_things_is_refused(tmp_path, content):
  path = tmp_path / 'net.pth'
  value, said = CONTENTS[content]
  torch.save(value, path)
  with pytest.raises(ValueError, match=rf'net\.pth: damaged, or not .*{said}'):
    files.read(path)


def edited(name, edit):
  def damage(tensors):
    tensors[name] = edit(tensors[name])

  return damage


# Of a fabricated demo network: what is done to its tensors, and what is said.
TENSORS = {
  'missing': (
    lambda t: t.pop('layer2.0.conv1.weight'),
    r'missing \(1\): layer2\.0\.conv1\.weight',
  ),
  'extra': (
    lambda t: t.update({'layer2.0.conv3.bias': t['bn1.bias']}),
    r'unexpected \(1\): layer2\.0\.conv3\.bias',
  ),
  'transposed': (
    edited('layer1.0.conv1.weight', lambda v: v.transpose(2, 3, 1, 0).copy()),
    r'wrong shape \(1\): layer1\.0\.conv1\.weight \(found \[3, 3, 32, 32\], '
    r'expected \[32, 32, 3, 3\]\)',
  ),
  'integers': (
    edited('bn1.bias', lambda v: v.astype(np.int32)),
    r'not floating point \(1\): bn1\.bias \(int32\)',
  ),
  'not a number': (
    edited('layer3.1.bn2.weight', lambda v: v * np.float32(np.nan)),
    r'not finite in float32 \(1\): layer3\.1\.bn2\.weight',
  ),
  'infinite': (
    edited('conv1.weight', lambda v: v / np.float32(0)),
    r'not finite in float32 \(1\): conv1\.weight',
  ),
  'too large': (
    edited('bn1.bias', lambda v: v.astype(np.float64) + 1e300),
    r'not finite in float32 \(1\): bn1\.bias',
  ),
  'variance': (
    edited('bn1.running_var', lambda v: -v),
    r'negative variance \(1\): bn1\.running_var',
  ),
}


@pytest.mark.filterwarnings('ignore:divide by zero:RuntimeWarning')
@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
@pytest.mark.parametrize('damage', TENSORS)
def test_damaged_tensors_are_named(write, demo, damage, suffix):
  apply, said = TENSORS[damage]
  apply(demo)
  path = write(demo, f'net{suffix}')
  fit = f'{re.escape(str(path))} does not fit demo_resnet with levels .2, 3.: '
  with pytest.raises(ValueError, match=f'^{fit}{said}$'):
    weights.load(str(path), 'demo_resnet', (2, 3))


PAGE = b'<!DOCTYPE html>\n<html><body>404</body></html>'
POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'
BYTES = {
  'empty': (lambda _: b'', 'empty; get it again'),
  'page': (lambda _: PAGE, 'a web page, expected weights; get the file itself'),
  'pointer': (
    lambda _: POINTER,
    'a pointer of Git LFS, expected weights; run git lfs pull',
  ),
  'text': (lambda _: b'no weights here', 'damaged, or not a file of named'),
  'cut early': (lambda b: b[:50], 'damaged, or not a file of named'),
  'cut late': (lambda b: b[:-1], 'damaged, or not a file of named'),
}


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth', '.pt'])
@pytest.mark.parametrize('damage', BYTES)
def test_what_is_no_file_of_weights_is_refused(write, demo, damage, suffix):
  apply, said = BYTES[damage]
  path = write(demo, f'net{suffix}')
  path.write_bytes(apply(path.read_bytes()))
  with pytest.raises(ValueError) as caught:
    weights.load(str(path), 'demo_resnet', (2, 3))
  assert str(caught.value).startswith(f'{path}: {said}')
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('zipped', [True, False])
def test_objects_in_torch_files_are_refused_and_not_run(tmp_path, zipped):
  sprung, path = tmp_path / 'sprung', tmp_path / 'net.pth'
  content = {'state_dict': {'conv1.weight': Trap(sprung)}}
  torch.save(content, path, _use_new_zipfile_serialization=zipped)
  said = r'net\.pth: damaged, .* never loaded, .*; save a state_dict$'
  with pytest.raises(ValueError, match=said) as caught:
    weights.load(str(path), 'resnet18', (2, 3))
  assert 'weights_only' not in str(caught.value)
  assert not sprung.exists()


@pytest.mark.parametrize('suffix', ['.pth', '.pt'])
def test_a_checksum_in_the_name_must_fit(write, demo, suffix):
  content = write(demo, f'net{suffix}').read_bytes()
  sha256 = hashlib.sha256(content).hexdigest()
  path = write(demo, f'resnet18-{sha256[:8]}{suffix}')
  path.write_bytes(content)
  assert weights.load(str(path), 'demo_resnet', (1,)).sha256 == sha256
  path = path.with_name(f'resnet18-f37072fd{suffix}')
  path.write_bytes(content)
  with pytest.raises(ValueError) as caught:
    weights.load(str(path), 'demo_resnet', (1,))
  assert str(caught.value) == (
    f'{path}: its sha256 begins with {sha256[:8]}, expected f37072fd by its '
    'name; get it again, or rename it if it was made otherwise'
  )


def test_other_names_promise_no_checksum(write, demo):
  for name in ('a-f37072fd.safetensors', 'a-f37072f.pth', 'af37072fd.pth'):
    weights.load(str(write(demo, name)), 'demo_resnet', (1,))


def test_a_torch_file_without_torch(write, demo, monkeypatch):
  path = write(demo, 'net.pth')
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
