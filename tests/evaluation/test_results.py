import csv
import dataclasses
import json
import math

import numpy as np
import pytest

from simplenet_jax.data.cifar10 import CLASSES
from simplenet_jax.data.folder import MVTEC_AD
from simplenet_jax.evaluation import (
  earlier,
  metrics,
  published,
  results,
  tables,
  testset,
)
from simplenet_jax.evaluation.results import CategoryResult

RUN = {
  'protocol': 'reference',
  'versions': {'jax': '0.10.2'},
  'device': 'cpu',
  'wall_seconds': {'train': 1.5},
  'config': {'backbone': {'name': 'wide_resnet50_2'}, 'seeds': (0, 1)},
}


def _metrics(image=0.98, pixel=0.97, aupro=0.9, **more):
  values = dict.fromkeys(metrics.METRICS, 0.5)
  return values | {
    'image_auroc': image,
    'pixel_auroc': pixel,
    'aupro_30': aupro,
    **more,
  }


def _category(last=0.98, best=0.99):
  return CategoryResult(
    last=[_metrics(last), _metrics(last + 0.01)],
    best=[_metrics(best, epoch=4), _metrics(best, epoch=np.int64(88))],
  )


def _mvtec():
  return {name: _category() for name in MVTEC_AD}


def _run(**changes):
  return {**RUN, **changes}


def _backbone(name):
  return {'backbone': {'name': name}}


class TestSummarise:
  def test_sample_standard_deviation(self):
    found = results.summarise([_metrics(0.9), _metrics(np.float32(1.0))])
    assert tuple(found) == metrics.METRICS
    assert found['image_auroc']['mean'] == pytest.approx(0.95)
    assert found['image_auroc']['std'] == pytest.approx(0.1 / math.sqrt(2))
    assert found['image_auroc']['seeds'] == [0.9, 1.0]

  def test_one_seed_has_no_deviation(self):
    found = results.summarise([_metrics(0.9)])['image_auroc']
    assert found == {'mean': 0.9, 'std': None, 'seeds': [0.9]}

  def test_undefined_is_null_throughout(self):
    found = results.summarise([_metrics(math.nan), _metrics(0.9)])
    assert found['image_auroc'] == {
      'mean': None,
      'std': None,
      'seeds': [None, 0.9],
    }

  def test_no_seed_is_refused(self):
    with pytest.raises(ValueError, match='no seed'):
      results.summarise([])


class TestBuild:
  def test_structure(self):
    found = results.build(_run(date='2026-01-01'), {'a': _category()})
    assert found['date'] == '2026-01-01'
    assert RUN.items() <= found.items()
    assert 'selected on test' in found['selection_rule']
    last = found['categories']['a']['last']['image_auroc']
    assert last['seeds'] == [0.98, 0.99]
    assert set(found['categories']['a']) == {'last'}
    selected = found['selected_on_test']['a']
    assert selected['epochs'] == [4, 88]
    assert selected['image_auroc']['mean'] == 0.99
    assert found['published'] == []

  def test_mean_is_over_categories_within_each_seed(self):
    found = results.build(
      RUN,
      {
        'a': CategoryResult([_metrics(1.0), _metrics(0.8)]),
        'b': CategoryResult([_metrics(0.8), _metrics(1.0)]),
      },
    )
    mean = found['mean']['last']['image_auroc']
    assert mean['seeds'] == pytest.approx([0.9, 0.9])
    assert mean['std'] == pytest.approx(0)
    assert 'selected_on_test' not in found['mean']
    assert found['selected_on_test'] == {}

  def test_undefined_in_one_category_is_undefined_in_the_mean(self):
    found = results.build(
      RUN,
      {'a': _category(), 'b': CategoryResult([_metrics(aupro=math.nan)] * 2)},
    )
    assert found['mean']['last']['aupro_30']['mean'] is None
    assert found['mean']['last']['image_auroc']['mean'] is not None

  def test_category_without_test_images_is_undefined(self):
    found = results.build(RUN, {'a': _category(), 'b': CategoryResult([])})
    undefined = {'mean': None, 'std': None, 'seeds': [None, None]}
    assert found['categories']['b']['last']['image_auroc'] == undefined
    assert found['selected_on_test']['b']['epochs'] == [None, None]
    alone = results.build(RUN, {'b': CategoryResult([])})
    assert alone['mean']['last']['aupro_30']['seeds'] == [None]
    assert 'b' in tables.terminal_table(alone)

  def test_refuses_what_cannot_be_reported(self):
    with pytest.raises(ValueError, match=r"run lacks \['device'\]"):
      run = {key: value for key, value in RUN.items() if key != 'device'}
      results.build(run, {'a': _category()})
    with pytest.raises(ValueError, match='no category'):
      results.build(RUN, {})
    with pytest.raises(ValueError, match="'mean'"):
      results.build(RUN, {'a': _category(), 'mean': _category()})
    with pytest.raises(ValueError, match=r"\{'a': 2, 'b': 1\}"):
      one = CategoryResult([_metrics()])
      results.build(RUN, {'a': _category(), 'b': one})


class TestPublished:
  def test_figures_are_those_recorded(self, shared):
    recorded = json.loads(shared('reference_numbers.json').read_text())
    for table, key in (
      (published.PAPER, 'paper_table_1'),
      (published.RELEASED_CODE, 'released_code_rerun'),
    ):
      block = recorded[key]
      names = set(block) - {'source', 'columns'}
      assert names == set(table.rows)
      for name in names:
        for column, value in zip(block['columns'], block[name], strict=True):
          assert getattr(table.rows[name], column) == value, (key, name, column)
    block = recorded['last_epoch_reruns']
    for table, key in (
      (published.EFFICIENTAD_AUTHORS, 'efficientad_authors'),
      (published.SUPERSIMPLENET, 'supersimplenet_5_seeds'),
    ):
      for column in set(block[key]) - {'note'}:
        assert getattr(table.rows['mean'], column) == block[key][column]
    table = recorded['paper_table_5_cifar10_one_class']
    [row] = published.PAPER_CIFAR10.rows.values()
    assert row.image_auroc == table['SimpleNet']

  def test_means_follow_from_the_rows(self):
    for table in (published.PAPER, published.RELEASED_CODE):
      rows = [table.rows[name] for name in MVTEC_AD]
      assert len(rows) == 15
      mean = np.mean([row.image_auroc for row in rows])
      assert table.rows['mean'].image_auroc == pytest.approx(mean, abs=0.06)

  def test_what_a_run_may_stand_beside(self):
    def tables_of(names, backbone='wide_resnet50_2', protocol='reference'):
      rows = published.comparable(names, backbone, protocol)
      return {(row.table.name, row.category) for row in rows}

    paper, code = published.PAPER.name, published.RELEASED_CODE.name
    assert tables_of(['screw']) == {(paper, 'screw'), (code, 'screw')}
    assert tables_of(['screw'], protocol='paper') == {(paper, 'screw')}
    assert tables_of(['screw'], protocol='mine') == set()
    assert tables_of(['screw'], backbone='resnet18') == set()
    assert tables_of(['screw', 'sofa']) == set()
    means = {name for name, row in tables_of(MVTEC_AD) if row == 'mean'}
    cifar10 = published.PAPER_CIFAR10.name
    assert means == {table.name for table in published.TABLES} - {cifar10}
    assert tables_of(CLASSES, protocol='paper') == {(cifar10, 'mean')}
    assert tables_of(CLASSES[1:], protocol='paper') == set()
    assert tables_of(CLASSES) == set()
    assert tables_of([*CLASSES, 'screw'], protocol='paper') == set()


class TestFiles:
  def test_json_is_strict_and_complete(self, tmp_path):
    path = tmp_path / 'new' / 'results.json'
    found = results.build(
      _run(
        extra={'nan': math.nan, 'array': np.arange(2), 'one': np.float32(2)}
      ),
      {'a': CategoryResult([_metrics(math.nan)])},
    )
    results.write_json(path, found)

    def refuse(constant):
      raise AssertionError(f'{constant} is no JSON')

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read['extra'] == {'nan': None, 'array': [0, 1], 'one': 2}
    assert read['config']['seeds'] == [0, 1]
    # Tables can be made again from the file.
    assert tables.terminal_table(read) == tables.terminal_table(found)
    assert tables.markdown_table(read) == tables.markdown_table(found)

  def test_failure_leaves_the_old_file(self, tmp_path):
    path = tmp_path / 'results.json'
    results.write_json(path, {'old': 1})
    with pytest.raises(ValueError):
      results.write_json(path, {'new': math.inf})
    assert json.loads(path.read_text()) == {'old': 1}
    assert [file.name for file in tmp_path.iterdir()] == ['results.json']

  def test_csv(self, tmp_path):
    path = tmp_path / 'results.csv'
    names = ['=cmd()', 'a,"b"', '-1', 'plain']
    found = results.build(RUN, {name: _category() for name in names})
    results.write_csv(path, found)
    with path.open(newline='') as file:
      rows = list(csv.DictReader(file))
    safe = ["'=cmd()", 'a,"b"', "'-1", 'plain', 'mean']
    assert [row['category'] for row in rows] == 2 * safe
    assert [row['selection'] for row in rows] == (
      5 * ['last epoch'] + 5 * ['selected on test']
    )
    assert float(rows[0]['image_auroc_mean']) == pytest.approx(0.985)
    assert rows[0]['seeds'] == '2'
    assert len(rows[0]) == 3 + 2 * len(metrics.METRICS)

  def test_csv_leaves_undefined_empty(self, tmp_path):
    path = tmp_path / 'results.csv'
    one = CategoryResult([_metrics(math.nan)])
    results.write_csv(path, results.build(RUN, {'a': one}))
    with path.open(newline='') as file:
      row = next(csv.DictReader(file))
    assert row['image_auroc_mean'] == row['image_auroc_std'] == ''

  def test_markdown(self, tmp_path):
    path = tmp_path / 'results.md'
    found = results.build(RUN, {'a': _category()})
    results.write_markdown(path, found)
    assert path.read_text() == tables.markdown_table(found) + '\n'


class TestTables:
  def test_terminal(self):
    text = tables.terminal_table(results.build(RUN, _mvtec()))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    words = {line.split('  ')[0]: line.split() for line in lines if line}
    screw = words['screw']
    assert screw[1:4] == ['98.50±0.71', '97.00±0.00', '90.00±0.00']
    assert ' '.join(screw[4:]) == (
      '99.00±0.00 / 97.00±0.00 98.2 / 99.3 98.63 / 99.25 +0.80 / -2.30'
    )
    assert words['mean'][-3:] == ['-0.60', '/', '-1.10']
    notes = ' '.join(text.split())
    assert 'I-AUROC 98.2 (ours +0.30).' in notes
    assert 'AUPRO 91.1 (ours -1.10).' in notes
    assert 'last epoch: ' in text
    assert 'selected on test: ' in text

  def test_every_header_names_its_selection(self):
    text = tables.markdown_table(results.build(RUN, _mvtec()))
    lines = text.splitlines()
    header = [cell.strip() for cell in lines[0].strip('|').split('|')]
    assert header[1:] == [
      'ours, last epoch: I-AUROC',
      'ours, last epoch: P-AUROC',
      'ours, last epoch: AUPRO',
      'ours, selected on test: I / P-AUROC',
      'paper Table 1, selected on test: I / P-AUROC',
      'released code, selected on test: I / P-AUROC',
      'ours - paper, selected on test: I / P-AUROC',
    ]
    rows = [line for line in lines if line.startswith('|')]
    assert len(rows) == 2 + 15 + 1
    assert {line.count('|') for line in rows} == {9}

  def test_leaves_out_what_does_not_apply(self):
    found = results.build(RUN, {'a|b': _category(), 'c': _category()})
    text = tables.markdown_table(found)
    assert 'paper' not in text.split('Percent')[0]
    assert 'a\\|b' in text
    assert '\n| mean |' in text
    last_only = {'screw': CategoryResult([_metrics(pixel=math.nan)])}
    text = tables.terminal_table(results.build(RUN, last_only))
    row = next(line for line in text.splitlines() if line.startswith('screw'))
    assert row.split()[1:4] == ['98.00', '–', '90.00']  # noqa: RUF001
    assert 'ours - paper' not in text  # no figure of ours was selected likewise
    assert 'mean' not in text
    assert 'EfficientAD' not in text

  def test_warnings_of_weights_stand_below(self):
    weights = {'warnings': ["these are torchvision's V2 weights"]}
    text = tables.markdown_table(results.build(_run(weights=weights), _mvtec()))
    assert "\n\nWeights: these are torchvision's V2 weights." in text

  @pytest.mark.parametrize(
    ('recipe', 'names', 'told'),
    [
      ('unknown', MVTEC_AD, True),
      ("torchvision's V1", MVTEC_AD, False),
      ('unknown', ('a', 'b'), False),  # Beside nothing.
    ],
  )
  def test_unknown_weights_are_told_beside_what_was_published(
    self, recipe, names, told
  ):
    run = _run(weights={'recipe': recipe, 'warnings': []})
    found = results.build(run, {name: _category() for name in names})
    text = tables.markdown_table(found)
    assert ("not known to be torchvision's V1" in text) == told

  def test_kinds_of_defects_have_a_table_of_their_own(self):
    by_kind = testset.mean_over_seeds(
      [
        {
          'a|b': {
            'images': 3,
            'image_auroc': auroc,
            'pixel_auroc': 0.5,
            'aupro_30': math.nan,
          }
        }
        for auroc in (0.9, 0.8)
      ]
    )
    found = results.build(
      RUN, {'part': CategoryResult([_metrics()], kinds=by_kind)}
    )
    assert found['categories']['part']['kinds']['a|b']['images'] == 3
    text = tables.markdown_table(found)
    assert text.splitlines()[-1] == (
      '| part | a\\|b | 3 | 85.00 | 50.00 | – |'  # noqa: RUF001
    )

  def test_cautions_and_pixels_left_out_stand_below(self):
    one = CategoryResult(
      [_metrics()],
      cautions=['part: the head of seed 0 has not learned'],
      pixels={
        'images': 40,
        'of': 42,
        'left_out': {'mask all black': 1, 'mask inverted': 1},
      },
    )
    text = tables.terminal_table(results.build(RUN, {'part': one}))
    assert 'Warning: part: the head of seed 0 has not learned.' in text
    assert (
      'Pixel figures of part are over 40 of 42 images: 1 mask all black, 1 '
      'mask inverted.'
    ) in ' '.join(text.split())
    undefined = dataclasses.replace(one, last=[_metrics(pixel=math.nan)])
    text = tables.terminal_table(results.build(RUN, {'part': undefined}))
    assert 'Pixel figures of part are undefined: 1 mask all black' in text
    whole = dataclasses.replace(one, pixels={**one.pixels, 'left_out': {}})
    text = tables.terminal_table(results.build(RUN, {'part': whole}))
    assert 'Pixel figures' not in text

  def test_other_backbones_stand_alone(self):
    run = _run(config=_backbone('resnet18'))
    text = tables.terminal_table(results.build(run, _mvtec()))
    assert 'paper' not in text
    assert 'EfficientAD' not in text


def test_what_was_found_is_read_back(tmp_path):
  nan = math.nan
  last = [dict.fromkeys(metrics.METRICS, value) for value in (0.5, 0.75)]
  last[1]['pixel_auroc'] = last[0]['pixel_auroc'] = nan
  best = [{**seed, 'epoch': 4} for seed in last]
  kinds = {'cut': {'images': 2, 'image_auroc': 0.5, 'pixel_auroc': nan}}
  pixels = {'images': 1, 'of': 2, 'left_out': {'mask all black': 1}}
  run = {
    'protocol': 'test',
    'versions': {},
    'device': {},
    'wall_seconds': {},
    'config': {'backbone': {'name': 'x'}, 'seeds': [0, 1]},
  }
  found = {
    'part': results.CategoryResult(
      last, best, kinds=kinds, cautions=['careful'], pixels=pixels
    )
  }
  table = results.build(run, found)
  results.write_json(tmp_path / 'results.json', table)
  again = earlier.recall(tmp_path, (0, 1))
  assert results._strict(results.build(run, again)) == results._strict(table)
  assert earlier.recall(tmp_path, (0, 2)) == {}
  assert earlier.recall(tmp_path / 'nowhere', (0, 1)) == {}
  (tmp_path / 'results.json').write_text('{}')
  with pytest.raises(ValueError, match=r'results.json is damaged'):
    earlier.recall(tmp_path, (0, 1))


def test_what_was_called_aupro_is_read_back_as_sampled(tmp_path):
  names = ('aupro_30', 'aupro_05')
  old = [name for name in metrics.METRICS if not name.endswith('_sampled')]
  old += [f'{name}_exact' for name in names]
  summaries = {
    name: {'mean': value, 'std': None, 'seeds': [value]}
    for name, value in zip(old, np.linspace(0, 1, len(old)), strict=True)
  }
  results.write_json(
    tmp_path / 'results.json',
    {
      'config': {'seeds': [0]},
      'categories': {'part': {'last': summaries}},
      'selected_on_test': {},
    },
  )
  (last,) = earlier.recall(tmp_path, (0,))['part'].last
  assert set(last) == set(metrics.METRICS)
  for name in names:
    assert last[name] == summaries[f'{name}_exact']['mean']
    assert last[f'{name}_sampled'] == summaries[name]['mean']
