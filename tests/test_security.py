"""Hostile files: readers given anything return a value, or refuse in a line."""

import json
import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from benchmarks.fuzzing import ground, mutations, pictures
from simplenet_jax.config import check_config, flatten, load_config
from simplenet_jax.data import images
from simplenet_jax.detection import file as detectors
from simplenet_jax.evaluation import results
from simplenet_jax.models.weights import files as weights
from simplenet_jax.training.checkpoint import Checkpoints
from tests.detection.detectors import make
from tests.training.test_lanes import make_job

FIELDS = flatten(load_config('demo'))
DIM = ground.SETTINGS['patch.target_dim']
seeds = st.integers(0, 2**32)
# A file is written anew by every example.
many = settings(
  max_examples=150,
  deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Returns a file of every kind, with what reads it."""
  folder = tmp_path_factory.mktemp('whole')
  make(levels=(1,)).save(folder / 'part.safetensors')
  tensors = {'conv1.weight': torch.ones(2, 3, 1, 1), 'bn1.bias': torch.ones(2)}
  torch.save(tensors, folder / 'a.pth')
  save_file(tensors, folder / 'a.safetensors')
  ground.write_released(folder / 'ckpt.pth')
  return {
    folder / 'part.safetensors': detectors.load,
    folder / 'a.pth': weights.read,
    folder / 'a.safetensors': weights.read,
    folder / 'ckpt.pth': lambda one: weights.load_released(one, DIM),
  }


@many
@given(seeds)
@pytest.mark.filterwarnings('ignore')  # Of Pillow, about what it refuses.
def test_images(tmp_path, seed):
  chance = random.Random(seed)
  path = tmp_path / f'x{pictures.suffix(chance)}'
  path.write_bytes(pictures.hostile(chance, side=16))
  assert_read_or_refused(path, lambda one: images.read_image(one).mode == 'RGB')


@many
@given(seeds)
def test_damaged_files(tmp_path, whole, seed):
  for source, read in whole.items():
    content = mutations.mutated(random.Random(seed), source.read_bytes())
    (tmp_path / source.name).write_bytes(content)
    assert_read_or_refused(tmp_path / source.name, read)


@many
@given(seeds)
def test_descriptions_of_detectors(tmp_path, whole, seed):
  # With the digest that it needs: forged, not damaged.
  known, tensors = detectors.load(next(iter(whole)))
  card = json.loads(known.to_json())
  text = json.dumps(mutations.spoiled(random.Random(seed), card))
  path = tmp_path / 'part.safetensors'
  forged = {'detector': text, 'sha256': detectors.digest(text, tensors)}
  detectors.write_arrays(path, tensors, forged)
  assert_read_or_refused(path, detectors.load)


@many
@given(seeds)
def test_settings(seed):
  chance, config = random.Random(seed), load_config('demo')
  for field in chance.sample(list(FIELDS), 2):
    value = mutations.near(chance, FIELDS[field])
    if chance.random() < 0.5:
      value = mutations.text(chance)
    # As the flags do: a value of another type is refused before.
    kind = type(FIELDS[field])
    try:
      parsed = value == 'true' if kind is bool else kind(value)
      config.update_from_flattened_dict({field: parsed})
    except (ValueError, TypeError, OverflowError):
      continue
  try:
    check_config(config)
  except ValueError as error:
    assert '--config' in str(error)


def assert_read_or_refused(path, read):
  """Checks that a file is read, or refused in a line that names it."""
  try:
    assert read(path)
  except ValueError as error:
    assert str(path) in str(error)
    assert len(str(error).splitlines()) == 1


@pytest.fixture
def ran(tmp_path):
  """What a hostile file leaves behind if it is trusted."""
  return tmp_path / 'ran'


@pytest.fixture(params=['pickle', 'torch', 'old torch', 'numpy'])
def hostile(request, ran):
  """Returns what writes a file that runs a command when it is trusted."""
  command = mutations.Command(f'touch {ran}')

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
    ('ckpt.pth', lambda path: weights.load_released(path, 64)),
    ('part.safetensors', detectors.load),
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
