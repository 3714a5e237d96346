"""A detector's file: exact, whole or refused."""

import dataclasses
import errno
import json
import pathlib
import pickle

import ml_dtypes
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


def test_a_file_of_any_name_is_read(tmp_path):
  parts = make_parts()
  file.save(tmp_path / 'a', *parts)
  (tmp_path / 'a.safetensors').rename(tmp_path / 'renamed.bin')
  assert_same(file.load(tmp_path / 'renamed.bin'), parts)


@pytest.fixture
def saved(tmp_path):
  path = tmp_path / 'part.safetensors'
  file.save(path, *make_parts())
  return path


def assert_refused(path, message=None):
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


def test_no_file_and_a_folder_are_told(tmp_path, saved):
  for path in (tmp_path / 'none', tmp_path):
    with pytest.raises(FileNotFoundError, match='no such detector') as caught:
      file.load(path)
    assert str(path) in str(caught.value)


def test_a_truncated_file_is_refused(saved):
  content = saved.read_bytes()
  for end in (0, 1, 7, 8, 9, 500, len(content) // 2, len(content) - 1):
    saved.write_bytes(content[:end])
    assert_refused(saved, 'damaged, or not a detector')


def test_a_longer_file_is_refused(saved):
  saved.write_bytes(saved.read_bytes() + b'\0')
  assert_refused(saved)


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


def test_a_flipped_bit_of_the_header_is_refused_or_harmless(saved):
  expected = file.load(saved)
  content = bytearray(saved.read_bytes())
  refused = 0
  end = 8 + int.from_bytes(content[:8], 'little')
  places = [*range(12), *RNG.choice(np.arange(12, end), 500, replace=False)]
  for place in places:
    bit = 1 << RNG.integers(8)
    content[place] ^= bit
    saved.write_bytes(content)
    try:
      # Such as 1E-07 for 1e-07.
      assert_same(file.load(saved), expected)
    except ValueError as error:
      assert str(error).startswith(f'{saved}: ')
      refused += 1
    content[place] ^= bit
  assert refused > 0.98 * len(places)


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
    lambda value: value[None],
    lambda value: np.concatenate([value, value]),
    lambda value: np.where(value == value.max(), np.nan, value),
    lambda value: np.where(value == value.max(), -np.inf, value),
    lambda value: value.astype(np.float64),
    lambda value: value.astype(np.float16),
    lambda value: value.view(np.int32),
    lambda value: value[:0],
  ],
)
def test_a_tensor_that_does_not_fit_is_refused(tmp_path, name, change):
  card, weights = make_parts()
  weights[name] = np.ascontiguousarray(change(weights[name]))
  save_with_checksum(tmp_path / 'a.safetensors', card, weights)
  assert_refused(
    tmp_path / 'a.safetensors',
    'damaged: .* (of another shape|not finite)|do not fit each other',
  )


@pytest.mark.parametrize(
  'name',
  ['conv1.kernel', 'layer3.0.conv2.bias', 'head.first.bias', 'head.tail'],
)
def test_a_missing_tensor_is_named(tmp_path, name):
  card, weights = make_parts()
  del weights[name]
  save_with_checksum(tmp_path / 'a.safetensors', card, weights)
  assert_refused(tmp_path / 'a.safetensors', f'damaged: {name} is missing')


def test_another_type_or_a_tensor_too_many_is_refused(saved):
  with safetensors.safe_open(saved, 'numpy') as opened:
    metadata = opened.metadata()
  weights = load_file(saved)
  save_file(weights | {'more': np.zeros(2, 'f')}, saved, metadata)
  assert_refused(saved, 'its checksum differs')
  low = weights['head.tail'].astype(ml_dtypes.bfloat16)
  save_file(weights | {'head.tail': low}, saved, metadata)
  assert_refused(saved, 'head.tail is missing or of another shape')


def test_heads_that_do_not_fit_are_refused_even_with_their_checksum(tmp_path):
  card, weights = make_parts('linear')
  shorter = {**weights, 'head.tail': weights['head.tail'][:-1]}
  file.save(tmp_path / 'a', card, shorter)
  assert_refused(tmp_path / 'a.safetensors', 'do not fit each other')
  card, weights = make_parts('mlp')
  shorter = {
    **weights,
    'head.first.kernel': weights['head.first.kernel'][:, :-1],
    'head.first.bias': weights['head.first.bias'][:-1],
  }
  file.save(tmp_path / 'b', card, shorter)
  assert_refused(tmp_path / 'b.safetensors', 'do not fit each other')


@pytest.mark.parametrize('adaptor', ['linear', 'mlp'])
def test_another_number_of_heads_is_refused(tmp_path, adaptor):
  card, weights = make_parts(adaptor)
  for heads in (1, 3, 5):
    # Of one layer, 16 hidden units could be one head's.
    if (adaptor, heads) != ('linear', 1):
      other = dataclasses.replace(card, heads=heads)
      save_with_checksum(tmp_path / 'a.safetensors', other, weights)
      assert_refused(tmp_path / 'a.safetensors', 'do not fit|another shape')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda c: c | {'margin': 0.25}, 'its checksum differs'),
    (lambda c: c | {'name': 'nut'}, 'its checksum differs'),
    (lambda c: c | {'provenance': {}}, 'its checksum differs'),
    (lambda c: c | {'heads': 0}, 'make no sense'),
    (lambda c: c | {'format': 'simplenet-jax detector 9'}, 'upgrade'),
    (lambda c: c | {'format': 'detector'}, 'its format is'),
    (lambda c: 'hello', 'not the description'),
    (
      lambda c: c | {'network': c['network'] | {'target_dim': 9}},
      'head.first.kernel is missing or of another shape',
    ),
    (
      lambda c: c | {'network': c['network'] | {'architecture': 'resnet18'}},
      'conv1.kernel is missing or of another shape',
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


def test_a_file_without_a_checksum_is_refused(saved):
  with safetensors.safe_open(saved, 'numpy') as opened:
    metadata = opened.metadata()
  del metadata['sha256']
  save_file(load_file(saved), saved, metadata)
  assert_refused(saved, 'its checksum differs')


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
    with pytest.raises(ValueError, match='make no sense'):
      file.save(saved, dataclasses.replace(card, thresholds=found), weights)
  assert saved.read_bytes() == before
  assert list(saved.parent.iterdir()) == [saved]
  file.save(saved, card, weights)  # It is replaced where nothing fails.
  assert_same(file.load(saved), (card, weights))
