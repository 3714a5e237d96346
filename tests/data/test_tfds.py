"""The TFDS builders, without TensorFlow, and what is read of them."""

import os
import signal
import tempfile
import time

import pytest
import tensorflow_datasets

from simplenet_jax import train
from simplenet_jax.data import folder, public, tfds
from simplenet_jax.data.download import ARCHIVES
from simplenet_jax.detection import file
from tests import commands, small
from tests.data import cifar

ENCODED = dict.fromkeys(
  ('image', 'mask'), tensorflow_datasets.decode.SkipDecoding()
)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """Two of MVTec's categories, and one that is not whole."""
  root = tmp_path_factory.mktemp('data')
  small.make_category(root / 'mvtec/bottle')
  small.make_category(root / 'mvtec/screw', size=(32, 40), train=3)
  small.make_category(root / 'mvtec/cable')
  (root / 'mvtec/cable/ground_truth/spot/1_mask.png').unlink()
  return root


def run(root, place, *names, dataset='mvtec_ad'):
  return commands.run(
    'prepare',
    f'--dataset={dataset}',
    f'--categories={",".join(names)}',
    f'--manual_dir={root}',
    f'--tfds_dir={place}',
  )


def prepare(root, place, *names, **others):
  done = run(root, place, *names, **others)
  assert done.status == 0, done.errors
  return place


@pytest.fixture(scope='module')
def place(root, tmp_path_factory):
  return prepare(root, tmp_path_factory.mktemp('tfds'), 'bottle', 'screw')


def test_records_are_the_files_bit_for_bit(root, place):
  builder = tensorflow_datasets.builder('mvtec_ad/bottle', data_dir=place)
  bottle = root / 'mvtec/bottle'
  for split in ('train', 'test'):
    found = list(builder.as_data_source(split, decoders=ENCODED))
    files = sorted((bottle / split).rglob('*.png'))
    for path, example in zip(files, found, strict=True):
      assert example['filename'].decode() == str(path.relative_to(bottle))
      assert example['image'] == path.read_bytes()
      assert example['defect'].decode() == path.parent.name
      if example['label']:
        mask = bottle / f'ground_truth/spot/{path.stem}_mask.png'
        assert example['mask'] == mask.read_bytes()


def test_all_holds_every_category(root, place, tmp_path):
  many = tmp_path / 'many/mvtec'
  for name in folder.MVTEC_AD:
    small.make_category(many / name, train=1)
  prepare(many.parent, tmp_path, 'all')
  found = tfds.find_categories('mvtec_ad', tmp_path)
  assert [one.name for one in found] == sorted(folder.MVTEC_AD)
  assert all(len(one.train) == 1 and len(one.test) == 6 for one in found)
  [one] = tfds.find_categories('mvtec_ad', tmp_path, ['pill'])
  [image] = (many / 'pill/train/good').iterdir()
  assert one.train[0].read_bytes() == image.read_bytes()


@pytest.mark.parametrize(
  ('dataset', 'names', 'message'),
  [
    ('mvtec_ad', ['bottle', 'pill'], r'is not prepared there \(pill\)'),
    ('cifar10', [], r'simplenet prepare --dataset=cifar10'),
    ('mvtec_ad', ['sofa'], 'mvtec_ad has no sofa; there are bottle, '),
    ('imagenet', [], r"data\.dataset is 'imagenet', none that TFDS can"),
  ],
)
def test_what_is_not_prepared_is_told(place, dataset, names, message):
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    tfds.find_categories(dataset, place, names)


@pytest.mark.parametrize(
  'damage',
  [
    lambda path: [file.unlink() for file in path.iterdir()],
    lambda path: (path / 'dataset_info.json').write_text('{'),
    lambda path: next(path.glob('*test.array*')).write_bytes(b'cut'),
    lambda path: next(path.glob('*train.array*')).unlink(),
  ],
)
def test_what_is_damaged_is_told(root, tmp_path, damage):
  prepare(root, tmp_path, 'screw')
  path = tmp_path / 'mvtec_ad/screw/1.0.0'
  damage(path)
  with pytest.raises((ValueError, FileNotFoundError)) as caught:
    tfds.find_categories('mvtec_ad', tmp_path, ['screw'])
  told = str(caught.value)
  assert told.startswith(str(tmp_path))
  assert 'mvtec_ad' in told
  assert '\n' not in told
  assert 'simplenet prepare' in told


def test_a_stopped_preparation_leaves_nothing(root, tmp_path, monkeypatch):
  temporary = tmp_path / 'temporary'
  temporary.mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(temporary))

  def stop(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)

  with monkeypatch.context() as patch:
    patch.setattr(tfds, '_mask', stop)
    done = run(root, tmp_path, 'screw')
  assert done.status == 143
  last = done.errors.splitlines()[-1]
  assert last == 'stop: stopped, 1 not prepared; the same command goes on'
  assert not list(tmp_path.glob('mvtec_ad/screw/*'))
  prepare(root, tmp_path, 'screw')
  assert not list(temporary.iterdir())


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--categories=sofa'], 'mvtec_ad has no sofa'),
    (['--manual_dir=/none'], 'does not exist or is empt'),
    (['--categories=pill'], 'has no pill'),
    (['--categories=screw'], 'screw/1.0.0 is half-made; delete it'),
    (['--categories=cable'], 'spot/1.png: a defective image without a mask'),
  ],
)
def test_what_cannot_be_prepared_is_told(root, tmp_path, arguments, message):
  (tmp_path / 'mvtec_ad/screw/1.0.0').mkdir(parents=True)
  arguments = [f'--tfds_dir={tmp_path}', f'--manual_dir={root}', *arguments]
  done = commands.run('prepare', '--dataset=mvtec_ad', *arguments)
  assert done.status == 1
  last = done.errors.splitlines()[-1]
  assert last.startswith('error: ')
  assert message in last
  assert not list(tmp_path.glob('mvtec_ad/*/1.0.0/*'))


@pytest.mark.parametrize('manual', [True, False])
def test_cifar10_is_downloaded_where_it_is_not_there(
  tmp_path, monkeypatch, manual
):
  def obtain(archive, root):
    assert archive == ARCHIVES['cifar10']
    assert not manual
    cifar.write(root / 'cifar10')

  monkeypatch.setattr(tfds, 'obtain', obtain)
  cifar.write(tmp_path / 'manual/cifar10')
  if manual:
    prepare(tmp_path / 'manual', tmp_path / 'tfds', 'cat', dataset='cifar10')
  else:
    tensorflow_datasets.builder(
      'cifar10_one_class/cat', data_dir=tmp_path / 'tfds'
    ).download_and_prepare()
  [one] = public.find_cifar10(tmp_path / 'manual/cifar10', ['cat']).categories
  [other] = tfds.find_categories('cifar10', f'{tmp_path}/tfds')
  assert [s.defect for s in one.test] == [s.defect for s in other.test]
  for ours, theirs in zip(one.images(), other.images(), strict=True):
    assert ours.read_bytes() == theirs.read_bytes()


def test_tfds_gives_the_results_of_the_folder(tmp_path, backbone):
  small.make_category(tmp_path / 'mvtec/bottle')
  prepare(tmp_path, tmp_path / 'tfds', 'bottle')
  config = small.make_config(tmp_path / 'mvtec', backbone)
  config.seeds, config.train.epochs = (0,), 2
  config.data.held_out, config.data.held_out_least = 0.2, 1
  ours = train.train_and_evaluate(config, tmp_path / 'ours')
  config.data.source, config.data.dataset = 'tfds', 'mvtec_ad'
  config.data.root, config.data.tfds_dir = '', str(tmp_path / 'tfds')
  theirs = train.train_and_evaluate(config, tmp_path / 'theirs')
  for part in ('categories', 'selected_on_test', 'mean'):
    assert ours[part] == theirs[part]
  (card, weights), (other, others) = (
    file.load(tmp_path / run / 'detectors/bottle.safetensors')
    for run in ('ours', 'theirs')
  )
  assert card.thresholds.image == other.thresholds.image
  assert card.thresholds.images == 1
  assert all((value == others[key]).all() for key, value in weights.items())
