"""Features on disk that runs share."""

import fcntl
import multiprocessing
import os
import shutil

import jax
import numpy as np
import pytest

from simplenet_jax.data import dataset
from simplenet_jax.training import bank, layout, store
from tests.small import make_categories, make_config
from tests.training.ran import Ran

SHAPES = [
  jax.ShapeDtypeStruct((4, 4, 3), np.float32),
  jax.ShapeDtypeStruct((2, 2, 5), jax.numpy.bfloat16),
]
IMAGES, KIND = 6, layout.row_type(SHAPES)
BYTES = 6 * (4 * 4 * 3 * 4 + 2 * 2 * 5 * 2)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return make_categories(tmp_path_factory.mktemp('data'), {'bolt': 5, 'nut': 4})


@pytest.fixture
def config(root, backbone, tmp_path):
  config = make_config(root, backbone)
  config.bank.cache = str(tmp_path / 'cache')
  return config


def features(seed):
  rng, made = np.random.default_rng(seed), np.empty(IMAGES, KIND)
  for name in KIND.names:
    made[name] = rng.normal(size=made[name].shape)
  return made


def fill(folder, key, seed, gigabytes=1.0):
  kept = bank.FeatureCache(folder, gigabytes)
  with kept.filled(key, KIND, IMAGES) as empty:
    if empty is not None:
      empty[:] = features(seed)
  return empty


def assert_read(folder, key, seed):
  found = bank.FeatureCache(folder, 1.0).read(key, KIND)
  np.testing.assert_array_equal(found, features(seed))


@pytest.mark.parametrize('device_gb', [0.0, 5e-6], ids=['held', 'streamed'])
def test_a_second_run_makes_no_features(config, monkeypatch, device_gb):
  config.bank.device_gb = device_gb
  first = Ran(config)
  assert bool(first.tasks[0].streamed) == bool(device_gb)
  monkeypatch.delattr(bank, 'extract')  # Whatever calls it fails.
  assert Ran(config) == first
  config.bank.cache = ''
  with pytest.raises(AttributeError, match='extract'):
    Ran(config)


@pytest.mark.parametrize('size', [None, -5, 0])
def test_a_damaged_file_is_told_and_made_again(tmp_path, capsys, size):
  fill(tmp_path, 'a', 1)
  (path,) = tmp_path.iterdir()
  content = bytearray(path.read_bytes())
  content[0] ^= 1
  path.write_bytes(content[:size])
  assert bank.FeatureCache(tmp_path, 1.0).read('a', KIND) is None
  assert f'{path} is damaged and made again' in capsys.readouterr().out
  fill(tmp_path, 'a', 2)
  assert_read(tmp_path, 'a', 2)


def test_a_file_that_another_process_removed_is_not_damaged(
  tmp_path, capsys, monkeypatch
):
  gone = tmp_path / 'a-0.features'
  monkeypatch.setattr(bank.FeatureCache, 'find', lambda *_: gone)
  assert bank.FeatureCache(tmp_path, 1.0).read('a', KIND) is None
  assert not capsys.readouterr().out


def key_of(config):
  (one,) = dataset.open_categories(config.data).categories
  weights = bank.load_backbone(config)
  run = layout.RunInputs(config, weights, *[None] * 7)
  task = layout.DeviceTask(jax.devices()[0], (), (one,), 1, 1, SHAPES)
  return store.FeatureStore(run, task)._key(one)


@pytest.mark.parametrize(
  ('field', 'value', 'same'),
  [
    ('train.sigma', 0.5, True),
    ('patch.size', 5, False),
    ('bank.dtype', 'bfloat16', False),
    ('data.resize', 36, False),
  ],
)
def test_keys_are_of_what_changes_features(
  config, tmp_path, field, value, same
):
  config.data.categories, config.backbone.probe = ('nut',), False
  known = key_of(config)
  config.update_from_flattened_dict({field: value})
  assert (key_of(config) == known) == same


def test_images_that_moved_have_their_features_and_others_do_not(
  config, tmp_path
):
  config.data.categories = ('bolt',)
  known, moved = key_of(config), tmp_path / 'elsewhere'
  shutil.copytree(config.data.root, moved)
  config.data.root = str(moved)
  assert key_of(config) == known
  good = moved / 'bolt/train/good'
  shutil.copy(good / '1.png', good / '0.png')
  assert key_of(config) != known


def test_the_least_recently_used_goes_first(tmp_path):
  room = 2.5 * BYTES / 1e9
  for number, key in enumerate('ab'):
    fill(tmp_path, key, number, room)
    (path,) = tmp_path.glob(f'{key}-*.features')
    os.utime(path, (number + 1, number + 1))
  assert_read(tmp_path, 'a', 0)  # Now b was not used for longest.
  fill(tmp_path, 'c', 2, room)
  assert {path.name[0] for path in tmp_path.iterdir()} == {'a', 'c'}


def test_a_run_whose_features_are_too_many_goes_on(config, capsys):
  config.bank.cache_gb = 1e-9
  assert all(head.finished for head in Ran(config).heads.values())
  told = capsys.readouterr().out
  assert 'not kept in the cache: they take' in told
  assert 'raise --config.bank.cache_gb' in told


def test_what_a_kill_has_left_is_removed(tmp_path):
  left, written = tmp_path / '.partial-1', tmp_path / '.partial-2'
  left.touch()
  with written.open('wb') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    fill(tmp_path, 'a', 1)
    assert not left.exists()
    assert written.exists()


def fill_at_once(folder, barrier):
  barrier.wait()
  for key in range(8):
    fill(folder, str(key), key)
    assert_read(folder, str(key), key)


def test_two_processes_fill_one_cache(tmp_path):
  spawn = multiprocessing.get_context('spawn')
  barrier = spawn.Barrier(2)
  both = [
    spawn.Process(target=fill_at_once, args=(tmp_path, barrier))
    for _ in range(2)
  ]
  for process in both:
    process.start()
  for process in both:
    process.join()
  assert [process.exitcode for process in both] == [0, 0]
  assert len(list(tmp_path.iterdir())) == 8
  for key in range(8):
    assert_read(tmp_path, str(key), key)
