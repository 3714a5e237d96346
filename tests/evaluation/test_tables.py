"""The tables shown: their figures, headers and notes, and names in them."""

import csv
import io
import math

import pytest

from simplenet_jax.data.folder import MVTEC_AD as CATEGORIES
from simplenet_jax.evaluation import metrics, results, tables
from tests.evaluation import test_results as made


def shown(categories=None, form='text', **run):
  mvtec = {name: made.category() for name in CATEGORIES}
  table = results.build(made.RUN | run, categories or mvtec)
  return tables.format_table(table, form)


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
  header, *lines = shown(form='markdown').splitlines()
  assert header == (
    '| category | ours, last epoch: I-AUROC | ours, last epoch: P-AUROC '
    '| ours, last epoch: AUPRO | ours, selected on test: I / P-AUROC '
    '| paper Table 1, selected on test: I / P-AUROC '
    '| released code, selected on test: I / P-AUROC '
    '| ours - paper, selected on test: I / P-AUROC |'
  )
  assert [line.count('|') for line in lines if '|' in line] == 17 * [9]


def test_latex_is_a_table_of_escaped_names():
  names = ['a_b & 50 %', r'\input{x}^~$#']
  text = shown({name: made.category() for name in names}, 'latex')
  lines = text.splitlines()
  assert lines[0] == r'\begin{tabular}{lrrrr}'
  assert r'a\_b \& 50 \% & 98.50$\pm$0.71 & 97.00$\pm$0.00' in text
  name = r'\textbackslash{}input\{x\}\textasciicircum{}\textasciitilde{}\$\#'
  assert any(line.startswith(f'{name} & ') for line in lines)
  end = lines.index(r'\end{tabular}')
  rows = [line for line in lines[:end] if line.endswith(r'\\')]
  assert {row.replace(r'\&', '').count('&') for row in rows} == {4}
  assert all(line.startswith('% ') for line in lines[end + 1 :])
  assert r'$-$2.30' in shown({'screw': made.category()}, 'latex')
  lacking = made.measured(*[made.values(pixel=math.nan)] * 2)
  assert '& -- &' in shown({'a': lacking}, 'latex')


def test_csv_has_all_metrics_and_runs_in_no_spreadsheet():
  names = ['=cmd()', 'a,"b"', '-1', 'plain\rname']
  text = shown({name: made.category() for name in names}, 'csv')
  rows = list(csv.DictReader(io.StringIO(text, newline='')))
  safe = ["'=cmd()", 'a,"b"', "'-1", 'plain\rname', 'mean']
  assert [row['category'] for row in rows] == 2 * safe
  assert [row['selection'] for row in rows] == (
    5 * ['last epoch'] + 5 * ['selected on test']
  )
  assert float(rows[0]['image_auroc_mean']) == pytest.approx(0.985)
  assert len(rows[0]) == 3 + 2 * len(metrics.METRICS)


def test_leaves_out_what_does_not_apply():
  text = shown({'a|b': made.category(), 'c': made.category()}, 'markdown')
  assert 'paper' not in text.split('Percent')[0]
  assert 'a\\|b' in text
  assert '\n| mean |' in text
  text = shown({'screw': made.measured(*[made.values(pixel=math.nan)] * 2)})
  row = next(line for line in text.splitlines() if line.startswith('screw'))
  assert row.split()[1:4] == ['98.00±0.00', '–', '90.00±0.00']  # noqa: RUF001
  assert (
    tables.columns(results.build(made.RUN, {'screw': made.undefined()})) == []
  )
  # No figure of ours was selected as the paper's were.
  for word in ('ours - paper', 'mean ', 'EfficientAD'):
    assert word not in text


def test_kinds_of_defects_have_a_table_of_their_own():
  figures = {'images': 3, 'image_auroc': 0.85, 'pixel_auroc': 0.5}
  kinds = {'a|b': {**figures, 'aupro_30': math.nan}}
  one = made.measured(*[made.values()] * 2, kinds=kinds)
  last = shown({'part': one}, 'markdown').splitlines()[-1]
  assert last == '| part | a\\|b | 3 | 85.00 | 50.00 | – |'  # noqa: RUF001


def test_what_a_reader_must_know_stands_below():
  weights = {'recipe': 'unknown', 'warnings': ['these are V2']}
  left_out = {'mask all black': 1, 'of another size': 1}
  more = {
    'cautions': ['screw: the head of seed 0 has not learned'],
    'pixels': {'images': 40, 'of': 42, 'left_out': left_out},
  }
  for pixel, known in ((0.9, 'over 40 of 42 images'), (math.nan, 'undefined')):
    one = made.measured(*[made.values(pixel=pixel)] * 2, **more)
    text = ' '.join(shown({'screw': one}, weights=weights).split())
    for told in (
      'Weights: these are V2.',
      "Weights: not known to be torchvision's V1",
      'Warning: screw: the head of seed 0 has not learned.',
      f'of screw are {known}: 1 mask all black, 1 of another size.',
    ):
      assert told in text
  # Beside nothing that is published, unknown weights need no word.
  assert 'Weights' not in shown(
    {'part': made.category()}, weights=weights | {'warnings': []}
  )
