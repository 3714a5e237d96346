"""A detector's file: exact, whole or refused, and so is its description."""

import dataclasses
import errno
import json
import pathlib

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_tensors

from simplenet_jax.detection import file
from simplenet_jax.detection.file import Card
from simplenet_jax.detection.inputs import Appearance
from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.detector import Detector
from simplenet_jax.models import architectures, backbone, head
from simplenet_jax.models.simplenet import Network
from tests.detection import detectors

RNG = np.random.default_rng(0)
SMALL = architectures.ResNet(bottleneck=False, depths=(1, 1, 1), width=2)
NETWORK = Network('small', (2, 3), 'reflect', 3, 24, 24, (32, 40), 4.0)
THRESHOLDS = Thresholds(
  image=0.1 + 0.2,
  pixel=-1e-300,
  target_rate=0.01,
  guaranteed_rate=1 / 3,
  images=2,
  median=2.0**-60,
  limiting_images=(('Schräubchen/äöü 日本.png', 1 / 7), ('b,\n.png', -0.0)),
  precision='bfloat16',
)
APPEARANCE = Appearance.of([np.full((8, 8, 3), 9.5)], [(30, 40)])
CARD = Card(
  name='Schräubchen v1.2',
  network=NETWORK,
  heads=2,
  resize=329,
  bits=16,
  crop=0,
  margin=0.5,
  thresholds=THRESHOLDS,
  provenance={'root': 'C:\\ü\u2028', 'seeds': [0, 1], 'x': {'y': 1e-7}},
)
KNOWING = dataclasses.replace(
  CARD,
  thresholds=Thresholds(),
  appearance=APPEARANCE,
  usual=(-1.5, 0.25),
  cautions=('its heads have learned nothing', 'a second one'),
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
  """A backbone of a few hundred weights."""
  monkeypatch.setitem(backbone.ARCHITECTURES, 'small', SMALL)


def make_weights(adaptor='mlp'):
  weights = head.fold([detectors.make_head(seed, adaptor) for seed in range(2)])
  for name, _, shape in NETWORK.spec.layers(NETWORK.levels):
    weights[f'{name}.kernel'] = RNG.normal(size=shape).astype('f')
    weights[f'{name}.bias'] = RNG.normal(size=shape[-1]).astype('f')
  return weights


def assert_same(found, card, weights):
  assert found[0] == card
  assert found[0].to_json() == card.to_json()
  # It is a static argument.
  assert hash(found[0].network) == hash(card.network)
  assert found[1].keys() == weights.keys()
  for name, value in weights.items():
    assert found[1][name].dtype == value.dtype
    np.testing.assert_array_equal(found[1][name], value)


@pytest.mark.parametrize('adaptor', ['linear', 'mlp', 'identity'])
@pytest.mark.parametrize(
  ('card', 'name'),
  [(CARD, 'screw'), (KNOWING, 'screw.v1.2'), (CARD, 'Schräubchen 日本')],
)
def test_a_detector_comes_back_exactly(tmp_path, adaptor, card, name):
  weights = make_weights(adaptor)
  # What a transposed kernel becomes must not matter.
  weights['head.first.kernel'] = np.asfortranarray(weights['head.first.kernel'])
  file.save(tmp_path / 'new folder' / name, card, weights)
  (path,) = (tmp_path / 'new folder').iterdir()
  assert path.name == f'{name}.safetensors'  # Which may be left out.
  for each in (path, path.with_name(name)):
    assert_same(file.load(each), card, weights)


@pytest.fixture
def saved(tmp_path):
  path = tmp_path / 'part.safetensors'
  file.save(path, CARD, make_weights())
  return path


def assert_refused(path, message):
  with pytest.raises(ValueError, match=f'{path}: .*({message})') as caught:
    file.load(path)
  assert '\n' not in str(caught.value)


def test_a_file_that_is_not_there_or_not_to_be_read(saved, monkeypatch):
  for near in (saved.parent, saved.with_name('other')):
    with pytest.raises(FileNotFoundError, match=r'no such .*; there is part$'):
      file.load(near)
  with pytest.raises(FileNotFoundError, match='leaves them in WORKDIR'):
    file.load(saved / 'none')

  def deny(path, *_):
    raise PermissionError(errno.EACCES, 'Permission denied', str(path))

  monkeypatch.setattr(pathlib.Path, 'open', deny)  # Roots may read anything.
  with pytest.raises(PermissionError, match=r'Permission denied.*safetensors'):
    file.load(saved)


def test_damage_is_refused(saved):
  content = bytearray(saved.read_bytes())
  for end in (0, 8, 500, len(content) - 1):
    saved.write_bytes(content[:end])
    assert_refused(saved, 'damaged, or not a detector')
  start = 8 + int.from_bytes(content[:8], 'little')
  for place in RNG.integers(start, len(content), 50):
    bit = 1 << RNG.integers(8)
    content[place] ^= bit
    saved.write_bytes(content)
    assert_refused(saved, 'damaged: ')
    content[place] ^= bit


# A kernel and a bias of the backbone, and all of the head.
@pytest.mark.parametrize(
  'name',
  [
    *('conv1.kernel', 'layer3.0.downsample.bias', 'head.tail'),
    *('head.first.kernel', 'head.first.bias'),
    *('head.second.kernel', 'head.second.bias'),
  ],
)
@pytest.mark.parametrize(
  'change',
  [
    lambda value: value[..., :-1],
    lambda value: np.where(value == value.max(), np.nan, value),
    lambda value: value.astype(np.float16),
    lambda value: value[:0],
    lambda value: None,
  ],
)
def test_a_tensor_that_does_not_fit_is_refused(tmp_path, name, change):
  """Even if it has the checksum that it needs."""
  weights, path = make_weights(), tmp_path / 'a.safetensors'
  if (value := change(weights.pop(name))) is not None:
    weights[name] = np.ascontiguousarray(value)
  text = CARD.to_json()
  digest = file.digest(text, weights)
  save_file(weights, path, {'detector': text, 'sha256': digest})
  assert_refused(path, 'damaged: .* (of another shape|not finite)')


@pytest.mark.parametrize(
  ('path', 'value', 'message'),
  [
    ('margin', 0.25, 'its checksum differs'),
    ('thresholds.image', 100.0, 'its checksum differs'),
    ('network.target_dim', 9, 'head.first.kernel is missing or of another'),
    ('nearest', 9, 'nearest.bank is missing or of another'),
    ('format', 'simplenet-jax detector 9', 'upgrade'),
  ],
)
def test_an_edited_card_is_refused(saved, path, value, message):
  with safetensors.safe_open(saved, 'numpy') as opened:
    metadata = opened.metadata()
  metadata['detector'] = edited(path, value)
  save_file(load_file(saved), saved, metadata)
  assert_refused(saved, message)


def edited(path, value):
  """Returns a card's JSON with one value changed."""
  fields = json.loads(KNOWING.to_json())
  *folders, last = path.split('.')
  where = fields
  for folder in folders:
    where = where[folder]
  where[last] = value
  return json.dumps(fields)


def test_a_bank_that_does_not_fit_is_refused(tmp_path):
  path = tmp_path / 'a.safetensors'
  wrong = {
    'bank': [np.zeros((16, 23), 'f'), np.full((16, 24), np.nan, 'f'), None],
    'units': [np.zeros(3, 'f'), np.zeros(2, 'd'), np.full(2, np.inf, 'f')],
  }
  for count, names in ((16, wrong), (0, {'bank': [np.zeros((16, 24), 'f')]})):
    card = dataclasses.replace(CARD, nearest=count)
    for name, value in ((n, one) for n, many in names.items() for one in many):
      weights = make_weights()
      if count:
        weights['nearest.bank'] = np.ones((16, 24), 'f')
        weights['nearest.units'] = np.ones(2, 'f')
      weights[f'nearest.{name}'] = value
      weights = {key: one for key, one in weights.items() if one is not None}
      file.save(path, card, weights)
      assert_refused(path, f'damaged: nearest.{name}')


def test_heads_are_not_needed_beside_a_bank(tmp_path):
  weights = {n: v for n, v in make_weights().items() if 'head' not in n}
  weights['nearest.bank'] = np.ones((16, 24), 'f')
  weights['nearest.units'] = np.ones(2, 'f')
  card = dataclasses.replace(CARD, heads=0, nearest=16)
  file.save(tmp_path / 'a', card, weights)
  assert file.load(tmp_path / 'a')[0] == card


def test_other_files_are_refused(tmp_path):
  path = tmp_path / 'other.safetensors'
  save_file({'conv1.weight': np.zeros(3, 'f')}, path)
  assert_refused(path, 'not a detector; a run leaves them in')
  Image.new('RGB', (9, 9)).save(path, 'png')
  assert_refused(path, 'damaged, or not a detector')
  # Of a kind that NumPy does not know.
  save_tensors({'x.weight': torch.zeros(3).to(torch.float8_e4m3fn)}, path)
  assert_refused(path, 'damaged, or not a detector')


@pytest.mark.parametrize('value', [float('nan'), True])
def test_thresholds_that_make_no_sense_are_not_saved(saved, value):
  before = saved.read_bytes()
  odd = dataclasses.replace(CARD, thresholds=Thresholds(image=value))
  with pytest.raises(ValueError, match='its description'):
    file.save(saved, odd, make_weights())
  assert saved.read_bytes() == before


def test_a_detector_lies_anywhere(tmp_path, monkeypatch):
  path = tmp_path / 'part'
  detectors.make().save(path)
  monkeypatch.setattr(pathlib.Path, 'absolute', lambda _: pathlib.Path('/part'))
  assert Detector.load(path).workdir is None
