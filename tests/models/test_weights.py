"""Files of weights: whole ones, damaged ones and others'."""

import collections
import hashlib
import itertools
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

from simplenet_jax.config import load_config
from simplenet_jax.models import architectures, backbone, weights
from simplenet_jax.models.weights import UNKNOWN, files
from tests.models import fabricated


@pytest.fixture
def whole():
  """Fresh tensors of a whole ResNet18: layer4, fc, counters and all."""
  return fabricated.tensors('resnet18', whole=True)


@pytest.fixture
def write(tmp_path):
  def write(tensors, name='net.safetensors'):
    return fabricated.write(tmp_path / name, tensors)

  return write


def assert_same(tensors, others):
  assert tensors.keys() == others.keys()
  for name, value in tensors.items():
    assert value.dtype == others[name].dtype
    np.testing.assert_array_equal(value, others[name])


@pytest.mark.parametrize('name', ['net.safetensors', 'net.pth'])
@pytest.mark.parametrize('architecture', architectures.RESNETS)
def test_files_of_all_architectures_load(write, architecture, name):
  assert architecture in weights.DEFAULT_WEIGHTS
  tensors = fabricated.tensors(architecture)
  tensors['fc.weight'] = np.zeros((1000, 8), np.float32)
  path = write(tensors, name)
  found = weights.load(str(path), architecture, (1,))
  assert_same(found.state, backbone.fold(tensors, architecture, (1,)))
  assert (found.path, found.name, found.recipe) == (path, str(path), UNKNOWN)
  assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


WRAPPED = {
  'state_dict': lambda t: {'epoch': 3, 'state_dict': t, 'optimizer': {}},
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


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float64'])
def test_tensors_of_torch_keep_type_and_bits(tmp_path, dtype):
  value = torch.randn(2, 3, 4, 5).to(getattr(torch, dtype))
  # As it lies in memory after training in channels_last.
  laid = value.contiguous(memory_format=torch.channels_last)
  torch.save({'conv1.weight': laid}, tmp_path / 'net.pth')
  found = files.read(tmp_path / 'net.pth')[0]['conv1.weight']
  assert str(found.dtype) == dtype
  np.testing.assert_array_equal(found.astype('d'), value.double())


@pytest.mark.parametrize(
  ('content', 'said'),
  [
    (torch.ones(2), 'holds no named tensors'),
    ({'epoch': 3}, r'other things than tensors: epoch \(int\); tensor'),
    ({'net': {'a': torch.ones(1)}}, r'than tensors: net \(dict\)'),
    ({'model': {}, 'state_dict': {}}, 'holds state_dict and model, only one'),
    ({'a': Path('b')}, r'never loaded, they could .*; save a state_dict$'),
  ],
)
def test_a_torch_file_of_other_things_is_refused(tmp_path, content, said):
  path = tmp_path / 'net.pth'
  torch.save(content, path)
  with pytest.raises(ValueError, match=rf'net\.pth: damaged, or not .*{said}'):
    files.read(path)


PAGE = b'<!DOCTYPE html>\n<html><body>404</body></html>'
POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
@pytest.mark.parametrize(
  ('content', 'said'),
  [
    (b'', 'empty; get it again'),
    (PAGE, 'a web page, expected weights; get the file itself'),
    (POINTER, 'a pointer of Git LFS, expected weights; run git lfs'),
    (b'no weights here', 'damaged, or not a file of named'),
    (slice(50), 'damaged, or not a file of named'),
    (slice(-1), 'damaged, or not a file of named'),
  ],
)
def test_what_is_no_file_of_weights_is_refused(
  write, whole, content, said, suffix
):
  path = write(whole, f'net{suffix}')
  cut = isinstance(content, slice)
  path.write_bytes(path.read_bytes()[content] if cut else content)
  with pytest.raises(ValueError) as caught:
    files.read(path)
  assert str(caught.value).startswith(f'{path}: {said}')
  assert '\n' not in str(caught.value)


def test_a_checksum_in_the_name_must_fit(write, whole):
  content = write(whole, 'net.pth').read_bytes()
  sha256 = hashlib.sha256(content).hexdigest()
  path = write(whole, f'resnet18-{sha256[:8]}.pth')
  path.write_bytes(content)
  assert files.read(path)[1] == sha256
  path = path.with_name('resnet18-f37072fd.pth')
  path.write_bytes(content)
  said = f'its sha256 begins with {sha256[:8]}, expected f37072fd by its name'
  with pytest.raises(ValueError, match=said):
    files.read(path)
  for name in ('a-f37072fd.safetensors', 'a-f37072f.pth', 'af37072fd.pth'):
    files.read(write(whole, name))


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


def test_all_mismatches_are_reported_together(write, whole):
  for name in ('bn1.bias', 'layer1.0.bn1.weight', 'layer1.0.bn1.bias'):
    del whole[name]
  del whole['layer3.0.bn1.running_var'], whole['layer3.0.bn2.running_var']
  whole['layer1.0.conv9.weight'] = np.ones((1, 1, 1, 1), np.float32)
  whole['layer5.0.conv1.weight'] = np.ones((1, 1, 1, 1), np.float32)
  whole['layer2.0.conv1.weight'] = np.ones((64, 32, 1, 1), np.float32)
  whole['conv1.weight'] = np.array(1, np.float32)
  whole['layer2.0.bn1.bias'] = np.ones(128, np.int32)
  whole['layer2.0.bn2.bias'] = np.full(128, np.nan, np.float32)
  whole['layer2.1.bn2.bias'] = np.full(128, 1e300)
  whole['layer2.1.bn2.running_var'] = np.full(128, -0.1, np.float32)
  path = write(whole)
  with pytest.raises(ValueError) as caught:
    weights.load(str(path), 'resnet18', (2, 3))
  head, problems = str(caught.value).split(': ', 1)
  assert head.startswith(f'{path} does not fit resnet18 with levels (2, 3)')
  assert sorted(problems.split('; ')) == [
    'missing (5): bn1.bias, layer1.0.bn1.bias, layer1.0.bn1.weight and 2 more',
    'negative variance (1): layer2.1.bn2.running_var',
    'not finite in float32 (2): layer2.0.bn2.bias, layer2.1.bn2.bias',
    'not floating point (1): layer2.0.bn1.bias (int32)',
    'unexpected (2): layer1.0.conv9.weight, layer5.0.conv1.weight',
    'wrong shape (2): conv1.weight (found [], expected [64, 3, 7, 7]), '
    'layer2.0.conv1.weight (found [64, 32, 1, 1], expected [128, 64, 3, 3])',
  ]


def test_another_network_is_named_and_the_flag_for_it():
  every = {name: fabricated.tensors(name) for name in architectures.RESNETS}
  for name, other in itertools.permutations(every, 2):
    said = rf'a\.pth is a {name}, expected {other}; set --config\.backbone\.'
    flags = rf'name={name} or --config\.backbone\.weights'
    for levels in ((1,), (2, 3)):
      with pytest.raises(ValueError, match=f'^{said}{flags}$'):
        weights.check(every[name], other, levels, 'a.pth')


@pytest.mark.parametrize(
  ('backend', 'source', 'earlier', 'expected'),
  [
    ('cpu', None, '', 'efficientnet_lite0'),
    ('gpu', None, '', 'wide_resnet50_2'),
    ('tpu', None, 'resnet18', 'resnet18'),
    ('cpu', 'resnet50', '', 'resnet50'),
    ('cpu', 'efficientnet_lite0', '', 'efficientnet_lite0'),
  ],
)
def test_auto_is_a_backbone_that_suits(
  write, monkeypatch, capsys, backend, source, earlier, expected
):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  config = load_config('folder')
  assert config.backbone.name == 'auto'
  if source == 'resnet50':
    source = str(write(fabricated.tensors('resnet50')))
  config.backbone.weights = source or ''
  before = {'name': earlier, 'batch_size': 5} if earlier else {}
  named = weights.name_backbone(config, before)
  assert (config.backbone.name, named.backbone.name) == ('auto', expected)
  said = 'Uses the backbone efficientnet_lite0, as there is no accelerator'
  is_said = said in ' '.join(capsys.readouterr().out.split())
  assert is_said == (backend == 'cpu' and not source)
  suited = 5 if earlier else 8 if backend == 'cpu' else 32
  assert (config.backbone.batch_size, named.backbone.batch_size) == (0, suited)
  assert weights.name_backbone(named, {'batch_size': 7}) == named


def test_weights_that_auto_cannot_place_are_refused_in_a_line(write):
  config = load_config('folder')
  config.backbone.weights = str(write({'head.weight': np.ones(3, 'f')}))
  with pytest.raises(ValueError, match=r'fits none of resnet18, .*; give othe'):
    weights.name_backbone(config)


def test_tensors_may_end_with_the_last_level():
  every = fabricated.tensors('resnet50')
  early = {n: v for n, v in every.items() if not n.startswith('layer3.')}
  weights.check(early, 'resnet50', (1, 2), '')
  with pytest.raises(ValueError, match=r'missing \(\d+\): layer3\.0\.bn1'):
    weights.check(early, 'resnet50', (2, 3), '')
  with pytest.raises(ValueError, match='is a resnet50, expected resnet18'):
    weights.check(early, 'resnet18', (1, 2), '')


@pytest.mark.parametrize(
  'tensors',
  [
    {},
    {'cls_token': np.zeros((1, 1, 8), np.float32)},
    {f'encoder.{n}': v for n, v in fabricated.tensors('resnet18').items()},
    # A ResNet34 has more blocks.
    fabricated.tensors('resnet18')
    | {'layer1.2.conv1.weight': np.zeros((64, 64, 3, 3), np.float32)},
  ],
)
def test_networks_that_are_not_built_are_refused(tensors):
  with pytest.raises(ValueError, match='nor another network'):
    weights.check(tensors, 'resnet18', (2, 3), '')
