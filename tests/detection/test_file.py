"""A detector's file: exact, whole or refused."""

import dataclasses
import errno
import json
import pathlib
import pickle

import numpy as np
import pytest
import safetensors
from PIL import Image
from safetensors.numpy import load_file, save_file

from simplenet_jax.detection import file, thresholds
from simplenet_jax.models import head, resnet
from tests.detection import detectors
from tests.detection.test_card import NETWORK, make

RNG = np.random.default_rng(0)
SMALL = resnet.Architecture(bottleneck=False, depths=(1, 1, 1), width=2)


@pytest.fixture(autouse=True)
def small(monkeypatch):
  """A backbone of a few hundred weights."""
  monkeypatch.setitem(resnet.ARCHITECTURES, 'small', SMALL)


def make_parts(adaptor='mlp'):
  """Returns a card and weights that fit it."""
  network = dataclasses.replace(
    NETWORK, architecture='small', target_dim=detectors.DIM
  )
  weights = head.fold([detectors.make_head(seed, adaptor) for seed in range(2)])
  for name, _, shape in resnet.layers('small', network.levels):
    weights[f'{name}.kernel'] = RNG.normal(size=shape).astype('f')
    weights[f'{name}.bias'] = RNG.normal(size=shape[-1]).astype('f')
  return dataclasses.replace(make(network), heads=2), weights


def assert_same(found, expected):
  assert found[0] == expected[0]
  assert found[1].keys() == expected[1].keys()
  for name, value in expected[1].items():
    assert found[1][name].dtype == value.dtype
    np.testing.assert_array_equal(found[1][name], value)


@pytest.mark.parametrize('adaptor', ['linear', 'mlp', 'identity'])
@pytest.mark.parametrize('calibrated', [True, False])
def test_a_detector_comes_back_exactly(tmp_path, adaptor, calibrated):
  card, weights = make_parts(adaptor)
  if not calibrated:
    card = dataclasses.replace(card, thresholds=thresholds.NONE)
  # What a transposed kernel becomes must not matter.
  weights['head.first.kernel'] = np.asfortranarray(weights['head.first.kernel'])
  file.save(tmp_path / 'one.safetensors', card, weights)
  assert_same(file.load(tmp_path / 'one.safetensors'), (card, weights))


@pytest.mark.parametrize('name', ['screw', 'screw.v1.2', 'Schräubchen 日本'])
def test_the_suffix_may_be_left_out(tmp_path, name):
  parts = make_parts()
  file.save(tmp_path / 'new folder' / name, *parts)
  (path,) = (tmp_path / 'new folder').iterdir()
  assert path.name == f'{name}.safetensors'
  assert_same(file.load(path.with_name(name)), parts)
  assert_same(file.load(path), parts)


@pytest.fixture
def saved(tmp_path):
  path = tmp_path / 'part.safetensors'
  file.save(path, *make_parts())
  return path


def assert_refused(path, message):
  with pytest.raises(ValueError, match=message) as caught:
    file.load(path)
  text = str(caught.value)
  assert text.startswith(f'{path}: ')
  assert '\n' not in text


def test_an_earlier_version_is_told(saved, caplog):
  expected = file.load(saved)
  assert not caplog.records
  with safetensors.safe_open(saved, 'numpy') as opened:
    metadata = opened.metadata()
  weights = load_file(saved)
  text = metadata['detector'].replace('detector 2', 'detector 1')
  metadata = {'detector': text, 'sha256': file.digest(text, weights)}
  save_file(weights, saved, metadata)
  assert_same(file.load(saved), expected)
  (record,) = caplog.records
  assert record.getMessage().startswith(f'{saved}: made by an older version; ')


def test_a_file_that_may_not_be_read_is_told_as_such(saved, monkeypatch):
  def deny(path, *_):
    raise PermissionError(errno.EACCES, 'Permission denied', str(path))

  monkeypatch.setattr(pathlib.Path, 'open', deny)  # Roots may read anything.
  with pytest.raises(PermissionError, match=r'Permission denied.*safetensors'):
    file.load(saved)


def test_a_folder_of_detectors_names_them(saved):
  with pytest.raises(FileNotFoundError, match=f'a folder; name .*{saved.stem}'):
    file.load(saved.parent)


def test_a_truncated_file_is_refused(saved):
  content = saved.read_bytes()
  for end in (0, 1, 7, 8, 9, 500, len(content) // 2, len(content) - 1):
    saved.write_bytes(content[:end])
    assert_refused(saved, 'damaged, or not a detector')


def test_a_flipped_bit_of_a_tensor_is_refused(saved):
  content = bytearray(saved.read_bytes())
  start = 8 + int.from_bytes(content[:8], 'little')
  for place in RNG.integers(start, len(content), 100):
    bit = 1 << RNG.integers(8)
    content[place] ^= bit
    saved.write_bytes(content)
    assert_refused(saved, 'damaged: ')
    content[place] ^= bit
  saved.write_bytes(content)
  file.load(saved)


def save_with_checksum(path, card, weights):
  """Saves what no detector should be, so that its checksum is right."""
  text = card.to_json()
  metadata = {'detector': text, 'sha256': file.digest(text, weights)}
  save_file(weights, path, metadata)


# A kernel and a bias of the backbone, and all of the head.
@pytest.mark.parametrize(
  'name',
  [
    'conv1.kernel',
    'layer3.0.downsample.bias',
    'head.first.kernel',
    'head.first.bias',
    'head.second.kernel',
    'head.second.bias',
    'head.tail',
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
  card, weights = make_parts()
  if (value := change(weights.pop(name))) is not None:
    weights[name] = np.ascontiguousarray(value)
  save_with_checksum(tmp_path / 'a.safetensors', card, weights)
  assert_refused(
    tmp_path / 'a.safetensors',
    'damaged: .* (of another shape|not finite)|do not fit each other',
  )


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda c: c | {'margin': 0.25}, 'its checksum differs'),
    (lambda c: c | {'heads': 0}, 'make no sense'),
    (lambda c: c | {'format': 'simplenet-jax detector 9'}, 'upgrade'),
    (lambda c: 'hello', 'not the description'),
    (
      lambda c: c | {'network': c['network'] | {'target_dim': 9}},
      'head.first.kernel is missing or of another shape',
    ),
    (
      lambda c: c | {'thresholds': c['thresholds'] | {'image': 100.0}},
      'its checksum differs',
    ),
  ],
)
def test_an_edited_card_is_refused(saved, change, message):
  with safetensors.safe_open(saved, 'numpy') as opened:
    metadata = opened.metadata()
  metadata['detector'] = json.dumps(change(json.loads(metadata['detector'])))
  save_file(load_file(saved), saved, metadata)
  assert_refused(saved, message)


def test_other_files_are_refused(tmp_path):
  path = tmp_path / 'other.safetensors'
  save_file({'conv1.weight': np.zeros(3, 'f')}, path)
  assert_refused(path, 'not a detector; a run leaves them in')
  save_file({'conv1.weight': np.zeros(3, 'f')}, path, {'format': 'pt'})
  assert_refused(path, 'not a detector; a run leaves them in')
  Image.new('RGB', (9, 9)).save(path, 'png')
  assert_refused(path, 'damaged, or not a detector')
  path.write_bytes(pickle.dumps({'conv1.weight': 3}))
  assert_refused(path, 'damaged, or not a detector')


def test_a_failing_save_leaves_the_old_file_alone(saved, monkeypatch):
  card, weights = make_parts()
  before = saved.read_bytes()

  def fail_midway(path, arrays, metadata):
    path.write_bytes(before[:99])
    raise OSError(28, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(file, 'write_arrays', fail_midway)
    with pytest.raises(OSError, match='No space left'):
      file.save(saved, card, weights)
  odd = dataclasses.replace(card, provenance={'when': object()})
  with pytest.raises(TypeError, match='not JSON serializable'):
    file.save(saved, odd, weights)
  for found in (
    thresholds.Thresholds(image=float('nan')),
    thresholds.Thresholds(True),
  ):
    with pytest.raises(ValueError, match='its description'):
      file.save(saved, dataclasses.replace(card, thresholds=found), weights)
  assert saved.read_bytes() == before
  assert list(saved.parent.iterdir()) == [saved]
  file.save(saved, card, weights)  # It is replaced where nothing fails.
  assert_same(file.load(saved), (card, weights))
