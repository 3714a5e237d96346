"""Readers and checks given anything: a value, or a refusal of one kind."""

import json
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from benchmarks.fuzzing import ground, mutations, pictures, values
from simplenet_jax.config import check_config, flatten, load_config
from simplenet_jax.data import images
from simplenet_jax.detection import assembly
from simplenet_jax.detection import file as detectors
from simplenet_jax.models.weights import files as weights
from tests.detection.detectors import make

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
def detector(tmp_path_factory):
  path = tmp_path_factory.mktemp('saved') / 'part.safetensors'
  make(levels=(1,)).save(path)
  return path


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """Returns files of a few weights, of both kinds."""
  folder = tmp_path_factory.mktemp('weights')
  tensors = {'conv1.weight': torch.ones(2, 3, 1, 1), 'bn1.bias': torch.ones(2)}
  torch.save(tensors, folder / 'a.pth')
  save_file(tensors, folder / 'a.safetensors')
  return sorted(folder.iterdir())


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  path = ground.write_released(tmp_path_factory.mktemp('released') / 'ckpt.pth')
  assert assembly.load_released(path, DIM)
  return path


@many
@given(seeds)
@pytest.mark.filterwarnings('ignore')  # Of Pillow, about what it refuses.
def test_images(tmp_path, seed):
  chance = random.Random(seed)
  path = tmp_path / f'x{pictures.suffix(chance)}'
  path.write_bytes(pictures.hostile(chance, side=16))
  try:
    image = images.read_image(path)
  except ValueError as error:
    assert str(path) in str(error)
    assert len(str(error).splitlines()) == 1
  else:
    assert image.mode == 'RGB'


@many
@given(seeds)
def test_detectors(tmp_path, detector, seed):
  path = tmp_path / 'part.safetensors'
  path.write_bytes(
    mutations.mutated(random.Random(seed), detector.read_bytes())
  )
  assert_read_or_refused(path, detectors.load)


@many
@given(seeds)
def test_descriptions_of_detectors(tmp_path, detector, seed):
  # With the digest that it needs: forged, not damaged.
  card, tensors = ground.described(detector)
  text = json.dumps(values.spoiled(random.Random(seed), card))
  path = tmp_path / 'part.safetensors'
  forged = {'detector': text, 'sha256': detectors.digest(text, tensors)}
  detectors.write_arrays(path, tensors, forged)
  assert_read_or_refused(path, detectors.load)


@many
@given(seeds)
def test_weights(tmp_path, small, seed):
  chance = random.Random(seed)
  source = chance.choice(small)
  path = tmp_path / f'weights{source.suffix}'
  path.write_bytes(mutations.mutated(chance, source.read_bytes()))
  assert_read_or_refused(path, weights.read)


@many
@given(seeds)
def test_released_checkpoints(tmp_path, checkpoint, seed):
  path = tmp_path / 'ckpt.pth'
  path.write_bytes(
    mutations.mutated(random.Random(seed), checkpoint.read_bytes())
  )
  assert_read_or_refused(path, lambda one: assembly.load_released(one, DIM))


@many
@given(seeds)
def test_settings(seed):
  chance, config = random.Random(seed), load_config('demo')
  for field in chance.sample(list(FIELDS), 2):
    value = values.near(chance, FIELDS[field])
    if chance.random() < 0.5:
      value = values.text(chance)
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
