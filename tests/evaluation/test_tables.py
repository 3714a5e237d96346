"""The tables shown: their figures, headers and notes, and names in them."""

import csv
import io
import math

import pytest

from simplenet_jax.data.folder import MVTEC_AD as CATEGORIES
from simplenet_jax.evaluation import metrics, results, tables
from simplenet_jax.evaluation.results import CategoryResult
from tests.evaluation.test_results import RUN, category, changed, values


def mvtec():
  return {name: category() for name in CATEGORIES}


def shown(run=RUN, categories=None, form='text'):
  return tables.format_table(results.build(run, categories or mvtec()), form)


def test_text():
  text = shown()
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


def test_every_header_names_its_selection():
  lines = shown(form='markdown').splitlines()
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
  assert [line.count('|') for line in lines if '|' in line] == 18 * [9]


def test_latex_is_a_table_of_escaped_names():
  names = ['a_b & 50 %', r'\input{x}^~$#']
  text = shown(categories={name: category() for name in names}, form='latex')
  lines = text.splitlines()
  assert lines[0] == r'\begin{tabular}{lrrrr}'
  assert r'a\_b \& 50 \% & 98.50$\pm$0.71 & 97.00$\pm$0.00' in text
  name = r'\textbackslash{}input\{x\}\textasciicircum{}\textasciitilde{}\$\#'
  assert any(line.startswith(f'{name} & ') for line in lines)
  end = lines.index(r'\end{tabular}')
  rows = [line for line in lines[:end] if line.endswith(r'\\')]
  assert {row.replace(r'\&', '').count('&') for row in rows} == {4}
  assert all(line.startswith('% ') for line in lines[end + 1 :])
  published = shown(categories={'screw': category()}, form='latex')
  assert r'$-$2.30' in published
  undefined = {'a': CategoryResult([values(math.nan)] * 2)}
  assert '& -- &' in shown(categories=undefined, form='latex')
  with pytest.raises(ValueError, match="format is 'word'; choose one of text"):
    shown(form='word')


def test_csv_has_all_metrics_and_runs_in_no_spreadsheet():
  names = ['=cmd()', 'a,"b"', '-1', 'plain\rname']
  text = shown(categories={name: category() for name in names}, form='csv')
  rows = list(csv.DictReader(io.StringIO(text, newline='')))
  safe = ["'=cmd()", 'a,"b"', "'-1", 'plain\rname', 'mean']
  assert [row['category'] for row in rows] == 2 * safe
  assert [row['selection'] for row in rows] == (
    5 * ['last epoch'] + 5 * ['selected on test']
  )
  assert float(rows[0]['image_auroc_mean']) == pytest.approx(0.985)
  assert len(rows[0]) == 3 + 2 * len(metrics.METRICS)


def test_leaves_out_what_does_not_apply():
  text = shown(categories={'a|b': category(), 'c': category()}, form='markdown')
  assert 'paper' not in text.split('Percent')[0]
  assert 'a\\|b' in text
  assert '\n| mean |' in text
  last_only = {'screw': CategoryResult([values(pixel=math.nan)] * 2)}
  text = shown(categories=last_only)
  row = next(line for line in text.splitlines() if line.startswith('screw'))
  assert row.split()[1:4] == ['98.00±0.00', '–', '90.00±0.00']  # noqa: RUF001
  # No figure of ours was selected as the paper's were.
  for word in ('ours - paper', 'mean ', 'EfficientAD'):
    assert word not in text


def test_differences_are_of_figures_selected_alike():
  columns = tables.columns(results.build(RUN, mvtec()))
  found = {
    (one.source, one.selection, one.title): one.cells[-1].text
    for one in columns
  }
  assert found['ours - paper', 'selected on test', 'I-AUROC'] == '-0.60'
  assert found['ours - EfficientAD', 'last epoch', 'I-AUROC'] == '+0.30'


@pytest.mark.parametrize(
  ('weights', 'names', 'told'),
  [
    ({'recipe': 'unknown'}, CATEGORIES, "not known to be torchvision's V1"),
    ({'recipe': "torchvision's V1"}, CATEGORIES, ''),
    ({'recipe': 'unknown'}, ('a', 'b'), ''),  # Beside nothing.
    ({'warnings': ['these are V2']}, ('a',), 'these are V2'),
  ],
)
def test_what_is_told_of_weights_stands_below(weights, names, told):
  categories = {name: category() for name in names}
  text = shown(changed(weights=weights), categories, 'markdown')
  assert ('\n\nWeights: ' in text) == bool(told)
  assert told in text


def test_kinds_of_defects_have_a_table_of_their_own():
  figures = {'images': 3, 'image_auroc': 0.85, 'pixel_auroc': 0.5}
  kinds = {'a|b': {**figures, 'aupro_30': math.nan}}
  one = CategoryResult([values()] * 2, kinds=kinds)
  last = shown(categories={'part': one}, form='markdown').splitlines()[-1]
  assert last == '| part | a\\|b | 3 | 85.00 | 50.00 | – |'  # noqa: RUF001


@pytest.mark.parametrize(
  ('left_out', 'pixel', 'told'),
  [
    (
      {'mask all black': 1, 'of another size': 1},
      0.9,
      'are over 40 of 42 images: 1 mask all black, 1 of another size.',
    ),
    ({'mask all black': 1}, math.nan, 'are undefined: 1 mask all black.'),
    ({}, 0.9, ''),
  ],
)
def test_cautions_and_pixels_left_out_stand_below(left_out, pixel, told):
  one = CategoryResult(
    [values(pixel=pixel)] * 2,
    cautions=['part: the head of seed 0 has not learned'],
    pixels={'images': 40, 'of': 42, 'left_out': left_out},
  )
  text = ' '.join(shown(categories={'part': one}).split())
  assert 'Warning: part: the head of seed 0 has not learned.' in text
  assert ('Pixel figures of part ' in text) == bool(told)
  assert told in text
