"""Our figures beside the published ones, as text, Markdown, CSV and LaTeX."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from simplenet_jax.evaluation.metrics import HEADLINES, METRICS
from simplenet_jax.evaluation.published import (
  LAST_EPOCH,
  PAPER,
  RELEASED_CODE,
  SELECTED_ON_TEST,
  TABLES,
)
from simplenet_jax.files import is_formula, table_writer

FORMATS = ('text', 'markdown', 'csv', 'latex')
UNDEFINED = '–'  # noqa: RUF001
OURS = 'ours'
_TITLES = {**HEADLINES, 'image_ap': 'I-AP', 'pixel_ap': 'P-AP'}
_PAIR = ('image_auroc', 'pixel_auroc')
_DECIMALS = {table.name: table.decimals for table in TABLES}

Results = Mapping[str, Any]  # What results.json holds.


class Cell(NamedTuple):
  """A figure as it is shown, and its percentage if it is defined."""

  text: str = UNDEFINED
  value: float | None = None


class Column(NamedTuple):
  """One metric's figures by category, and where they come from."""

  source: str
  selection: str
  title: str
  cells: list[Cell]

  @property
  def is_last(self) -> bool:
    """Whether the figures are ours of the last epoch."""
    return self[:2] == (OURS, LAST_EPOCH)

  @property
  def is_defined(self) -> bool:
    """Whether any of the figures is defined."""
    return any(cell.value is not None for cell in self.cells)


def by_selection(results: Results) -> dict[str, dict[str, Any]]:
  """Returns our summaries by selection and category, 'mean' being the last."""
  ours = {name: value['last'] for name, value in results['categories'].items()}
  found = {LAST_EPOCH: {**ours, 'mean': results['mean']['last']}}
  if results['selected_on_test']:
    mean = results['mean']['selected_on_test']
    found[SELECTED_ON_TEST] = {**results['selected_on_test'], 'mean': mean}
  return found


def rows(results: Results) -> list[str]:
  """Returns the categories, and 'mean' where there are several."""
  names = list(results['categories'])
  return [*names, 'mean'] if len(names) > 1 else names


def columns(results: Results) -> list[Column]:
  """Returns ours, published ones, and differences between like selections."""
  ours, names = by_selection(results), rows(results)
  found = []
  for selection, each in ours.items():
    for metric in _TITLES if selection == LAST_EPOCH else _PAIR:
      cells = [spread(each[name][metric]) for name in names]
      found.append(Column(OURS, selection, _TITLES[metric], cells))
  for source in dict.fromkeys(row['table'] for row in results['published']):
    selection, theirs = _published(results, source)
    mine, form = ours.get(selection, {}), f'.{_DECIMALS.get(source, 1)}f'
    for metric in _PAIR:
      published, differences = [], []
      for name in names:
        value = theirs.get(name, {}).get(metric)
        published.append(_cell(value, form))
        differences.append(_less(mine.get(name), metric, value))
      title = _TITLES[metric]
      found.append(Column(source, selection, title, published))
      less = f'{OURS} - {source.split(" ")[0]}'
      found.append(Column(less, selection, title, differences))
  return found


def _cell(value: float | None, form: str) -> Cell:
  return Cell() if value is None else Cell(format(value, form), value)


def spread(summary: Mapping[str, Any]) -> Cell:
  """Returns a summary over seeds in percent, with its deviation."""
  mean, std = summary['mean'], summary.get('std')
  if mean is None or math.isnan(mean):
    return Cell()
  more = '' if std is None else f'±{100 * std:.2f}'
  return Cell(f'{100 * mean:.2f}{more}', 100 * mean)


def _published(results: Results, source: str) -> tuple[str, dict[str, Any]]:
  """Returns a published table's selection, and its figures by category."""
  found = [row for row in results['published'] if row['table'] == source]
  by_category = {row['category']: row['percent'] for row in found}
  return (found[0]['selection'] if found else ''), by_category


def _less(ours: Any, metric: str, theirs: float | None) -> Cell:
  mean = ours[metric]['mean'] if ours else None
  if mean is None or theirs is None:
    return Cell()
  return _cell(100 * mean - theirs, '+z.2f')


def format_table(results: Results, form: str = 'text') -> str:
  """Returns a run's table: our figures beside the published ones, in percent.

  Args:
    results: What `results.build` returns, or results.json holds.
    form: One of `FORMATS`. 'text' is aligned for 120 columns; 'csv' has all
      metrics as fractions, a row per category and selection; 'latex' needs the
      package booktabs.

  Raises:
    ValueError: For another form.
  """
  if form not in FORMATS:
    raise ValueError(f'format is {form!r}; choose one of {", ".join(FORMATS)}')
  if form == 'csv':
    return _csv(results)
  formats = {'text': _text, 'markdown': _markdown, 'latex': _latex}
  return formats[form](results, *_grid(results))


def _grid(results: Results) -> tuple[list[list[str]], list[list[str]]]:
  """Returns source, selection and title of each column, and rows of text."""
  found, shown = columns(results), []
  for one in found:
    if one.is_last and one.title in HEADLINES.values():
      shown.append(([*one[:3]], [cell.text for cell in one.cells]))
  for source in (OURS, PAPER.name, RELEASED_CODE.name, f'{OURS} - paper'):
    wanted = (source, SELECTED_ON_TEST)
    pair = [one for one in found if one[:2] == wanted]
    if any(one.is_defined for one in pair):
      joined = []
      for image, pixel in zip(*(one.cells for one in pair), strict=True):
        neither = image.value is pixel.value is None
        joined.append(UNDEFINED if neither else f'{image.text} / {pixel.text}')
      shown.append(([*wanted, 'I / P-AUROC'], joined))
  grid = zip(rows(results), *(cells for _, cells in shown), strict=True)
  return [header for header, _ in shown], [list(row) for row in grid]


def _text(results, header, body) -> str:
  heads = [
    (source, *rule.split(' ', 1), title) for source, rule, title in header
  ]
  grid = [*zip(('', '', '', 'category'), *heads, strict=True), *body]
  first, *widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
  lines = []
  for name, *cells in grid:
    padded = [c.rjust(w) for c, w in zip(cells, widths, strict=True)]
    lines.append('  '.join([name.ljust(first), *padded]).rstrip())
  lines.insert(4, '-' * max(map(len, lines)))
  notes = [textwrap.fill(note, 118) for note in _notes(results)]
  return '\n'.join([*lines, '', *notes])


def _markdown(results, header, body) -> str:
  titles = [f'{source}, {rule}: {title}' for source, rule, title in header]
  parts = [markdown_rows([['category', *titles], *body]), *_notes(results)]
  categories = results['categories'].items()
  by_defect = [[name, *row] for name, one in categories for row in defects(one)]
  if by_defect:
    titles = ['category', 'kind of defect', 'images', *HEADLINES.values()]
    parts += [
      'Each kind of defect against the good test images, last epoch:',
      markdown_rows([titles, *by_defect], 2),
    ]
  return '\n\n'.join(parts)


def markdown_rows(rows: Sequence[Sequence[str]], names: int = 1) -> str:
  """Returns a table of a header and rows; the first columns are of names."""
  rule = ['---'] * names + ['---:'] * (len(rows[0]) - names)
  header, *body = [[cell.replace('|', '\\|') for cell in row] for row in rows]
  return '\n'.join(f'| {" | ".join(row)} |' for row in [header, rule, *body])


_LATEX_FIGURE = str.maketrans({'-': '$-$', '±': r'$\pm$', UNDEFINED: '--'})
_LATEX_NAME = str.maketrans(
  {
    '\\': r'\textbackslash{}',
    '^': r'\textasciicircum{}',
    '~': r'\textasciitilde{}',
    **{character: f'\\{character}' for character in '&%$#_{}'},
  }
)


def _latex(results, header, body) -> str:
  heads = zip(('', '', 'category'), *header, strict=True)
  rows = []
  for name, *cells in body:
    name = ' '.join(name.translate(_LATEX_NAME).split())
    rows.append([name, *(cell.translate(_LATEX_FIGURE) for cell in cells)])
  mean = [r'\midrule', rows.pop()] if len(rows) > 1 else []
  parts = [r'\toprule', *heads, r'\midrule', *rows, *mean, r'\bottomrule']
  return '\n'.join(
    [
      f'\\begin{{tabular}}{{l{"r" * len(header)}}}',
      *(p if isinstance(p, str) else f'{" & ".join(p)} \\\\' for p in parts),
      r'\end{tabular}',
      *(f'% {" ".join(note.split())}' for note in _notes(results)),
    ]
  )


def _csv(results: Results) -> str:
  text = io.StringIO(newline='')
  write = table_writer(text)
  parts = [(metric, part) for metric in METRICS for part in ('mean', 'std')]
  names = [f'{metric}_{part}' for metric, part in parts]
  write(['category', 'selection', 'seeds', *names])
  for selection, categories in by_selection(results).items():
    for name, summaries in categories.items():
      values = [summaries[metric][part] for metric, part in parts]
      seeds = len(summaries[METRICS[0]]['seeds'])
      write([no_formula(name), selection, seeds, *values])
  return text.getvalue()


def no_formula(text: str) -> str:
  """Returns a folder's name so that no spreadsheet runs it as a formula."""
  return f"'{text}" if is_formula(text) else text


def defects(category: Mapping[str, Any]) -> list[list[str]]:
  """Returns a row of text for each kind of defect of a category's results."""
  return [
    [kind, str(one['images']), *(_percent(one[m]) for m in HEADLINES)]
    for kind, one in category.get('kinds', {}).items()
  ]


def _percent(value: float | None) -> str:
  return spread({'mean': value}).text


def pixels(category: Mapping[str, Any]) -> str:
  """Says over how many images pixel figures are, where that is not all."""
  found = category.get('pixels', {})
  if not found or not found['left_out']:
    return ''
  reasons = ', '.join(f'{n} {why}' for why, n in found['left_out'].items())
  if category['last']['pixel_auroc']['mean'] is None:
    return f'undefined: {reasons}'
  return f'over {found["images"]} of {found["of"]} images: {reasons}'


def weights(results: Results) -> list[str]:
  """Returns what a run warned of its backbone's weights."""
  used = results.get('weights', {})
  told = list(used.get('warnings', []))
  if results['published'] and used.get('recipe') == 'unknown':
    told.append("not known to be torchvision's V1, as published figures are")
  return told


def _notes(results: Results) -> list[str]:
  mean = results['mean']['last']
  seeds = len(mean['image_auroc']['seeds'])
  over = f'mean±std over {seeds} seeds' if seeds > 1 else 'one seed'
  notes = [
    f'{LAST_EPOCH}: chosen without test images; {SELECTED_ON_TEST}: the epoch '
    'best on the test images, which flatters.',
    *(f'Weights: {one}.' for one in weights(results)),
  ]
  for name, category in results['categories'].items():
    notes += [f'Warning: {one}.' for one in category.get('cautions', [])]
    if note := pixels(category):
      notes.append(f'Pixel figures of {name} are {note}.')
  backbone = results['config']['backbone']['name']
  notes.append(f'Percent, {over}; protocol {results["protocol"]}, {backbone}.')
  for table in TABLES:
    theirs = _published(results, table.name)[1].get('mean')
    if table.selection == SELECTED_ON_TEST or not theirs:
      continue
    ours, parts = mean if table.selection == LAST_EPOCH else None, []
    for metric, title in HEADLINES.items():
      if (value := theirs[metric]) is not None:
        less = _less(ours, metric, value)
        said = '' if less.value is None else f' (ours {less.text})'
        parts.append(f'{title} {value:.{table.decimals}f}{said}')
    notes.append(f'Mean, {table.selection}, {table.name}: {", ".join(parts)}.')
  return notes
