"""The command that tells what a file of weights is, and converts it."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch

from tests import commands
from tests.models import fabricated


def run(*arguments):
  return commands.run('models.weights', *arguments)


def test_a_file_is_described_and_its_tensors_are_listed(tmp_path):
  tensors = fabricated.tensors('resnet18')
  tensors['fc.weight'] = np.zeros((15, 512), np.float32)
  path = fabricated.write(tmp_path / 'mine.pth', tensors)
  done = run(f'--weights={path}', '--list')
  assert (done.status, done.errors) == (0, '')
  name, *lines = done.told.splitlines()
  assert name == str(path)
  assert '  conv1.weight [64, 3, 7, 7] float32' in lines
  assert '  bn1.num_batches_tracked [] int64' in lines
  facts = [line.split(maxsplit=1) for line in lines[len(tensors) :]]
  assert facts == [
    ['network', 'resnet18'],
    ['levels', '1, 2, 3'],
    ['recipe', 'fine-tuned to 15 classes'],
    ['sha256', hashlib.sha256(path.read_bytes()).hexdigest()],
    ['tensors', '91 (76 float32, 15 int64), 11.2 MB'],
  ]


@pytest.mark.parametrize('dtype', ['bfloat16', 'float64'])
def test_files_are_converted_bit_for_bit(tmp_path, dtype):
  source, output = tmp_path / 'net.pth', tmp_path / 'new/net.safetensors'
  demo = fabricated.tensors('demo_resnet', whole=True)
  tensors = {name: torch.tensor(value) for name, value in demo.items()}
  for name, value in tensors.items():
    if value.is_floating_point():
      tensors[name] = value.to(getattr(torch, dtype))
  # As it lies in memory after training in channels_last.
  first, last = tensors['conv1.weight'], torch.channels_last
  tensors['conv1.weight'] = first.contiguous(memory_format=last)
  torch.save(
    {'state_dict': {f'module.{k}': v for k, v in tensors.items()}}, source
  )
  done = run(f'--weights={source}', f'--output={output}')
  assert (done.status, done.errors) == (0, '')
  assert f'Wrote {len(demo)} tensors to {output}' in done.told
  found = safetensors.numpy.load_file(output)
  assert found.keys() == demo.keys()
  for name, value in demo.items():
    kind = jnp.dtype(dtype) if value.dtype == np.float32 else value.dtype
    assert (found[name].dtype, found[name].shape) == (kind, value.shape)
    np.testing.assert_array_equal(found[name], value.astype(kind))


def test_problems_are_told_and_nothing_is_written(tmp_path):
  demo = fabricated.tensors('demo_resnet')
  del demo['bn1.bias']
  path = fabricated.write(tmp_path / 'net.safetensors', demo)
  output = tmp_path / 'out.safetensors'
  done = run(f'--weights={path}', f'--output={output}')
  assert done.status == 1
  assert done.error == (
    f'error: {path} does not fit demo_resnet with levels (1, 2, 3): missing '
    '(1): bn1.bias'
  )
  assert not output.exists()
  fabricated.write(path, {'cls_token': np.zeros((1, 1, 8), np.float32)})
  said = run(f'--weights={path}').error
  assert 'is not one of resnet18, resnet50' in said
  assert 'begins with cls_token' in said


@pytest.mark.parametrize(
  ('arguments', 'status', 'said'),
  [
    ((), 2, '--weights'),
    (('--weights=demo', '--output=a.pth'), 1, '--output is a.pth; give a name'),
    (('--weights=none.pth',), 1, 'error: none.pth: no such file; check --wei'),
    (('--weights=demo', '--output=FILE'), 1, 'is there already; give another'),
  ],
)
def test_wrong_flags_are_refused(tmp_path, arguments, status, said):
  there = tmp_path / 'out.safetensors'
  there.write_bytes(b'other')
  done = run(*(one.replace('FILE', str(there)) for one in arguments))
  assert done.status == status
  assert said in done.error
  assert there.read_bytes() == b'other'
