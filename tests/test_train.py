"""Whole runs, small: every kind of folder in, every kind of result out."""

import contextlib
import csv
import io
import json
import shutil
import signal
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image, PngImagePlugin

from simplenet_jax import category_results, run_results, train
from simplenet_jax.console import Stopped
from simplenet_jax.detection import assembly
from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.detector import Detector
from simplenet_jax.evaluation import testset
from simplenet_jax.models import simplenet
from simplenet_jax.training.progress import HeadProgress
from tests.small import make_categories, make_category, make_config, scored


class Run(NamedTuple):
  config: ConfigDict
  work: Path
  told: str
  error: str = ''

  @property
  def stored(self):
    return json.loads((self.work / 'results.json').read_text())

  def last(self, name):
    return self.stored['categories'][name]['last']

  def detector(self, name):
    return Detector.load(self.work / 'detectors' / name)

  def scored(self, name):
    config = self.config.copy_and_resolve_references()
    config.data.categories = (name,)
    return scored(config, self.work)


def run(config, work):
  """Runs, also where categories fail."""
  told, error = io.StringIO(), ''
  with contextlib.redirect_stdout(told):
    try:
      train.train_and_evaluate(config, work)
    except ValueError as raised:
      error = str(raised)
  return Run(config, work, told.getvalue(), error)


def spoil(path):
  """Damages a PNG in a way that shows only when its pixels are decoded."""
  content = path.read_bytes()
  start = content.index(b'IDAT')
  with path.open('wb') as file:
    file.write(content[: start - 4])
    PngImagePlugin.putchunk(file, b'IDAT', content[start + 4 : start + 1000])
    PngImagePlugin.putchunk(file, b'IEND', b'')


@pytest.fixture
def config(tmp_path, backbone):
  return make_config(tmp_path / 'data', backbone)


@pytest.fixture(scope='module')
def finished(tmp_path_factory, backbone):
  """One run over every kind of folder; one of them holds a corrupt image."""
  folder = tmp_path_factory.mktemp('run')
  root = folder / 'data'
  for name in ('[red] $x_$', 'bad', 'no_defects', 'no_masks', 'only_good'):
    make_category(root / name)
  make_category(root / 'tall', size=(32, 70))
  shutil.rmtree(root / 'no_masks/ground_truth')
  shutil.rmtree(root / 'no_defects/ground_truth')
  shutil.rmtree(root / 'no_defects/test/spot')
  shutil.rmtree(root / 'only_good/test')
  shutil.rmtree(root / 'only_good/ground_truth')
  spoil(root / 'bad/train/good/2.png')
  config = make_config(root, backbone)
  config.evaluation.maps = True
  return run(config, folder / 'work')


GOOD = ['[red] $x_$', 'no_defects', 'no_masks', 'only_good', 'tall']


def test_a_run_leaves_results(finished):
  assert list(finished.stored['categories']) == GOOD
  for name in ('[red] $x_$', 'tall'):
    last = finished.last(name)
    assert len(last['image_auroc']['seeds']) == 2
    assert 0 <= last['pixel_auroc']['mean'] <= 1
    assert finished.stored['selected_on_test'][name]['epochs'][0] in (2, 3)
    first, second = finished.stored['categories'][name]['cautions']
    # Three epochs on five images teach nothing.
    assert f'{name}: the head of seed 0 has not learned' in first
    assert 'the head of seed 1 has not learned' in second
    assert f'Warning: {first}.' in (finished.work / 'results.md').read_text()
  wall = finished.stored['wall_seconds']
  assert min(wall['train and score'], wall['of which compilation']) > 0
  assert finished.stored['config']['seeds'] == [0, 1]
  assert '\ntall,' in (finished.work / 'results.csv').read_text()
  assert not list(finished.work.rglob('.partial*'))


def test_a_run_says_what_it_does(finished):
  for line in (
    '6 categories, 2 heads, 3 epochs each',
    'tall: 5 train, 6 test (3 defective, 3 masks), input 70 x 32',
    '[red] $x_$: I-AUROC ',
    f'simplenet predict --detector={finished.work}/detectors/NAME --input=',
  ):
    assert line in finished.told
  assert 'threshold' not in finished.told  # Nothing was held out.
  assert '1 of 6 categories failed (bad)' in finished.error
  for text in (finished.error, finished.told):
    assert 'bad/train/good/2.png' in text


def test_a_run_leaves_pictures_and_curves(finished):
  for name in ('[red] $x_$', 'tall'):
    sheet = Image.open(finished.work / f'pictures/{name}.png')
    assert np.asarray(sheet).std() > 0
    with (finished.work / f'curves/{name}.csv').open() as file:
      rows = list(csv.DictReader(file))
    found = [row['seed'] + row['epoch'] for row in rows]
    assert found == ['01', '02', '03', '11', '12', '13']
    assert all(float(row['loss']) > 0 for row in rows)
  assert (finished.work / 'curves/only_good.csv').exists()
  heat = np.asarray(Image.open(finished.work / 'maps/tall/test/spot/0.tiff'))
  assert heat.dtype == np.float32
  assert heat.shape == (70, 32)


def test_what_cannot_be_measured_is_undefined(finished):
  assert finished.last('only_good')['image_auroc']['mean'] is None
  assert 'only_good: no test images, nothing to evaluate' in finished.told
  assert finished.last('no_defects')['image_auroc']['mean'] is None
  selected = finished.stored['selected_on_test']['no_defects']
  assert selected['epochs'] == [None, None]
  assert finished.last('no_masks')['image_auroc']['mean'] is not None
  assert finished.last('no_masks')['pixel_auroc']['mean'] is None
  assert finished.last('no_masks')['aupro_30']['seeds'] == [None, None]


def assert_scores_as_heads(run, name):
  one, by_seed = run.scored(name)
  together = by_seed.mean(0)
  maps = np.asarray(simplenet.anomaly_maps(together, one.size, 4.0))
  allowed = 1e-5 * float(np.ptp(together))
  # One head alone would be something else.
  assert np.abs(np.diff(by_seed.max((2, 3)), axis=0)).max() > 10 * allowed
  detector = run.detector(name)
  found = list(detector.predict([s.path for s in one.category.test]))
  for image, heat, patches in zip(found, maps, together, strict=True):
    assert image.score == pytest.approx(float(patches.max()), abs=allowed)
    np.testing.assert_allclose(image.input_map, heat, rtol=0, atol=allowed)


def test_detectors_score_as_heads_and_tell_where_they_come_from(finished):
  found = sorted(p.stem for p in (finished.work / 'detectors').iterdir())
  assert found == GOOD
  assert_scores_as_heads(finished, 'tall')
  detector = finished.detector('tall')
  assert (detector.card.heads, detector.size) == (2, (70, 32))
  assert detector.thresholds == Thresholds()
  told, stored = detector.card.provenance, finished.stored
  for key in ('protocol', 'versions', 'device'):
    assert told[key] == stored[key]
  assert told['seeds'] == [0, 1]
  assert told['weights']['sha256'] == stored['weights']['sha256']
  assert told['data']['root'] == 'data'  # No folder of the machine.
  images = json.loads((finished.work / 'run.json').read_text())['images']
  assert images['tall']['training'] in told['data']['images']


def test_scores_that_are_not_finite_in_the_end_cost_one_head(
  config, tmp_path, monkeypatch
):
  add_scores = HeadProgress.add_scores

  def overflowing(self, epoch, scores):
    if (self.job.category, self.job.seed) == ('cog', 1):
      scores = scores + np.inf
    add_scores(self, epoch, scores)

  monkeypatch.setattr(HeadProgress, 'add_scores', overflowing)
  make_categories(tmp_path / 'data', {'cog': 5, 'part': 5})
  config.train.epochs = 1
  for _ in range(2):  # Started again it does the same.
    found = run(config, tmp_path / 'work')
    assert '1 of 2 categories failed (cog)' in found.error
    assert found.told.count('error: ') == 1
    assert 'cog: scores of seed 1 are not finite after epoch 1' in found.told
    assert list(found.stored['categories']) == ['cog', 'part']
    one, other = found.last('cog')['image_auroc']['seeds']
    assert 0 <= one <= 1
    assert other is None
  for name, heads in {'cog': 1, 'part': 2}.items():
    assert found.detector(name).card.heads == heads
    # One epoch teaches nothing, and detectors know of their own heads.
    cautions = found.stored['categories'][name]['cautions']
    assert list(found.detector(name).card.cautions) == cautions
    assert len(cautions) == heads


@pytest.mark.parametrize(
  ('place', 'name', 'left'),
  [(testset.TestSet, 'read', ['part']), (assembly, 'of_run', ['cog', 'part'])],
)
def test_memory_that_is_short_in_the_end_costs_what_needs_it(
  config, tmp_path, monkeypatch, place, name, left
):
  usual = getattr(place, name)

  def short(*given):
    if any(getattr(one, 'name', None) == 'cog' for one in given):
      raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes')
    return usual(*given)

  monkeypatch.setattr(place, name, short)
  make_categories(tmp_path / 'data', {'cog': 5, 'part': 5})
  config.train.epochs, config.seeds = 1, (0,)
  run(config, tmp_path / 'work')
  found = run(config, tmp_path / 'work')  # Started again it does the same.
  assert 'failed (cog); ' in found.error
  assert 'start the run again with a lower --config.bank.devi' in found.error
  assert list(found.stored['categories']) == left


def test_categories_are_evaluated_side_by_side_and_told_in_order(
  config, tmp_path, monkeypatch
):
  make_categories(tmp_path / 'data', {'cog': 5, 'part': 5})
  monkeypatch.setattr(run_results, 'processors', lambda _: 1)
  one_by_one = run(config, tmp_path / 'alone')
  evaluate, done = category_results.Trained.evaluate, threading.Event()

  def overtaken(trained, *given):
    if trained.inputs.name == 'cog':  # It is ready first, and waits.
      assert done.wait(60)
    found = evaluate(trained, *given)
    if trained.inputs.name == 'part':
      done.set()
    return found

  monkeypatch.setattr(run_results, 'processors', lambda _: 2)
  monkeypatch.setattr(category_results.Trained, 'evaluate', overtaken)
  found = run(config, tmp_path / 'work')
  assert found.stored['categories'] == one_by_one.stored['categories']
  told = [line for line in found.told.splitlines() if ': I-AUROC' in line]
  assert [line.split(':')[0].strip() for line in told] == ['cog', 'part']


def test_an_error_of_an_evaluation_ends_the_run_and_saves_heads(
  config, tmp_path, monkeypatch
):
  def wrong(trained, *_):
    raise RuntimeError(f'INTERNAL: {trained.inputs.name}')

  make_categories(tmp_path / 'data', {'cog': 5, 'part': 5})
  monkeypatch.setattr(category_results.Trained, 'evaluate', wrong)
  config.train.epochs, config.seeds = 4000, (0,)
  with pytest.raises(RuntimeError, match='INTERNAL: cog'):
    run(config, tmp_path / 'work')
  saved = [*(tmp_path / 'work/checkpoints/part').glob('seed-0/*')]
  assert saved
  assert all(int(path.name) < 8000 for path in saved)


def test_a_signal_while_a_category_is_evaluated_ends_the_run(
  config, tmp_path, monkeypatch
):
  evaluate = category_results.Trained.evaluate
  begun, ended = [], threading.Event()

  def interrupted(*given):
    begun.append(threading.current_thread())
    signal.raise_signal(signal.SIGTERM)  # The main thread handles it.
    assert ended.wait(300)
    return evaluate(*given)

  make_categories(tmp_path / 'data', {'cog': 5, 'part': 5})
  config.train.epochs, config.seeds = 1, (0,)
  with monkeypatch.context() as patched:
    patched.setattr(category_results.Trained, 'evaluate', interrupted)
    with pytest.raises(Stopped) as stopped:
      run(config, tmp_path / 'work')
  assert stopped.value.status == 128 + signal.SIGTERM
  ended.set()  # The run did not wait for what is measured.
  for thread in begun:
    thread.join()
  assert len(begun) == 1  # Others are not begun.
  assert not [*(tmp_path / 'work').glob('pictures/*')]
  assert set(run(config, tmp_path / 'work').stored['categories']) == {
    'cog',
    'part',
  }
