"""Our figures beside the published ones, as Markdown and for a terminal."""

import dataclasses
import math
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from simplenet_jax.evaluation.published import (
  LAST_EPOCH,
  PAPER,
  RELEASED_CODE,
  SELECTED_ON_TEST,
  TABLES,
  Table,
)

_TITLES = {
  'image_auroc': 'I-AUROC',
  'pixel_auroc': 'P-AUROC',
  'aupro_30': 'AUPRO',
}
_PAIR = ('image_auroc', 'pixel_auroc')
_UNDEFINED = '–'  # noqa: RUF001
_LEGEND = (
  f'{LAST_EPOCH}: no test image had a say; {SELECTED_ON_TEST}: the epoch best '
  'on the test images, which flatters.'
)

# By category and metric: summaries of ours, or published percentages.
_Figures = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class _Column:
  source: str
  selection: str
  metric: str
  cells: list[str]


def by_selection(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Returns our summaries by selection and category, 'mean' being the last.

  Args:
    results: What `results.build` returns, or results.json holds.
  """
  ours = {name: value['last'] for name, value in results['categories'].items()}
  found = {LAST_EPOCH: {**ours, 'mean': results['mean']['last']}}
  if results['selected_on_test']:
    mean = results['mean']['selected_on_test']
    found[SELECTED_ON_TEST] = {**results['selected_on_test'], 'mean': mean}
  return found


def markdown_table(results: Mapping[str, Any]) -> str:
  """Returns the table as Markdown, in percent, notes below.

  Args:
    results: What `results.build` returns, or results.json holds.

  Returns:
    One row per category, and for several their mean: our last epoch, our best
    test epoch and what was published, the selection rule in each header;
    differences between equal rules only.
  """
  columns = _columns(results)
  names = [name.replace('|', '\\|') for name in _rows(results)]
  header = [f'{c.source}, {c.selection}: {c.metric}' for c in columns]
  lines = [['category', *header], ['---', *['---:'] * len(columns)]]
  cells = zip(*(column.cells for column in columns), strict=True)
  lines += [[name, *row] for name, row in zip(names, cells, strict=True)]
  return '\n\n'.join([_joined(lines), *_notes(results), *_kinds(results)])


def _joined(lines: list[list[str]]) -> str:
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _kinds(results: Mapping[str, Any]) -> list[str]:
  """Returns a table of the kinds of defects, where there are any."""
  rows = [
    [name.replace('|', '\\|'), kind.replace('|', '\\|'), *figures]
    for name, category in results['categories'].items()
    for kind, *figures in kinds(category)
  ]
  header = ['category', 'kind of defect', 'images', *_TITLES.values()]
  if not rows:
    return []
  return [
    'Each kind of defect against the good test images, last epoch:',
    _joined([header, ['---', '---', *['---:'] * 4], *rows]),
  ]


def kinds(category: Mapping[str, Any]) -> list[list[str]]:
  """Returns a row per kind of defect: its name, images and metrics in percent.

  Args:
    category: One of `categories` of results.json.
  """
  return [
    [kind, str(one['images']), *(_percent(one[metric]) for metric in _TITLES)]
    for kind, one in category.get('kinds', {}).items()
  ]


def _percent(value: float | None) -> str:
  if value is None or math.isnan(value):
    return _UNDEFINED
  return f'{100 * value:.2f}'


def pixels(category: Mapping[str, Any]) -> str:
  """Says over how many images pixel figures are, where that is not all.

  Args:
    category: One of `categories` of results.json.
  """
  found = category.get('pixels', {})
  if not found or not found['left_out']:
    return ''
  reasons = ', '.join(f'{n} {why}' for why, n in found['left_out'].items())
  if category['last']['pixel_auroc']['mean'] is None:
    return f'undefined: {reasons}'
  return f'over {found["images"]} of {found["of"]} images: {reasons}'


def terminal_table(results: Mapping[str, Any]) -> str:
  """Returns the same table as plain text, aligned for 120 columns.

  Args:
    results: What `results.build` returns, or results.json holds.
  """
  names = ['', '', '', 'category', *_rows(results)]
  width = max(map(len, names))
  columns = [[name.ljust(width) for name in names]]
  for column in _columns(results):
    header = [column.source, *column.selection.split(' ', 1), column.metric]
    cells = [*header, *column.cells]
    width = max(map(len, cells))
    columns.append([cell.rjust(width) for cell in cells])
  lines = ['  '.join(line).rstrip() for line in zip(*columns, strict=True)]
  lines.insert(4, '-' * max(map(len, lines)))
  notes = [textwrap.fill(note, 118) for note in _notes(results)]
  return '\n'.join([*lines, '', *notes])


def _rows(results: Mapping[str, Any]) -> list[str]:
  names = list(results['categories'])
  return [*names, 'mean'] if len(names) > 1 else names


def _columns(results: Mapping[str, Any]) -> list[_Column]:
  names, ours = _rows(results), by_selection(results)
  last, best = ours[LAST_EPOCH], ours.get(SELECTED_ON_TEST, {})
  paper = _figures(results, PAPER)
  code = _figures(results, RELEASED_CODE)
  columns = [
    _Column('ours', LAST_EPOCH, title, [_spread(last[n][key]) for n in names])
    for key, title in _TITLES.items()
  ]
  pairs = [
    _pairs('ours', names, best, _spread),
    _pairs(PAPER.name, names, paper, _digits(PAPER)),
    _pairs(RELEASED_CODE.name, names, code, _digits(RELEASED_CODE)),
    _pairs('ours - paper', names, _minus(best, paper), '{:+z.2f}'.format),
  ]
  return columns + [c for c in pairs if set(c.cells) != {_UNDEFINED}]


def _pairs(
  source: str,
  names: list[str],
  figures: _Figures,
  show: Callable[[Any], str],
) -> _Column:
  """Joins image and pixel AUROC, selected on test, where there are any."""
  cells = []
  for name in names:
    found = [figures.get(name, {}).get(metric) for metric in _PAIR]
    pair = [_UNDEFINED if one is None else show(one) for one in found]
    cells.append(' / '.join(pair) if set(pair) != {_UNDEFINED} else _UNDEFINED)
  return _Column(source, SELECTED_ON_TEST, 'I / P-AUROC', cells)


def _spread(summary: Mapping[str, Any]) -> str:
  if summary['mean'] is None:
    return _UNDEFINED
  mean, std = f'{100 * summary["mean"]:.2f}', summary['std']
  return mean if std is None else f'{mean}±{100 * std:.2f}'


def _digits(table: Table) -> Callable[[float], str]:
  return f'{{:.{table.decimals}f}}'.format


def _figures(results: Mapping[str, Any], table: Table) -> _Figures:
  return {
    row['category']: row['percent']
    for row in results['published']
    if row['table'] == table.name
  }


def _minus(ours: _Figures, theirs: _Figures) -> _Figures:
  """Subtracts published percentages from our means, where both are defined."""
  return {
    name: {
      metric: 100 * ours[name][metric]['mean'] - value
      for metric, value in row.items()
      if metric in _TITLES
      and value is not None
      and ours[name][metric]['mean'] is not None
    }
    for name, row in theirs.items()
    if name in ours
  }


def weights(results: Mapping[str, Any]) -> list[str]:
  """Returns what a run warned of its backbone's weights, or cannot tell."""
  used = results.get('weights', {})
  found = list(used.get('warnings', []))
  if results['published'] and used.get('recipe') == 'unknown':
    found.append(
      "they are not known to be torchvision's V1, to which the published "
      'figures belong'
    )
  return found


def _cautions(results: Mapping[str, Any]) -> list[str]:
  """Returns what is to be known before a figure is believed."""
  found = [f'Weights: {one}.' for one in weights(results)]
  for name, category in results['categories'].items():
    found += [f'Warning: {one}.' for one in category.get('cautions', [])]
    if note := pixels(category):
      found.append(f'Pixel figures of {name} are {note}.')
  return found


def _notes(results: Mapping[str, Any]) -> list[str]:
  mean = results['mean']['last']
  seeds = len(mean['image_auroc']['seeds'])
  over = f'mean±std over {seeds} seeds' if seeds > 1 else 'one seed'
  notes = [
    _LEGEND,
    *_cautions(results),
    f'Percent, {over}; protocol {results["protocol"]}, '
    f'{results["config"]["backbone"]["name"]}.',
  ]
  for table in TABLES:
    theirs = _figures(results, table)
    if table.selection == SELECTED_ON_TEST or 'mean' not in theirs:
      continue
    alike = table.selection == LAST_EPOCH
    ours = _minus({'mean': mean}, theirs)['mean'] if alike else {}
    parts = [
      f'{title} {theirs["mean"][metric]:.{table.decimals}f}'
      + (f' (ours {ours[metric]:+z.2f})' if metric in ours else '')
      for metric, title in _TITLES.items()
      if theirs['mean'][metric] is not None
    ]
    notes.append(f'Mean, {table.selection}, {table.name}: {", ".join(parts)}.')
  return notes
