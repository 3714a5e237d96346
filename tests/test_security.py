"""What the package never does, and what hostile files never achieve."""

import ast
import pathlib
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

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted(
  path
  for folder in ('simplenet_jax', 'configs', 'launch')
  for path in (ROOT / folder).rglob('*.py')
)


# Modules that run what a file holds, or that start other programs. Calls that
# do are found by ruff's rules S102, S301, S307 and S602 to S607.
MODULES = {
  *('cloudpickle', 'code', 'ctypes', 'dill', 'joblib', 'marshal', 'pickle'),
  *('pty', 'runpy', 'shelve', 'subprocess', 'yaml'),
}


def imported(source):
  """Returns the modules of `MODULES` that a source imports."""
  for node in ast.walk(ast.parse(source)):
    match node:
      case ast.Import(names=names):
        found = [one.name for one in names]
      case ast.ImportFrom(module=str(module), names=names):
        # What torch raises is harmless.
        found = [module for one in names if one.name != 'UnpicklingError']
      case _:
        found = []
    yield from (one for one in found if one.split('.')[0] in MODULES)


def test_nothing_but_a_config_file_is_run():
  texts = {path: path.read_text(encoding='utf-8') for path in SOURCES}
  found = {
    str(path.relative_to(ROOT)): one
    for path, text in texts.items()
    if (one := list(imported(text)))
  }
  assert len(SOURCES) > 50
  for text in texts.values():
    assert 'allow_pickle=True' not in text
    assert text.count('torch.load(') == text.count('weights_only=True')
  # Config files are programs, and trusted: see SECURITY.md; verbs are modules.
  assert found == {
    'simplenet_jax/__main__.py': ['runpy'],
    'simplenet_jax/config.py': ['runpy'],
  }


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
