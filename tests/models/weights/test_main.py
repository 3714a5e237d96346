"""The command that tells what a file is, and converts it."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch

from simplenet_jax.models.weights import inspection
from tests import commands
from tests.models.weights import fabricated


def run(*arguments):
  return commands.run('models.weights', *arguments)


@pytest.mark.parametrize(
  ('architecture', 'depths', 'whole', 'to_layer3'),
  [
    # torchvision's own counts, and those of the paper's backbone to layer3.
    ('resnet18', (2, 2, 2, 2), 11_689_512, 2_782_784),
    ('resnet50', (3, 4, 6, 3), 25_557_032, 8_543_296),
    ('resnet101', (3, 4, 23, 3), 44_549_160, 27_535_424),
    ('wide_resnet50_2', (3, 4, 6, 3), 68_883_240, 24_862_528),
  ],
)
def test_parameters_are_counted(architecture, depths, whole, to_layer3):
  tensors = fabricated.network(architecture, depths)
  assert inspection.parameters(tensors) == whole
  assert inspection.parameters(tensors, 3) == to_layer3
  assert inspection.levels(tensors) == (1, 2, 3)
  assert inspection.levels(fabricated.cut(tensors, after=1)) == (1,)


def test_a_file_is_described(write):
  tensors = fabricated.tensors('resnet18')
  tensors['fc.weight'] = np.zeros((15, 512), np.float32)
  path = write(tensors, 'mine.pth')
  done = run(f'--weights={path}')
  assert (done.status, done.errors) == (0, '')
  name, *lines = done.told.splitlines()
  facts = {line.split()[0]: ' '.join(line.split()[1:]) for line in lines}
  spread = facts.pop('features')
  assert name == str(path)
  assert facts == {
    'network': 'resnet18',
    'levels': '1, 2, 3',
    'recipe': 'unknown, no file of torchvision by checksum',
    'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
    'tensors': '91 (76 float32, 15 int64), 11.2 MB',
    'parameters': '2,790,464, 2,782,784 from the stem to layer3',
    'classifier': "15 classes, ImageNet's has 1000: fine-tuned on other images",
    'BatchNorm': 'with its statistics',
  }
  assert spread.startswith('of levels 2+3 spread ')
  assert "times as wide as those of torchvision's V1 ResNet18; sigma " in spread


def test_the_demo_is_described():
  done = run('--weights=demo')
  assert done.status == 0
  assert 'network     demo_resnet' in done.told
  assert 'classifier  none' in done.told
  assert 'features    not compared' in done.told


def test_folded_norms_are_told(shared):
  path = shared('weights/resnet18.safetensors')
  done = run(f'--weights={path}')
  assert 'BatchNorm   changes nothing: folded' in done.told
  assert 'spread 1.00 times as wide' in done.told
  assert 'sigma 0.015 is as much noise' in done.told


def test_tensors_are_listed(write, demo):
  done = run(f'--weights={write(demo)}', '--list')
  assert done.status == 0
  assert '  conv1.weight [32, 3, 7, 7] float32\n' in done.told
  assert '  bn1.num_batches_tracked [] int64\n' in done.told
  assert sum(' [' in line for line in done.told.splitlines()) == len(demo)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float32', 'float64'])
def test_files_are_converted_bit_for_bit(tmp_path, demo, dtype):
  source, output = tmp_path / 'net.pth', tmp_path / 'new/net.safetensors'
  tensors = {name: torch.tensor(value) for name, value in demo.items()}
  for name, value in tensors.items():
    if value.is_floating_point():
      tensors[name] = value.to(getattr(torch, dtype))
  # As it lies in memory after training in channels_last.
  tensors['conv1.weight'] = tensors['conv1.weight'].contiguous(
    memory_format=torch.channels_last
  )
  torch.save(
    {'state_dict': {f'module.{k}': v for k, v in tensors.items()}}, source
  )
  done = run(f'--weights={source}', f'--output={output}')
  assert (done.status, done.errors) == (0, '')
  assert f'Wrote {len(demo)} tensors to {output}' in done.told
  assert [path.name for path in output.parent.iterdir()] == ['net.safetensors']
  found = safetensors.numpy.load_file(output)
  assert found.keys() == demo.keys()
  for name, value in demo.items():
    kind = jnp.dtype(dtype) if value.dtype == np.float32 else value.dtype
    assert found[name].dtype == kind
    assert found[name].shape == value.shape
    np.testing.assert_array_equal(found[name], value.astype(kind))

  # Of what came out comes the same.
  again = tmp_path / 'again.safetensors'
  assert run(f'--weights={output}', f'--output={again}').status == 0
  assert again.read_bytes() == output.read_bytes()


def test_a_file_is_overwritten_only_if_told_so(tmp_path, write, demo):
  path, output = write(demo), tmp_path / 'out.safetensors'
  output.write_bytes(b'other')
  command = f'--weights={path}', f'--output={output}'
  done = run(*command)
  assert done.status == 1
  assert f'error: {output} is there already; give another' in done.error
  assert output.read_bytes() == b'other'
  assert run(*command, '--overwrite').status == 0
  assert output.read_bytes() != b'other'


def test_problems_are_told_and_nothing_is_written(tmp_path, write, demo):
  del demo['bn1.bias']
  demo['layer2.0.bn2.bias'] = np.full(64, np.nan, np.float32)
  path, output = write(demo), tmp_path / 'out.safetensors'
  done = run(f'--weights={path}', f'--output={output}')
  assert done.status == 1
  assert done.error == (
    f'error: {path} does not fit demo_resnet with levels (1, 2, 3): missing '
    '(1): bn1.bias; not finite in float32 (1): layer2.0.bn2.bias'
  )
  assert not output.exists()


def test_other_networks_are_listed_and_refused(write):
  path = write({'cls_token': np.zeros((1, 1, 8), np.float32)})
  done = run(f'--weights={path}', '--list')
  assert done.status == 1
  assert '  cls_token [1, 1, 8] float32' in done.told
  assert 'is not a ResNet of torchvision' in done.error


def test_wrong_flags_are_refused(tmp_path):
  done = run()
  assert done.status == 2
  assert '--weights' in done.error
  done = run('--weights=demo', '--output=a.pth')
  assert done.status == 1
  assert done.error == 'error: --output is a.pth; give a name with .safetensors'
  missing = tmp_path / 'none.pth'
  done = run(f'--weights={missing}')
  assert done.status == 1
  assert done.error == f'error: {missing}: no such file; check --weights'
