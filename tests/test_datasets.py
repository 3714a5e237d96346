"""Whole runs on data sets that are no folders of images."""

import json

import pytest

from simplenet_jax import train
from simplenet_jax.data import public
from simplenet_jax.detection import file
from tests import small
from tests.data import cifar
from tests.data.test_tfds import prepare


def test_tfds_gives_the_results_of_the_folder(tmp_path, backbone):
  small.make_category(tmp_path / 'mvtec/bottle')
  prepare(tmp_path, tmp_path / 'tfds', 'bottle')
  config = small.make_config(tmp_path / 'mvtec', backbone)
  config.seeds, config.train.epochs = (0,), 2
  config.data.held_out, config.data.held_out_least = 0.2, 1
  config.evaluation.maps = True
  ours = train.train_and_evaluate(config, tmp_path / 'ours')
  config.data.source, config.data.dataset = 'tfds', 'mvtec_ad'
  config.data.root, config.data.tfds_dir = '', str(tmp_path / 'tfds')
  theirs = train.train_and_evaluate(config, tmp_path / 'theirs')
  for part in ('categories', 'selected_on_test', 'mean'):
    assert ours[part] == theirs[part]
  maps = sorted(tmp_path.rglob('ours/**/*.tiff'))
  assert len(maps) == 6
  for path in maps:
    other = tmp_path / 'theirs' / path.relative_to(tmp_path / 'ours')
    assert path.read_bytes() == other.read_bytes()
  (card, weights), (other, others) = (
    file.load(tmp_path / run / 'detectors/bottle.safetensors')
    for run in ('ours', 'theirs')
  )
  assert card.thresholds.image == other.thresholds.image
  assert card.thresholds.images == 1
  for key, value in weights.items():
    assert (value == others[key]).all()


@pytest.fixture(scope='module')
def classes(tmp_path_factory, backbone):
  root = tmp_path_factory.mktemp('cifar10')
  cifar.write(root / 'data', train=4, test=1)
  config = small.make_config(root / 'data', backbone)
  config.data.source = config.data.dataset = 'cifar10'
  config.data.resize, config.data.crop = 64, 56  # As 256 and 224 are.
  config.seeds, config.train.epochs = (0,), 2
  return root, config, train.train_and_evaluate(config, root / 'run')


def test_ten_classes_train_side_by_side(classes):
  root, _, found = classes
  assert tuple(found['categories']) == public.CLASSES
  for one in found['categories'].values():
    assert 0 <= one['last']['image_auroc']['mean'] <= 1
    assert one['last']['pixel_auroc']['mean'] is None  # There are no masks.
  assert found['mean']['last']['image_auroc']['mean'] is not None
  written = json.loads((root / 'run/results.json').read_text())
  assert tuple(written['categories']) == public.CLASSES
  for name in public.CLASSES:
    assert (root / f'run/detectors/{name}.safetensors').exists()
    assert (root / f'run/pictures/{name}.png').exists()


def test_a_missing_data_set_says_how_it_is_had(classes, tmp_path):
  _, config, _ = classes
  config = config.copy_and_resolve_references()
  config.data.root = str(tmp_path / 'none')
  with pytest.raises(FileNotFoundError) as caught:
    train.train_and_evaluate(config, tmp_path / 'run')
  assert str(caught.value) == (
    f'{tmp_path}/none: no such folder; get it (python -m '
    'simplenet_jax.download --dataset=cifar10) or name another with '
    '--config.data.root=FOLDER'
  )
  config.data.source, config.data.tfds_dir = 'tfds', str(tmp_path)
  with pytest.raises(FileNotFoundError, match='cifar10 is not prepared there'):
    train.train_and_evaluate(config, tmp_path / 'run')
