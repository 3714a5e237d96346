"""torchvision's names to a state and back; strictness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from flax import nnx

from simplenet_jax.models import resnet, weights
from tests.models.weights import fabricated


@pytest.mark.parametrize('architecture', resnet.ARCHITECTURES)
def test_round_trip_is_exact(architecture):
  tensors = fabricated.tensors(architecture)
  state = weights.from_torch_names(tensors, architecture, (1, 2, 3))
  back = weights.to_torch_names(state)
  used = {n for n in tensors if not n.endswith('num_batches_tracked')}
  assert back.keys() == used
  for name, value in back.items():
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, tensors[name])


@pytest.mark.parametrize('levels', [(1,), (2,), (1, 2)])
def test_layers_above_the_last_level_are_left_out(demo, levels):
  state = weights.from_torch_names(demo, 'demo_resnet', levels)
  _, expected = resnet.abstract('demo_resnet', levels)
  assert jax.tree.structure(state) == jax.tree.structure(expected)
  layers = {name.split('.')[0] for name in weights.to_torch_names(state)}
  built = {f'layer{level}' for level in range(1, levels[-1] + 1)}
  assert layers == {'conv1', 'bn1'} | built


def test_tensors_may_end_with_the_last_level(demo):
  tensors = fabricated.cut(demo, after=2)
  weights.from_torch_names(tensors, 'demo_resnet', (1, 2))
  with pytest.raises(ValueError, match=r'missing \(25\): layer3\.0\.bn1'):
    weights.from_torch_names(tensors, 'demo_resnet', (2, 3))


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


@pytest.mark.parametrize('dtype', [np.float16, np.float64, jnp.bfloat16])
def test_other_floats_become_float32(demo, dtype):
  tensors = {name: value.astype(dtype) for name, value in demo.items()}
  state = weights.from_torch_names(tensors, 'demo_resnet', (1,))
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
  demo['layer2.1.bn2.running_var'] = np.full(64, -0.1, np.float32)
  path = write(demo)
  with pytest.raises(ValueError) as caught:
    weights.load(str(path), 'demo_resnet', (2, 3))
  head, problems = str(caught.value).split(': ', 1)
  assert head == f'{path} does not fit demo_resnet with levels (2, 3)'
  assert sorted(problems.split('; ')) == [
    'missing (5): bn1.bias, layer1.0.bn1.bias, layer1.0.bn1.weight and 2 more',
    'negative variance (1): layer2.1.bn2.running_var',
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


def test_scalars_in_place_of_kernels_are_reported(demo):
  scalar = np.array(1, np.float32)
  demo['conv1.weight'] = demo['layer1.0.conv1.weight'] = scalar
  with pytest.raises(ValueError, match=r'wrong shape \(2\): conv1\.weight \(f'):
    weights.from_torch_names(demo, 'demo_resnet', (2, 3))


def test_an_unknown_depth_does_not_fit(demo):
  demo['layer2.2.conv1.weight'] = demo['layer2.1.conv1.weight']
  with pytest.raises(ValueError, match=r'unexpected \(1\): layer2\.2\.conv1'):
    weights.from_torch_names(demo, 'demo_resnet', (2, 3))
