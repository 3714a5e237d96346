"""Whole runs, small: every kind of folder in, every kind of result out."""

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import mvtec
from simplenet_jax import protocols, train
from simplenet_jax.data import demo
from tests.small import make_category, make_config, picture


@pytest.fixture
def config(tmp_path, backbone):
  return make_config(tmp_path / 'data', backbone)


class Finished(NamedTuple):
  config: ConfigDict
  work: Path
  error: str
  told: str

  @property
  def stored(self):
    return json.loads((self.work / 'results.json').read_text())

  def last(self, name):
    return self.stored['categories'][name]['last']


@pytest.fixture(scope='module')
def finished(tmp_path_factory, backbone):
  """One run over every kind of folder; one of them holds a corrupt image."""
  folder = tmp_path_factory.mktemp('run')
  root = folder / 'data'
  for name in ('bad', 'no_defects', 'no_masks', 'only_good', 'part'):
    make_category(root / name)
  make_category(root / 'tall', size=(32, 70))
  shutil.rmtree(root / 'no_masks/ground_truth')
  shutil.rmtree(root / 'no_defects/ground_truth')
  shutil.rmtree(root / 'no_defects/test/spot')
  shutil.rmtree(root / 'only_good/test')
  shutil.rmtree(root / 'only_good/ground_truth')
  broken = root / 'bad/train/good/2.png'
  broken.write_bytes(broken.read_bytes()[:300])
  config = make_config(root, backbone)
  config.evaluation.maps = True
  told = io.StringIO()
  with (
    contextlib.redirect_stdout(told),
    pytest.raises(ValueError, match='categories failed') as raised,
  ):
    train.train_and_evaluate(config, folder / 'work')
  return Finished(config, folder / 'work', str(raised.value), told.getvalue())


def test_a_run_leaves_results(finished):
  names = ['no_defects', 'no_masks', 'only_good', 'part', 'tall']
  assert list(finished.stored['categories']) == names
  for name in ('part', 'tall'):
    last = finished.last(name)
    assert len(last['image_auroc']['seeds']) == 2
    assert 0 <= last['pixel_auroc']['mean'] <= 1
    assert finished.stored['selected_on_test'][name]['epochs'][0] in (2, 3)
  wall = finished.stored['wall_seconds']
  assert wall['train and score'] > 0
  assert wall['of which compilation'] > 0
  assert finished.stored['config'] == json.loads(
    json.dumps(finished.config.to_dict())
  )
  assert '\npart,' in (finished.work / 'results.csv').read_text()
  assert '| part ' in (finished.work / 'results.md').read_text()
  assert not list(finished.work.rglob('.partial*'))


def test_a_run_says_what_it_does(finished):
  assert '6 categories x 2 seeds, 3 epochs' in finished.told
  assert (
    'part: 5 train, 6 test (3 defective, 3 masks), input 32 x 40'
    in finished.told
  )
  assert 'I-AUROC' in finished.told


def test_a_run_leaves_pictures_and_curves(finished):
  for name in ('part', 'tall'):
    sheet = Image.open(finished.work / f'pictures/{name}.png')
    assert np.asarray(sheet).std() > 0
    with (finished.work / f'curves/{name}.csv').open() as file:
      rows = list(csv.DictReader(file))
    assert [(r['seed'], r['epoch']) for r in rows] == [
      (seed, epoch) for seed in '01' for epoch in '123'
    ]
    assert all(float(row['loss']) > 0 for row in rows)
  assert (finished.work / 'curves/only_good.png').exists()


def test_maps_are_in_the_original_frame(finished):
  heat = np.asarray(Image.open(finished.work / 'maps/tall/test/spot/0.tiff'))
  assert heat.dtype == np.float32
  assert heat.shape == (70, 32)
  assert np.isfinite(heat).all()


def test_what_cannot_be_measured_is_undefined(finished):
  assert finished.last('only_good')['image_auroc']['mean'] is None
  assert 'only_good: no test images, nothing to evaluate' in finished.told
  assert finished.last('no_defects')['image_auroc']['mean'] is None
  selected = finished.stored['selected_on_test']['no_defects']
  assert selected['epochs'] == [None, None]
  assert finished.last('no_masks')['image_auroc']['mean'] is not None
  assert finished.last('no_masks')['pixel_auroc']['mean'] is None
  assert finished.last('no_masks')['aupro_30']['seeds'] == [None, None]


def test_a_corrupt_image_loses_only_its_category(finished):
  assert '1 of 6 categories failed (bad)' in finished.error
  assert 'bad/train/good/2.png' in finished.error
  assert 'bad/train/good/2.png' in finished.told


def test_a_category_alone_gives_the_same_figures(finished, tmp_path):
  config = finished.config.copy_and_resolve_references()
  config.data.categories = ('part',)
  table = train.train_and_evaluate(config, tmp_path / 'work')
  assert table['categories']['part']['last'] == finished.last('part')


def run(config, tmp_path):
  return train.train_and_evaluate(config, tmp_path / 'work')


def test_the_crop_leaves_the_rest_unscored(config, tmp_path):
  make_category(tmp_path / 'part', size=(80, 40))
  config.data.root = str(tmp_path / 'part')  # The root is the category.
  config.data.crop = 32
  config.train.epochs = 2
  config.evaluation.maps = True
  assert list(run(config, tmp_path)['categories']) == ['part']
  heat = np.asarray(Image.open(tmp_path / 'work/maps/part/test/good/0.tiff'))
  assert heat.shape == (40, 80)
  # Resized by .8, the 64 x 32 image keeps its middle 32 columns.
  assert np.isnan(heat[:, :19]).all()
  assert np.isnan(heat[:, 61:]).all()
  assert np.isfinite(heat[:, 21:59]).all()


def test_a_mask_of_another_size_is_refused_before_training(config, tmp_path):
  make_category(tmp_path / 'data/part')
  mask = tmp_path / 'data/part/ground_truth/spot/1_mask.png'
  Image.new('L', (7, 9)).save(mask)
  with pytest.raises(ValueError, match=r'1_mask\.png: the mask is 9 x 7'):
    run(config, tmp_path)
  assert not (tmp_path / 'work').exists()


def test_a_mask_that_cannot_be_read_costs_no_training(config, tmp_path, capsys):
  make_category(tmp_path / 'data/part')
  mask = tmp_path / 'data/part/ground_truth/spot/1_mask.png'
  mask.write_bytes(mask.read_bytes()[:60])
  with pytest.raises(ValueError, match=r'1_mask\.png'):
    run(config, tmp_path)
  assert 'loss' not in capsys.readouterr().out


def test_a_category_called_as_the_mean_is_refused(config, tmp_path):
  make_category(tmp_path / 'data/mean')
  with pytest.raises(ValueError, match="category is called 'mean'"):
    run(config, tmp_path)


def test_numbers_brackets_and_dollars_name_categories(config, tmp_path, capsys):
  for name in ('1', '2', '[red] $x_$'):
    make_category(tmp_path / 'data' / name)
  config.data.categories = (1, '[red] $x_$')
  config.train.epochs = 1
  assert set(run(config, tmp_path)['categories']) == {'1', '[red] $x_$'}
  assert '[red] $x_$: 5 train' in capsys.readouterr().out


def test_images_that_differ_in_suffix_keep_their_maps(config, tmp_path):
  make_category(tmp_path / 'data/part')
  picture(tmp_path / 'data/part/test/good/0.bmp')
  config.train.epochs = 1
  config.evaluation.maps = True
  run(config, tmp_path)
  maps = sorted(p.name for p in (tmp_path / 'work/maps/part').rglob('good/*'))
  assert maps == ['0.bmp.tiff', '0.png.tiff', '1.tiff', '2.tiff']


@pytest.mark.parametrize(
  ('protocol', 'changes'),
  [
    ('paper', {}),
    ('paper', {'head.adaptor': 'mlp', 'train.loss': 'cross_entropy'}),
    ('reference', {'head.adaptor': 'identity', 'backbone.levels': (1, 2, 3)}),
  ],
)
def test_every_switch_runs(config, tmp_path, protocol, changes):
  make_category(tmp_path / 'data/part')
  theirs = protocols.protocol(protocol)
  config.protocol = protocol
  for field in ('backbone.padding', 'backbone.probe', 'head.adaptor_bias'):
    section, name = field.split('.')
    config[section][name] = theirs[section][name]
  config.train.adaptor = theirs.train.adaptor
  config.update_from_flattened_dict(changes)
  table = run(config, tmp_path)
  assert 0 <= table['categories']['part']['last']['image_auroc']['mean'] <= 1
  assert table['protocol'].startswith(f'{protocol}, but ')
  assert 'data.resize' in table['protocol']


def test_results_of_another_run_are_kept(config, tmp_path):
  (tmp_path / 'work').mkdir()
  (tmp_path / 'work/results.json').write_text('{}')
  make_category(tmp_path / 'data/part')
  with pytest.raises(ValueError, match='results of another run'):
    run(config, tmp_path)


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('data.root', '', r'--config\.data\.root is empty'),
    (
      'data.root',
      '/nowhere',
      r'/nowhere: no such folder.*--config\.data\.root',
    ),
    ('data.categories', ('cog',), 'no category cog; there are part'),
    ('backbone.weights', '/no.safetensors', r'no\.safetensors'),
    ('backbone.name', 'resnet18', 'expected resnet18'),
    ('train.sigma', 1e38, 'the loss of seed 0 is (inf|nan) at step'),
  ],
)
def test_what_is_wrong_is_named(config, tmp_path, field, value, message):
  make_category(tmp_path / 'data/part')
  section, name = field.split('.')
  config[section][name] = value
  with pytest.raises((ValueError, OSError), match=message):
    run(config, tmp_path)


MVTEC = ('bottle', 'cable', 'capsule', 'carpet', 'grid', 'hazelnut', 'leather')
MVTEC += ('metal_nut', 'pill', 'screw', 'tile', 'toothbrush', 'transistor')
MVTEC += ('wood', 'zipper')


def test_fifteen_categories_train_together(tmp_path, backbone, capsys):
  root = tmp_path / 'mvtec'
  for index, name in enumerate(MVTEC):
    kinds = demo.CATEGORIES
    kind, seed = kinds[index % len(kinds)], index // len(kinds)
    made = tmp_path / 'made' / name
    demo.generate(
      made,
      seed=seed,
      categories=[kind],
      train=2 + index % 3,
      good=1,
      defective=2,
      size=48,
    )
    root.mkdir(exist_ok=True)
    (made / kind).rename(root / name)
  config = mvtec.get_config()
  small = make_config(root, backbone)
  config.data.root, config.data.resize, config.data.crop = str(root), 48, 32
  for section in ('backbone', 'patch', 'head'):
    config[section] = small[section]
  config.train.epochs, config.evaluation.every = 2, 1
  config.engine.devices, config.engine.lanes = 2, 3
  config.evaluation.pictures = 0
  table = train.train_and_evaluate(config, tmp_path / 'work')
  assert tuple(table['categories']) == MVTEC
  told = capsys.readouterr().out
  assert 'trains    15 heads, 3 at a time per device' in told
  lines = [line.split()[0] for line in told.splitlines() if line.strip()]
  first = lines.index('category') + 2
  assert lines[first : first + 16] == [*MVTEC, 'mean']
