"""Last epochs against another recipe's best test epoch."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from configs.study import last_epoch
from simplenet_jax import demo
from simplenet_jax.sweeps import gap
from tests import commands

SMALL = {
  'data.source': 'folder',
  'data.categories': 'gasket,',
  'data.resize': 64,
  'seeds': '0,1,2',
  'patch.pretrain_dim': 16,
  'patch.target_dim': 16,
  'head.hidden': 8,
  'train.epochs': 12,
  'evaluation.every': 1,
  'engine.devices': 1,
}


def test_fast_is_not_compared_with_itself():
  with pytest.raises(ValueError, match='choose another base'):
    last_epoch.get_config('fast')


@pytest.fixture(scope='module')
def found(tmp_path_factory):
  """What the study leaves, of three variants on few small images."""
  folder = tmp_path_factory.mktemp('study')
  counts = {'train': 8, 'validation': 4, 'good': 4, 'defective': 8}
  demo.generate(folder / 'demo', categories=['gasket'], size=64, **counts)
  small = {**SMALL, 'data.root': folder / 'demo'}
  done = commands.run(
    'sweep',
    '--config=configs/study/ablation.py:demo',
    f'--workdir={folder / "study"}',
    '--config.only=demo,first form,a quarter of the epochs',
    *(f'--config.base.{name}={value}' for name, value in small.items()),
  )
  assert done.status == 0, done.errors
  return folder / 'study'


def test_the_study_runs_and_shows_what_it_found(found):
  collected = json.loads((found / 'ablation.json').read_text())
  base, first, quarter = (row['gap']['gasket'] for row in collected['rows'])
  assert base['share'] == 1
  assert first['head_tflop'] == pytest.approx(4 * quarter['head_tflop'])
  assert first['share'] == pytest.approx(
    first['head_tflop'] / base['head_tflop']
  )
  for one, scorings in ((base, 12), (first, 25), (quarter, 25)):
    course = one['course']
    assert len(course['share']) == len(course['image_auroc']) == scorings
    assert course['share'][-1] == pytest.approx(one['share'])
    assert 0 <= one['ensemble']['pixel_auroc'] <= 1
    assert len(one['stopped']['image_auroc']) == 3
  table = (found / 'ablation.md').read_text()
  assert '| a quarter of the epochs |' in table
  assert 'selected on test' in table
  with Image.open(found / 'ablation.png') as image:
    assert np.asarray(image.convert('L')).std() > 5


def test_the_bar_is_the_baselines_best_test_epoch(found):
  collected = json.loads((found / 'ablation.json').read_text())
  base, first, _ = collected['rows']
  for metric in gap.MARGINS:
    bar = base['figures']['selected on test']['gasket'][metric]['seeds']
    last = first['figures']['last epoch']['gasket'][metric]['seeds']
    expected = np.mean(np.subtract(last, bar))
    to_bar = first['gap']['gasket']['to_bar'][metric]
    assert to_bar['mean'] == pytest.approx(expected)
    best = [
      max(at['image_auroc'] for at in seed)
      for seed in courses(found, base['folder'])
    ]
    if metric == 'image_auroc':
      assert bar == pytest.approx(best)


def courses(found, folder):
  results = json.loads((found / folder / 'results.json').read_text())
  return results['categories']['gasket']['course']


def test_the_spread_is_of_the_latest_scorings(found):
  collected = json.loads((found / 'ablation.json').read_text())
  base = collected['rows'][0]
  expected = np.mean(
    [
      np.std([at['pixel_auroc'] for at in seed[-10:]], ddof=1)
      for seed in courses(found, base['folder'])
    ]
  )
  spread = base['gap']['gasket']['spread']['pixel_auroc']
  assert spread == pytest.approx(expected)


def test_intervals_are_those_of_a_paired_t_test():
  rng = np.random.default_rng(0)
  values, bar = rng.uniform(0.8, 1, (2, 6))
  found = gap.compare(values, bar, 0.01)
  expected = stats.ttest_rel(values, bar).confidence_interval(0.95)
  assert found['mean'] == pytest.approx(np.mean(values - bar))
  assert (found['low'], found['high']) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
  ('shift', 'margin', 'expected'),
  [
    (0.0, 0.002, True),
    (-0.0019, 0.002, True),
    (-0.0021, 0.002, False),
    (0.1, 0.0, True),
  ],
)
def test_not_inferior_is_what_surely_lies_above_the_margin(
  shift, margin, expected
):
  bar = np.array([0.9, 0.8, 0.95])
  assert gap.compare(bar + shift, bar, margin)['not_inferior'] is expected


def test_a_wide_interval_shows_nothing():
  bar = np.array([0.9, 0.9])
  assert not gap.compare([0.99, 0.901], bar, 0.002)['not_inferior']


def test_one_seed_has_no_interval():
  found = gap.compare([0.95], [0.9], 0.002)
  assert found['mean'] == pytest.approx(0.05)
  assert (found['low'], found['high']) == (None, None)
  assert not found['not_inferior']
