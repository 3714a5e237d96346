"""What hostile files never achieve."""

import pickle

import numpy as np
import pytest
import torch

from benchmarks.fuzzing.mutations import Command
from simplenet_jax.data import images
from simplenet_jax.detection import assembly
from simplenet_jax.detection import file as detectors
from simplenet_jax.evaluation import results
from simplenet_jax.models.weights import files as weights
from simplenet_jax.training.checkpoint import Checkpoints
from tests.training.test_lanes import make_job


@pytest.fixture
def ran(tmp_path):
  """What a hostile file leaves behind if it is trusted."""
  return tmp_path / 'ran'


@pytest.fixture(params=['pickle', 'torch', 'old torch', 'numpy'])
def hostile(request, ran):
  """Returns what writes a file that runs a command when it is trusted."""
  command = Command(f'touch {ran}')

  def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    match request.param:
      case 'pickle':
        path.write_bytes(pickle.dumps(command))
      case 'torch':
        tensors = {'x': torch.ones(3)}
        torch.save({'discriminator': tensors, 'x': command}, path)
      case 'old torch':
        torch.save([command], path, _use_new_zipfile_serialization=False)
      case 'numpy':
        with path.open('wb') as file:
          np.save(file, np.array([command], object), allow_pickle=True)
    return path

  return write


@pytest.mark.parametrize(
  ('name', 'read'),
  [
    ('weights.pth', weights.read),
    ('weights.safetensors', weights.read),
    ('ckpt.pth', lambda path: assembly.load_released(path, 64)),
    ('part.safetensors', detectors.load),
    ('part.safetensors', detectors.read_card),
    ('results.json', lambda path: results.read(path.parent)),
    ('image.png', images.read_image),
  ],
)
def test_hostile_files_are_refused(hostile, ran, tmp_path, name, read):
  path = hostile(tmp_path / name)
  with pytest.raises(ValueError, match=name):
    read(path)
  assert not ran.exists()


def test_hostile_checkpoints_are_passed_over(hostile, ran, tmp_path, capsys):
  job = make_job(2)
  home = tmp_path / job.category / f'seed-{job.seed}' / '3'
  hostile(home / 'arrays.safetensors')
  assert Checkpoints(tmp_path).load(job) is None
  assert 'cannot be read' in capsys.readouterr().out
  assert not ran.exists()
