"""Whole runs on odd images and with unusual settings."""

import csv

import numpy as np
import pytest
from PIL import Image

from simplenet_jax import train
from simplenet_jax.config import from_protocol
from simplenet_jax.console import Stop
from simplenet_jax.models import simplenet, weights
from simplenet_jax.training.checkpoint import Checkpoints
from tests import test_train
from tests.detection.detectors import LITE0
from tests.small import make_category, make_config, picture, scored


@pytest.fixture
def config(tmp_path, backbone):
  config = make_config(tmp_path / 'data', backbone)
  config.train.epochs, config.evaluation.pictures = 1, 0
  return config


@pytest.fixture
def part(tmp_path):
  make_category(tmp_path / 'data/part')
  return tmp_path / 'data/part'


def run(config, tmp_path):
  return train.train_and_evaluate(config, tmp_path / 'work')


def test_the_crop_leaves_the_rest_unscored(config, tmp_path, caplog):
  make_category(tmp_path / 'part', size=(80, 40))
  picture(tmp_path / 'part/test/good/0.bmp', size=(80, 40))
  config.data.root = str(tmp_path / 'part')  # The root is the category.
  config.data.crop, config.evaluation.maps = 32, True
  assert list(run(config, tmp_path)['categories']) == ['part']
  one, by_seed = scored(config, tmp_path / 'work')
  maps = np.asarray(simplenet.anomaly_maps(by_seed.mean(0), one.size, 4.0))
  folder = tmp_path / 'work/maps/part/test/good'
  # Images that differ in their suffix only keep it.
  assert {path.name for path in folder.iterdir()} == {
    *('0.bmp.tiff', '0.png.tiff', '1.tiff', '2.tiff')
  }
  names = [sample.path.name for sample in one.category.test]
  index = names.index('1.png')
  with Image.open(folder / '1.tiff') as image:
    assert image.info['compression'] == 'tiff_adobe_deflate'
    heat = np.asarray(image)
  assert heat.shape == (40, 80)
  # Resized by .8, the 64 x 32 image keeps its middle 32 columns. What is not
  # seen is as little anomalous as anything, and the rest the mean over seeds.
  expected = one.test[index].map_to_original(maps[index])
  unseen = np.isnan(expected)
  assert unseen[:, :19].all() and unseen[:, 61:].all()
  np.testing.assert_array_equal(heat[unseen], maps[index].min())
  np.testing.assert_allclose(heat[~unseen], expected[~unseen], atol=1e-5)
  assert "leaves 50 % of the maps' pixels unscored; they are" in caplog.text


@pytest.mark.parametrize(
  ('protocol', 'changes'),
  [
    ('paper', {'head.adaptor': 'mlp', 'train.loss': 'cross_entropy'}),
    ('reference', {'head.adaptor': 'identity', 'backbone.levels': (1, 2, 3)}),
  ],
)
def test_every_switch_runs(config, tmp_path, part, protocol, changes):
  theirs = from_protocol(protocol)
  config.protocol = protocol
  for field in ('backbone.padding', 'backbone.probe', 'head.adaptor_bias'):
    section, name = field.split('.')
    config[section][name] = theirs[section][name]
  config.train.adaptor = theirs.train.adaptor
  config.update_from_flattened_dict(changes)
  table = run(config, tmp_path)
  assert 0 <= table['categories']['part']['last']['image_auroc']['mean'] <= 1
  assert table['protocol'].startswith(f'{protocol}, but ')


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('data.root', '', r'--config\.data\.root is empty'),
    ('backbone.weights', '/no.safetensors', r'no\.safetensors'),
    ('train.sigma', 1e38, 'the loss of seed 0 is (inf|nan) at step'),
  ],
)
def test_what_is_wrong_is_named(config, tmp_path, part, field, value, message):
  config.update_from_flattened_dict({field: value})
  with pytest.raises((ValueError, OSError), match=message):
    run(config, tmp_path)


def test_a_category_called_as_the_mean_is_refused(config, tmp_path):
  make_category(tmp_path / 'data/mean')
  with pytest.raises(ValueError, match="category is called 'mean'"):
    run(config, tmp_path)


def test_a_run_says_what_is_unusual_in_it(
  config, tmp_path, part, capsys, caplog
):
  # Five images, two steps an epoch.
  config.seeds, config.train.epochs, config.train.min_steps = (3,), 3, 9
  config.data.crop = 40
  found = run(config, tmp_path)
  told = capsys.readouterr().out
  assert '1 head (of the seed with number 3), at least 3 epochs' in told
  assert '3 epochs of so few images are few steps; trains 5 epochs' in told
  assert 'resize 32 is smaller than crop 40: every image gets' in caplog.text
  # Scored as often as in three epochs: after the third and the fifth one.
  assert found['selected_on_test']['part']['epochs'][0] in (3, 5)
  with (tmp_path / 'work/curves/part.csv').open() as file:
    assert max(int(row['epoch']) for row in csv.DictReader(file)) == 5


def test_a_checkpoint_that_does_not_show_yet_is_waited_for(
  config, tmp_path, part, monkeypatch, capsys
):
  config.seeds = (0,)
  load, calls = Checkpoints.load, []

  def late(self, *given):
    calls.append(given)
    # The first look is the worker's, the second one at the trained head.
    return None if len(calls) in (3, 4) else load(self, *given)

  monkeypatch.setattr(Checkpoints, 'load', late)
  monkeypatch.setattr(Stop, 'wait', lambda *_: False)
  run(config, tmp_path)
  assert capsys.readouterr().out.count('waits for a checkpoint of part') == 1


def test_auto_needs_no_weights_and_stays_what_it_was(
  config, part, tmp_path, monkeypatch
):
  config.backbone.name, config.backbone.weights = 'auto', ''
  config.backbone.padding, config.backbone.probe = 'zeros', False
  ran = test_train.run(config, tmp_path / 'work')
  assert not ran.error
  assert f'weights {LITE0}' in ran.told
  stored = ran.stored['config']['backbone']
  assert (config.backbone.name, stored['name']) == ('auto', LITE0)
  monkeypatch.setattr(weights.jax, 'default_backend', lambda: 'gpu')
  again = test_train.run(config, tmp_path / 'work')  # As on another machine.
  assert 'resumes   2 heads finished, 0 under way' in again.told
  config.backbone.name = LITE0
  test_train.assert_scores_as_heads(ran, 'part')
