"""Files of PyTorch: their tensors, and nothing else of them."""

import pickle
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from simplenet_jax.models import torch_file


class Trap:
  """Leaves a file where it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return Path.touch, (self.path,)


def test_tensors_come_back_by_name(tmp_path):
  values = torch.randn(3, 4)
  layer = torch.nn.Linear(4, 2)
  torch.save(
    {
      'plain': values,
      'turned': values.T,
      'parameter': torch.nn.Parameter(values),
      'inner': {'half': values.half(), 'low': values.bfloat16()},
      'count': torch.tensor(7),
      'state': layer.state_dict(),
      3: torch.zeros(0),
      'number': 2.5,
    },
    tmp_path / 'a.pth',
  )
  found = torch_file.read(tmp_path / 'a.pth')
  assert set(found) == {
    'plain',
    'turned',
    'parameter',
    'inner',
    'count',
    'state',
    '3',
    'number',
  }
  for name in ('plain', 'parameter'):
    assert found[name].dtype == np.float32
    np.testing.assert_array_equal(found[name], values.numpy())
  np.testing.assert_array_equal(found['turned'], values.numpy().T)
  low = values.numpy().astype(ml_dtypes.bfloat16).astype(np.float32)
  np.testing.assert_array_equal(found['inner']['low'], low)
  assert found['inner']['half'].dtype == np.float32
  assert found['count'] == 7
  assert found['count'].dtype == np.int64
  np.testing.assert_array_equal(
    found['state']['weight'], layer.weight.detach().numpy()
  )
  assert found['number'] == 2.5


@pytest.mark.parametrize('content', [torch.zeros(3), [torch.zeros(3)], 'text'])
def test_tensors_without_names_are_refused(tmp_path, content):
  torch.save(content, tmp_path / 'a.pth')
  with pytest.raises(TypeError, match='holds no named tensors'):
    torch_file.read(tmp_path / 'a.pth')


@pytest.mark.parametrize('zipped', [True, False])
def test_nothing_in_a_file_is_run(tmp_path, zipped):
  sprung = tmp_path / 'sprung'
  content = {'discriminator': Trap(sprung)}
  torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
  with pytest.raises(pickle.UnpicklingError):
    torch_file.read(tmp_path / 'a.pth')
  assert not sprung.exists()
  # It is a trap that works.
  torch.load(tmp_path / 'a.pth', weights_only=False)
  assert sprung.exists()
