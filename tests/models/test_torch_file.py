"""PyTorch's files, read without PyTorch, beside what PyTorch reads."""

import collections
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from simplenet_jax.models.weights import torch_file

STATE = {
  'state_dict': collections.OrderedDict(
    turned=torch.randn(3, 4).t(),
    part=torch.randn(9)[2:6],
    scalar=torch.tensor(3),
    empty=torch.zeros(0, 3),
    double=torch.randn(2, 1, 2, dtype=torch.float64),
    half=torch.randn(3).half(),
    brain=torch.randn(3).bfloat16(),
    yes=torch.tensor([True, False]),
    parameter=torch.nn.Parameter(torch.randn(2)),
  ),
  'epoch': 3,
  'others': [1, 2.5, None, 'text', {'a': (True,)}],
  'module': torch.nn.BatchNorm1d(3).state_dict(),
}


@pytest.fixture(params=[True, False], ids=['zip', 'older'])
def save(request, tmp_path):
  def save(value):
    path = tmp_path / 'net.pth'
    torch.save(value, path, _use_new_zipfile_serialization=request.param)
    return path

  return save


def test_values_are_those_that_torch_reads(save):
  found = torch_file.read(save(STATE))
  assert found['epoch'] == 3
  assert found['others'] == STATE['others']
  for part in ('state_dict', 'module'):
    assert list(found[part]) == list(STATE[part])
    for name, expected in STATE[part].items():
      expected, value = expected.detach(), found[part][name]
      assert str(value.dtype) == str(expected.dtype).removeprefix('torch.')
      assert value.shape == expected.shape
      expected = expected.to(torch.float64).numpy()
      np.testing.assert_array_equal(value.astype(np.float64), expected)


class Runs:
  """What would run a command where a file of it is read."""

  def __init__(self, mark):
    self.mark = mark

  def __reduce__(self):
    return os.mkdir, (str(self.mark),)


def test_nothing_in_a_file_is_run(save, tmp_path):
  with pytest.raises(pickle.UnpicklingError, match=r'it asks for .*mkdir'):
    torch_file.read(save({'a': torch.ones(1), 'b': Runs(tmp_path / 'mark')}))
  assert not (tmp_path / 'mark').exists()


@pytest.mark.parametrize(
  'code',
  [
    b'\x80\x02]r\xff\xff\xff\x7f.',  # A place far out in the memo.
    b'\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.',
    b'\x80\x04\x8c\x05torch\x8c\x04load\x93.',
    b'\x80\x02cnumpy\ndtype\n.',
    b'\x80\x02}.',  # A dictionary, but nothing else of the older format.
  ],
)
def test_forged_pickles_are_refused(tmp_path, code):
  older, newer = tmp_path / 'older.pth', tmp_path / 'newer.pth'
  older.write_bytes(code)
  with zipfile.ZipFile(newer, 'w') as archive:
    archive.writestr('net/data.pkl', code)
  for path in (older, newer):
    if path == newer and code.endswith(b'}.'):
      assert torch_file.read(path) == {}
      continue
    with pytest.raises((pickle.UnpicklingError, ValueError, TypeError)):
      torch_file.read(path)


def test_dictionaries_in_one_another_are_read_once(save):
  value = {'a': torch.ones(1)}
  for _ in range(60):
    value = {'a': value, 'b': value}
  found = torch_file.read(save(value))
  assert found['a'] is found['b']


def test_damaged_files_raise(save, tmp_path):
  content = save({'a': torch.ones(4, 4), 'b': torch.zeros(2)}).read_bytes()
  rng, path = np.random.default_rng(0), tmp_path / 'damaged.pth'
  for _ in range(200):
    forged = np.frombuffer(content, np.uint8).copy()
    forged[rng.integers(len(forged), size=4)] = rng.integers(256, size=4)
    path.write_bytes(forged.tobytes()[: rng.integers(1, 2 * len(forged))])
    try:
      found = torch_file.read(path)
    except Exception:  # Whoever reads a file turns any error into a line.
      continue
    assert isinstance(found, dict)


@pytest.mark.parametrize(
  ('offset', 'size', 'stride'),
  [(0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 3), (2, 1)), (-1, (2,), (1,))],
)
def test_a_tensor_stays_in_its_storage(offset, size, stride):
  one = torch_file._Tensor('FloatStorage', '0', 4, offset, size, stride)
  content = np.arange(4, dtype=np.float32).tobytes()
  with pytest.raises(ValueError, match='reaches beyond its storage'):
    one.read(content)
