"""From metrics per seed to results.json; tables of several runs joined."""

import json
import math

import numpy as np
import pytest

from simplenet_jax.data.cifar10 import CLASSES
from simplenet_jax.data.folder import MVTEC_AD as CATEGORIES
from simplenet_jax.evaluation import metrics, published, results, tables
from simplenet_jax.evaluation.results import CategoryResult

RUN = {
  'protocol': 'reference',
  'versions': {'jax': '0.10.2'},
  'device': 'cpu',
  'wall_seconds': {'train': 1.5},
  'config': {'backbone': {'name': 'wide_resnet50_2'}, 'seeds': (0, 1)},
}


def values(image=0.98, pixel=0.97, aupro=0.9, **more):
  return {
    **dict.fromkeys(metrics.METRICS, 0.5),
    'image_auroc': image,
    'pixel_auroc': pixel,
    'aupro_30': aupro,
    **more,
  }


def category(last=0.98, best=0.99):
  return CategoryResult(
    last=[values(last), values(last + 0.01)],
    best=[values(best, epoch=4), values(best, epoch=np.int64(88))],
  )


def changed(**changes):
  return {**RUN, **changes}


@pytest.mark.parametrize(
  ('aurocs', 'expected'),
  [
    ([0.9, np.float32(1)], (0.95, 0.1 / math.sqrt(2), [0.9, 1])),
    ([0.9], (0.9, None, [0.9])),
    ([math.nan, 0.9], (None, None, [None, 0.9])),
  ],
)
def test_metrics_are_summarised_over_seeds(aurocs, expected):
  found = results.summarise([values(auroc) for auroc in aurocs])
  assert tuple(found) == metrics.METRICS
  mean, std, seeds = found['image_auroc'].values()
  assert (mean, std) == pytest.approx(expected[:2])
  assert seeds == expected[2]


def test_results_hold_the_run_and_every_selection():
  found = results.build(RUN, {'a': category()})
  assert RUN.items() <= found.items()
  assert found['categories']['a']['last']['image_auroc']['seeds'] == [
    0.98,
    0.99,
  ]
  selected = found['selected_on_test']['a']
  assert selected['epochs'] == [4, 88]
  assert selected['image_auroc']['mean'] == 0.99


def test_the_mean_is_over_categories_within_each_seed():
  found = results.build(
    RUN,
    {
      'a': CategoryResult([values(1.0), values(0.8)]),
      'b': CategoryResult([values(0.8), values(1.0, aupro=math.nan)]),
    },
  )
  mean = found['mean']['last']
  assert mean['image_auroc']['seeds'] == pytest.approx([0.9, 0.9])
  assert mean['image_auroc']['std'] == pytest.approx(0)
  assert mean['aupro_30'] == {'mean': None, 'std': None, 'seeds': [0.9, None]}
  assert found['selected_on_test'] == {}


def test_a_category_without_test_images_is_undefined():
  found = results.build(RUN, {'a': category(), 'b': CategoryResult([])})
  undefined = {'mean': None, 'std': None, 'seeds': [None, None]}
  assert found['categories']['b']['last']['image_auroc'] == undefined
  assert found['selected_on_test']['b']['epochs'] == [None, None]
  assert found['mean']['selected_on_test']['aupro_30'] == undefined
  alone = results.build(RUN, {'b': CategoryResult([])})
  assert alone['mean']['last']['aupro_30'] == undefined
  assert 'b' in tables.format_table(alone)


def test_what_cannot_be_reported_is_refused():
  with pytest.raises(ValueError, match='no category'):
    results.build(RUN, {})
  with pytest.raises(ValueError, match="'mean'"):
    results.build(RUN, {'a': category(), 'mean': category()})
  with pytest.raises(ValueError, match=r"found \{'a': 2, 'b': 1\}, expected 2"):
    one = CategoryResult([values()])
    results.build(RUN, {'a': category(), 'b': one})


def run_of(names, **config):
  """Returns a run's settings and results."""
  run = changed(
    weights={'sha256': '12ab'},
    config={
      **RUN['config'],
      'data': {'categories': names, 'resize': 329, 'root': '/'.join(names)},
      'train': {'epochs': 160},
      **config,
    },
  )
  figures = {name: category(0.01 * len(name)) for name in names}
  return run, results.build(run, figures)


def test_runs_of_a_category_each_are_joined_as_if_they_were_one():
  parts = {name: run_of([name])[1] for name in CATEGORIES}
  run, whole = run_of(list(CATEGORIES))
  joined = results.join(parts)
  for key in ('categories', 'mean', 'selected_on_test', 'published'):
    assert joined[key] == whole[key]
  assert joined['wall_seconds'] == {'train': 15 * 1.5}
  assert joined['config']['data']['categories'] == list(CATEGORIES)
  assert joined['config']['train'] == run['config']['train']
  read = json.loads(json.dumps(results.strict(parts)))
  assert results.join(read)['mean'] == whole['mean']
  good = CategoryResult([values(math.nan)] * 2)  # Without a best epoch.
  parts = {
    name: results.build(RUN, {name: one})
    for name, one in (('a', category()), ('b', good), ('c', CategoryResult([])))
  }
  joined = results.join(parts)
  assert joined['selected_on_test']['b']['epochs'] == [None, None]
  assert joined['mean']['selected_on_test']['image_auroc']['mean'] is None


@pytest.mark.parametrize(
  ('names', 'config', 'more', 'message'),
  [
    ('ab', {}, {}, 'one and other cannot be joined: a is in both'),
    ('b', {'train': {'epochs': 40}}, {}, r'train\.epochs \(160 and 40\)'),
    ('b', {'seeds': (0, 2)}, {}, r'seeds \(\(0, 1\) and \(0, 2\)\)'),
    ('b', {}, {'weights': {'sha256': '34'}}, r'weights \(12ab and 34\)'),
    ('b', {}, {'protocol': 'paper'}, r'protocol \(reference and paper\)'),
  ],
)
def test_runs_that_do_not_belong_together_are_not_joined(
  names, config, more, message
):
  other = run_of(list(names), **config)[1] | more
  with pytest.raises(results.NotJoinedError, match=message):
    results.join({'one': run_of(['a'])[1], 'other': other})


def test_published_figures_are_those_recorded(shared):
  recorded = json.loads(shared('reference_numbers.json').read_text())
  for table, key in (
    (published.PAPER, 'paper_table_1'),
    (published.RELEASED_CODE, 'released_code_rerun'),
  ):
    block = recorded[key]
    assert set(block) - {'source', 'columns'} == set(table.rows)
    for name, row in table.rows.items():
      found = [getattr(row, column) for column in block['columns']]
      assert found == block[name], (key, name)
  block = recorded['last_epoch_reruns']
  for table, key in (
    (published.EFFICIENTAD_AUTHORS, 'efficientad_authors'),
    (published.SUPERSIMPLENET, 'supersimplenet_5_seeds'),
  ):
    for column in set(block[key]) - {'note'}:
      assert getattr(table.rows['mean'], column) == block[key][column]
  table = recorded['paper_table_5_cifar10_one_class']
  assert published.CIFAR10.rows['mean'].image_auroc == table['SimpleNet']


@pytest.mark.parametrize(
  ('names', 'protocol', 'expected'),
  [
    (['screw'], 'reference', {'paper Table 1', 'released code'}),
    (['screw'], 'paper', {'paper Table 1'}),
    (['screw'], 'mine', set()),
    (['screw', 'sofa'], 'reference', set()),
    (CLASSES, 'paper', {'paper Table 5'}),
    (CLASSES[1:], 'paper', set()),
    (CLASSES, 'reference', set()),
    ([*CLASSES, 'screw'], 'paper', set()),
  ],
)
def test_what_a_run_may_stand_beside(names, protocol, expected):
  rows = published.comparable(names, 'wide_resnet50_2', protocol)
  assert {row['table'] for row in rows} == expected
  assert not published.comparable(names, 'resnet18', protocol)


def test_a_mean_stands_beside_that_of_all_categories_only():
  rows = published.comparable(CATEGORIES, 'wide_resnet50_2', 'reference')
  means = {row['table'] for row in rows if row['category'] == 'mean'}
  assert means == {table.name for table in published.TABLES[:-1]}


def test_files_are_strict_and_complete(tmp_path):
  extra = {'nan': math.nan, 'array': np.arange(2), 'one': np.float32(2)}
  undefined = CategoryResult([values(math.nan)] * 2)
  found = results.build(changed(extra=extra), {'a': undefined})
  results.write(tmp_path / 'new', found)

  def refuse(constant):
    raise AssertionError(f'{constant} is no JSON')

  text = (tmp_path / 'new/results.json').read_text()
  read = json.loads(text, parse_constant=refuse)
  assert read['extra'] == {'nan': None, 'array': [0, 1], 'one': 2}
  assert read['config']['seeds'] == [0, 1]
  # Tables can be made again from the file.
  for form in tables.FORMATS:
    assert tables.format_table(read, form) == tables.format_table(found, form)
  markdown = tables.format_table(found, 'markdown') + '\n'
  assert (tmp_path / 'new/results.md').read_text() == markdown
  csv = (tmp_path / 'new/results.csv').read_bytes().decode()
  assert csv == tables.format_table(found, 'csv')


def test_a_failure_leaves_the_old_file(tmp_path):
  path = tmp_path / 'results.json'
  results.write_json(path, {'old': 1})
  with pytest.raises(ValueError):
    results.write_json(path, {'new': math.inf})
  assert json.loads(path.read_text()) == {'old': 1}
