"""From metrics per seed to results.json; tables of several runs joined."""

import json
import math

import numpy as np
import pytest

from simplenet_jax.data.folder import MVTEC_AD as CATEGORIES
from simplenet_jax.data.public import CLASSES
from simplenet_jax.evaluation import metrics, published, results, tables

RUN = {
  'protocol': 'reference',
  'versions': {'jax': '0.10.2'},
  'device': 'cpu',
  'wall_seconds': {'train': 1.5},
  'config': {'backbone': {'name': 'wide_resnet50_2'}, 'seeds': (0, 1)},
}


def values(image=0.98, pixel=0.97, aupro=0.9):
  given = {'image_auroc': image, 'pixel_auroc': pixel, 'aupro_30': aupro}
  return {**dict.fromkeys(metrics.METRICS, 0.5), **given}


def measured(*seeds, **more):
  """Returns a category with these metrics of each seed at the last epoch."""
  return {'last': results.summarise(seeds), **more}


def category(last=0.98, best=0.99):
  selected = {'epochs': [4, 88], **results.summarise([values(best)] * 2)}
  return measured(values(last), values(last + 0.01), selected_on_test=selected)


def undefined():
  return {'last': results.undefined(2)}


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
  found = results.build(RUN, {'a': category(), 'b': undefined()})
  assert RUN.items() <= found.items()
  last = found['categories']['a']['last']
  assert last['image_auroc']['seeds'] == [0.98, 0.99]
  selected = found['selected_on_test']
  assert selected['a']['epochs'] == [4, 88]
  assert selected['a']['image_auroc']['mean'] == 0.99
  assert selected['b']['epochs'] == [None, None]
  nothing = {'mean': None, 'std': None, 'seeds': [None, None]}
  assert found['mean']['selected_on_test']['aupro_30'] == nothing
  alone = results.build(RUN, {'b': undefined()})
  assert alone['mean']['last']['aupro_30'] == nothing
  assert 'b' in tables.format_table(alone)


def test_the_mean_is_over_categories_within_each_seed():
  found = results.build(
    RUN,
    {
      'a': measured(values(1.0), values(0.8)),
      'b': measured(values(0.8), values(1.0, aupro=math.nan)),
    },
  )
  mean = found['mean']['last']
  assert mean['image_auroc']['seeds'] == pytest.approx([0.9, 0.9])
  assert mean['image_auroc']['std'] == pytest.approx(0)
  assert mean['aupro_30'] == {'mean': None, 'std': None, 'seeds': [0.9, None]}
  assert found['selected_on_test'] == {}


def run_of(names, **config):
  """Returns a run's settings and results."""
  data = {'categories': names, 'resize': 329, 'root': '/'.join(names)}
  own = {'data': data, 'train': {'epochs': 160}}
  run = RUN | {'weights': {'sha256': '12ab'}}
  run['config'] = RUN['config'] | own | config
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
  kinds = {'a': category(), 'b': undefined()}
  parts = {name: results.build(RUN, {name: one}) for name, one in kinds.items()}
  selected = results.build(RUN, kinds)['selected_on_test']
  assert results.join(parts)['selected_on_test'] == selected


@pytest.mark.parametrize(
  ('names', 'config', 'more', 'message'),
  [
    ('ab', {}, {}, 'one and other cannot be joined: a is in both'),
    ('b', {'seeds': (0, 2)}, {}, r'seeds \(\(0, 1\) and \(0, 2\)\)'),
    ('b', {}, {'weights': {'sha256': '34'}}, r'sha256 \(12ab and 34\)'),
    ('b', {}, {'protocol': 'paper'}, r'protocol \(reference and paper\)'),
  ],
)
def test_runs_that_do_not_belong_together_are_not_joined(
  names, config, more, message
):
  other = run_of(list(names), **config)[1] | more
  with pytest.raises(ValueError, match=message):
    results.join({'one': run_of(['a'])[1], 'other': other})


def test_published_figures_are_those_recorded(shared):
  recorded = json.loads(shared('reference_numbers.json').read_text())
  paper, released, efficientad, successor, cifar10 = published.TABLES
  for table, key in (
    (paper, 'paper_table_1'),
    (released, 'released_code_rerun'),
  ):
    columns = recorded[key]['columns']
    for name in (*CATEGORIES, 'mean'):
      known = dict(zip(columns, recorded[key][name], strict=True))
      assert table['rows'][name] == known, name
  block = recorded['last_epoch_reruns']
  for table, key in (
    (efficientad, 'efficientad_authors'),
    (successor, 'supersimplenet_5_seeds'),
  ):
    block[key].pop('note', None)
    assert table['rows'] == {'mean': block[key]}
  known = recorded['paper_table_5_cifar10_one_class']['SimpleNet']
  assert cifar10['rows'] == {'mean': {'image_auroc': known}}


@pytest.mark.parametrize(
  ('names', 'protocol', 'expected'),
  [
    (['screw'], 'reference', {'paper Table 1', 'released code'}),
    (['screw'], 'paper', {'paper Table 1'}),
    (['screw', 'sofa'], 'reference', set()),
    (CATEGORIES, 'reference', {one['name'] for one in published.TABLES[:-1]}),
    (CLASSES, 'paper', {'paper Table 5'}),
    (CLASSES[1:], 'paper', set()),
    ([*CLASSES, 'screw'], 'paper', set()),
  ],
)
def test_what_a_run_may_stand_beside(names, protocol, expected):
  rows = published.comparable(names, 'wide_resnet50_2', protocol)
  assert {row['table'] for row in rows} == expected
  assert not published.comparable(names, 'resnet18', protocol)


def test_files_are_strict_and_complete(tmp_path):
  extra = {'nan': math.nan, 'array': np.arange(2), 'one': np.float32(2)}
  found = results.build(RUN | {'extra': extra}, {'a': undefined()})
  results.write(tmp_path / 'new', found)
  text = (tmp_path / 'new/results.json').read_text()
  read = json.loads(text, parse_constant=pytest.fail)
  assert read['extra'] == {'nan': None, 'array': [0, 1], 'one': 2}
  assert read['config']['seeds'] == [0, 1]
  # Tables can be made again from the file.
  for form in ('text', 'latex'):
    assert tables.format_table(read, form) == tables.format_table(found, form)
  markdown = tables.format_table(found, 'markdown') + '\n'
  assert (tmp_path / 'new/results.md').read_text() == markdown
  csv = (tmp_path / 'new/results.csv').read_bytes().decode()
  assert csv == tables.format_table(found, 'csv')
