"""Networks told by the names and shapes of their tensors."""

import re

import numpy as np
import pytest

from simplenet_jax.models import resnet, weights
from simplenet_jax.models.weights import kinds
from tests.models.weights import fabricated

DEPTHS = {
  'resnet18': (2, 2, 2, 2),
  'resnet50': (3, 4, 6, 3),
  'resnet101': (3, 4, 23, 3),
  'wide_resnet50_2': (3, 4, 6, 3),
  'demo_resnet': (2, 2, 2, 2),
}
NETWORKS = {n: fabricated.network(n, depths) for n, depths in DEPTHS.items()}


@pytest.mark.parametrize('expected', resnet.ARCHITECTURES)
@pytest.mark.parametrize('given', resnet.ARCHITECTURES)
def test_another_architecture_is_named_and_the_flag_for_it(given, expected):
  found = kinds.objection(NETWORKS[given], expected)
  assert kinds.recognise(NETWORKS[given]) == [given]
  if given == expected:
    assert found is None
  else:
    assert found == (
      f'is a {given}, expected {expected}; set --config.backbone.name={given} '
      'or --config.backbone.weights'
    )


def test_the_error_names_the_file():
  with pytest.raises(ValueError, match=r'^a\.pth is a resnet50, expected wide'):
    weights.from_torch_names(
      NETWORKS['resnet50'], 'wide_resnet50_2', (1, 2), 'a.pth'
    )


@pytest.mark.parametrize('name', ['resnet18', 'resnet50'])
def test_real_files_are_recognised(shared, name):
  path = shared(f'weights/{name}.safetensors')
  with pytest.raises(ValueError, match=f'is a {name}, expected resnet101'):
    weights.load(str(path), 'resnet101', (2, 3))


def test_what_ends_early_can_be_several():
  tensors = fabricated.cut(NETWORKS['resnet50'], after=2)
  assert kinds.recognise(tensors) == ['resnet50', 'resnet101']
  found = kinds.objection(tensors, 'resnet18')
  assert found is not None
  assert found.startswith('is a resnet50 or resnet101, expected resnet18; set')


@pytest.mark.parametrize(
  'name', ['conv1.weight', 'layer1.0.conv3.weight', 'layer2.1.conv1.weight']
)
def test_a_damaged_network_is_still_its_own(name):
  tensors = dict(NETWORKS['resnet50'])
  del tensors[name]
  assert kinds.recognise(tensors) == ['resnet50']


def like(shapes):
  return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def grouped():
  tensors = dict(NETWORKS['wide_resnet50_2'])
  for name, value in tensors.items():
    if name.endswith('conv2.weight'):
      tensors[name] = value[:, : len(value) // 32]
  return tensors


STRANGERS = {
  'deeper': (
    fabricated.network('resnet50', (3, 8, 36, 3)),
    'is a resnet152, which is not built here; expected resnet50',
  ),
  'wider': (
    fabricated.network('wide_resnet50_2', (3, 4, 23, 3)),
    'is a wide_resnet101_2, which is not built here; expected resnet50',
  ),
  'resnet34': (
    fabricated.network('resnet18', (3, 4, 6, 3)),
    'is a resnet34, which is not built here; expected resnet50',
  ),
  'resnext': (
    grouped(),
    'has grouped convolutions (layer1.0.conv2.weight is [128, 4, 3, 3]), as a '
    'ResNeXt has; expected a ResNet with the names of torchvision',
  ),
  'stem': (
    {**NETWORKS['resnet50'], **like({'conv1.0.weight': (32, 3, 3, 3)})},
    'has a stem of several convolutions (conv1.0.weight), as the ResNets "d" '
    'and "t" of timm; expected a ResNet with the names of torchvision',
  ),
  'gates': (
    {
      **NETWORKS['resnet50'],
      **like({'layer1.0.se.fc1.weight': (8, 256, 1, 1)}),
    },
    'has squeeze-and-excitation blocks (layer1.0.se.fc1.weight); expected a '
    'ResNet with the names of torchvision',
  ),
  'transformer': (
    like({'cls_token': (1, 1, 8), 'blocks.0.attn.qkv.weight': (24, 8)}),
    'is not a ResNet of torchvision: no conv1.weight among '
    'blocks.0.attn.qkv.weight, cls_token; expected a ResNet with the names of '
    'torchvision',
  ),
  'prefix': (
    {f'encoder.{n}': v for n, v in NETWORKS['resnet50'].items()},
    'has names that begin with encoder., to be taken off; expected a ResNet '
    'with the names of torchvision',
  ),
  'prefixed in part': (
    {
      **{f'backbone.{n}': v for n, v in NETWORKS['resnet50'].items()},
      **like({'head.weight': (5, 8)}),
    },
    'has names that begin with backbone., to be taken off; others do not: '
    'head.weight; expected a ResNet with the names of torchvision',
  ),
  'nothing': (
    {},
    'holds no tensors; expected a ResNet with the names of torchvision',
  ),
}


@pytest.mark.parametrize('kind', STRANGERS)
def test_other_networks_are_described(kind):
  tensors, said = STRANGERS[kind]
  with pytest.raises(ValueError, match=f'^it {re.escape(said)}$'):
    weights.from_torch_names(tensors, 'resnet50', (2, 3), 'it')
  found = kinds.objection(tensors, None)
  assert found is not None
  assert found.split(';')[0] == said.split(';')[0]


def test_shapes_of_no_network_are_told():
  tensors = dict(NETWORKS['resnet50'])
  tensors['conv1.weight'] = np.zeros((7, 7, 3, 64), np.float32)
  found = kinds.objection(tensors, None)
  assert found is not None
  assert found.startswith(
    'has blocks or shapes of no ResNet (conv1.weight [7, 7, 3, 64], '
    'layer1.0.conv1.weight [64, 64, 1, 1]); expected one of resnet18, resnet50'
  )
