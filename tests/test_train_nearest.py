"""Whole runs with nearest neighbours: beside heads, alone, as a baseline."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.config import check_config, load_config
from simplenet_jax.evaluation import tables
from simplenet_jax.training import neighbours
from simplenet_jax.training.neighbours import path_in
from tests import commands
from tests.small import SMALL, make_categories, make_config, picture
from tests.test_train import run

SIZE = 20  # Patches of a bank, of 5 images of 20 each.


@pytest.fixture(scope='module')
def both(tmp_path_factory, backbone):
  """A run of two heads beside distances; images are scored by their maps."""
  folder = tmp_path_factory.mktemp('both')
  config = make_config(folder / 'data', backbone)
  make_categories(folder / 'data', {'part': 5})
  config.nearest.size = config.evaluation.baseline = SIZE
  config.evaluation.score = 'map'
  return run(config, folder / 'work')


@pytest.fixture(scope='module')
def alone(tmp_path_factory, backbone):
  """A run of configs/folder.py:nearest, but for its size."""
  folder = tmp_path_factory.mktemp('alone')
  make_categories(folder / 'data', {'cog': 6, 'part': 12})
  config = load_config('folder:nearest')
  for field in ('data.resize', 'backbone.name', 'backbone.batch_size'):
    config.update_from_flattened_dict({field: SMALL[field]})
  config.data.root, config.backbone.weights = (
    str(folder / 'data'),
    str(backbone),
  )
  return run(config, folder / 'work')


def told_scores(found, name='part'):
  path = found.work / f'report/{name}.json'
  return [one['score'] for one in json.loads(path.read_text())['images']]


def images_of(found, name='part'):
  paths = (found.work.parent / 'data' / name / 'test').rglob('*.png')
  return sorted(paths, key=lambda path: (path.parts[-2] != 'good', path))


@pytest.mark.parametrize('name', ['both', 'alone'])
def test_a_detector_scores_as_its_run(request, name):
  found = request.getfixturevalue(name)
  assert not found.error
  detector = found.detector('part')
  patches = found.config.nearest.size
  heads = {'both': 2, 'alone': 0}[name]
  assert detector.card.heads == heads
  assert detector.card.nearest == min(patches, 9 * 20)
  scores = [one.score for one in detector.predict(images_of(found))]
  expected = told_scores(found)
  assert np.ptp(expected) > 0.1
  np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=2e-3)


def test_results_compare_with_no_training(both):
  plain = both.stored['categories']['part']['baseline']
  assert both.stored['mean']['baseline'] == plain
  arrays, _ = neighbours.checkpoint.read(path_in(both.work, 'part'))
  best = arrays['distances'].max((1, 2))
  auroc = np.mean(best[3:, None] > best[:3])
  assert plain['image_auroc']['mean'] == pytest.approx(auroc)
  shown = [one for one in tables.columns(both.stored) if 'no' in one.source]
  assert [one.title for one in shown] == ['I-AUROC', 'P-AUROC', 'AUPRO']
  assert 'no training' in both.told
  assert 'selected_on_test' not in both.stored['mean']
  worse, category = {**both.stored}, dict(both.stored['categories']['part'])
  for part, value in {'last': 0.5, 'baseline': 0.75}.items():
    summary = {'mean': value, 'std': None, 'seeds': [value]}
    category[part] = dict.fromkeys(category[part], summary)
  worse['categories'] = {'part': category}
  told = [one for one in tables.notes(worse) if 'without training' in one]
  assert told == [
    'part: nearest neighbours without training are better (I-AUROC 75.00 '
    'against 50.00, P-AUROC 75.00 against 50.00, AUPRO 75.00 against 50.00); '
    'configs/folder.py:nearest makes a detector of them.'
  ]


def test_no_head_is_trained_where_it_counts_nothing(alone):
  assert '2 categories, compared with 4,000 good patches each' in alone.told
  assert 'epoch' not in alone.told.split('results ')[0]
  assert not list((alone.work / 'checkpoints').rglob('*.safetensors'))
  assert 'threshold ' in alone.told
  (column, *_) = tables.columns(alone.stored)
  assert column.cells[-1] != tables.UNDEFINED
  assert (alone.work / 'report.html').exists()
  assert alone.stored['protocol'] == 'nearest'


def test_its_detector_is_one_like_any_other(alone, tmp_path):
  given = f'--detector={alone.work}/detectors/part'
  images = alone.work.parent / 'data/part/test/good'
  done = commands.run(
    'predict', given, f'--input={images}', f'--output={tmp_path}/p'
  )
  assert (done.status, done.errors) == (0, '')
  assert ', sees 32 x 40 pixels' in done.told
  output = f'--output={tmp_path}/again'
  done = commands.run('calibrate', given, f'--input={images}', output)
  assert done.status == 0, done.errors
  output = f'--output={tmp_path}/out'
  done = commands.run('export', given, '--format=stablehlo', output)
  assert done.status == 0, done.errors


def test_what_is_there_is_not_found_again(both, alone, monkeypatch):
  for found in (both, alone):
    with monkeypatch.context() as patch:
      patch.setattr(neighbours, 'find', None)
      (found.work / 'report/part.json').unlink()
      again = run(found.config, found.work)
    assert not again.error
    assert again.stored['categories'] == found.stored['categories']
    assert told_scores(again)


def test_what_is_gone_or_damaged_is_found_again(both):
  expected, path = told_scores(both), path_in(both.work, 'part')
  before = path.read_bytes()
  path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
  (both.work / 'report/part.json').unlink()
  again = run(both.config, both.work)
  assert f'{path} cannot be read' in again.told
  assert told_scores(again) == expected
  assert len(neighbours.checkpoint.read(path)[0]['bank']) == SIZE


def test_test_images_that_changed_are_scored_again(config_of_copy):
  first, config, work = config_of_copy
  picture(first.work.parent / 'copy/data/part/test/good/9.png')
  again = run(config, work)
  assert not again.error
  assert 'scores its test images, which changed' in again.told
  scores = told_scores(again)
  assert len(scores) == 7
  expected = told_scores(first)
  found = np.delete(scores, 3)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.fixture
def config_of_copy(both):
  """The run, copied with its images, so that others keep theirs."""
  copy = both.work.parent / 'copy'
  shutil.copytree(both.work.parent / 'data', copy / 'data')
  shutil.copytree(both.work, copy / 'work')
  config = both.config.copy_and_resolve_references()
  config.data.root = str(copy / 'data')
  yield both, config, copy / 'work'
  shutil.rmtree(copy)


def test_a_baseline_can_be_asked_for_afterwards(both):
  config = both.config.copy_and_resolve_references()
  config.evaluation.baseline = 0
  again = run(config, both.work)
  assert not again.error
  assert 'baseline' not in again.stored['categories']['part']
  again = run(both.config, both.work)
  assert again.stored['categories'] == both.stored['categories']


def test_images_that_do_not_differ_are_refused(tmp_path, backbone):
  config = make_config(tmp_path / 'data', backbone)
  make_categories(tmp_path / 'data', {'part': 5})
  good = sorted((tmp_path / 'data/part/train/good').iterdir())
  for path in good:
    Image.new('RGB', (40, 32), (90, 90, 90)).save(path)
  config.nearest.size, config.nearest.head, config.seeds = 100, 0.0, (0,)
  config.backbone.padding, config.backbone.probe = 'reflect', False
  found = run(config, tmp_path / 'work')
  assert 'its good images do not differ' in found.error


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'nearest.size': 15}, 'nearest.size is 15, expected 0, or from 16'),
    (
      {'nearest.size': 99, 'nearest.head': 0.0, 'seeds': (0, 1)},
      'one of --config.seeds is enough',
    ),
  ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
  config = load_config('folder')
  config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=message):
    check_config(config)


def test_heads_learn_from_pasted_defects(tmp_path, backbone):
  """Patches are made once: a seed that comes later trains on the same ones."""
  make_categories(tmp_path / 'data', {'part': 5})

  def trained(name, seeds, pasted=6):
    config = make_config(tmp_path / 'data', backbone)
    config.train.patches, config.train.pasted = 8, pasted
    config.seeds, config.train.epochs = seeds, 2
    return run(config, tmp_path / name)

  whole, without = trained('whole', (0, 1)), trained('without', (0, 1), 0)
  assert (
    not whole.error and 'part: 6 defects pasted on good images, ' in whole.told
  )
  kept = trained('parts', (0,)).work / 'pasted/part.safetensors'
  before = kept.stat().st_mtime_ns
  parts = trained('parts', (0, 1))
  assert kept.stat().st_mtime_ns == before and 'pasted on' not in parts.told

  one, same, other = (
    next((found.work / 'checkpoints').rglob('seed-1/*/*.safetensors'))
    for found in (whole, parts, without)
  )
  assert one.read_bytes() == same.read_bytes() != other.read_bytes()
  # Nor does a head depend on which seeds stand before its own.
  alone = trained('alone', (1,)).work / 'checkpoints'
  [single] = alone.rglob('seed-1/*/*.safetensors')
  assert single.read_bytes() == one.read_bytes()
