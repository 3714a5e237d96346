"""Our figures beside the published ones, as text, Markdown, CSV and LaTeX."""

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from simplenet_jax.evaluation import limits, published
from simplenet_jax.evaluation.limits import UNDEFINED, Column
from simplenet_jax.evaluation.metrics import HEADLINES, METRICS
from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.files import ASSETS, csv_text, is_formula, read_json

OURS = 'ours'
BASELINE = 'no training'
_BETTER = 0.005  # Half a point, from which on one is called better.
PAIR = ('image_auroc', 'pixel_auroc')
_TITLES = {**HEADLINES, 'image_ap': 'I-AP', 'pixel_ap': 'P-AP'}
_DECIMALS = {one['name']: one['decimals'] for one in published.TABLES}
_BOTH = 'I / P-AUROC'
NOTES = read_json(ASSETS / 'notes.json')
# Sources that are shown where there is no room for all.
_SHOWN = (OURS, BASELINE, 'paper Table 1', 'released code', f'{OURS} - paper')

Results = Mapping[str, Any]  # What results.json holds.


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
  """Returns ours, published ones, and differences between like selections.

  Columns without a figure are left out, but for those of our last epoch.
  """
  ours, names = by_selection(results), rows(results)
  found = []
  for metric, title in _TITLES.items():
    cells = [spread(ours[LAST_EPOCH][name][metric]) for name in names]
    found.append(Column(OURS, LAST_EPOCH, title, cells))
  if all(set(one.cells) == {UNDEFINED} for one in found):
    return []
  every = {**results['categories'], 'mean': results['mean']}
  plain = [every[name].get('baseline') for name in names]
  for metric, title in HEADLINES.items() if any(plain) else ():
    cells = [spread(one[metric]) if one else UNDEFINED for one in plain]
    found.append(Column(BASELINE, 'nearest neighbours', title, cells))

  def add(source: str, selection: str, pairs: Iterable[Sequence[str]]) -> None:
    cells = [
      UNDEFINED if set(pair) == {UNDEFINED} else ' / '.join(pair)
      for pair in pairs
    ]
    if set(cells) != {UNDEFINED}:
      found.append(Column(source, selection, _BOTH, cells))

  if best := ours.get(SELECTED_ON_TEST):
    mine = ([spread(best[name][m]) for m in PAIR] for name in names)
    add(OURS, SELECTED_ON_TEST, mine)
  for source, (selection, theirs) in _published(results).items():
    mine, their, less = ours.get(selection, {}), [], []
    for name in names:
      figures = theirs.get(name, {})
      their.append([_figure(source, figures.get(m)) for m in PAIR])
      less.append([_less(mine.get(name), m, figures.get(m)) for m in PAIR])
    add(source, selection, their)
    add(f'{OURS} - {source.split(" ")[0]}', selection, less)
  return found


def _published(results: Results) -> dict[str, tuple[str, dict[str, Any]]]:
  found: dict[str, tuple[str, dict[str, Any]]] = {}
  for row in results['published']:
    _, figures = found.setdefault(row['table'], (row['selection'], {}))
    figures[row['category']] = row['percent']
  return found


def _figure(source: str, value: float | None) -> str:
  decimals = _DECIMALS.get(source, 1)
  return UNDEFINED if value is None else f'{value:.{decimals}f}'


def _less(ours: Any, metric: str, theirs: float | None) -> str:
  mean = ours[metric]['mean'] if ours else None
  if mean is None or theirs is None:
    return UNDEFINED
  return f'{100 * mean - theirs:+z.2f}'


def spread(summary: Mapping[str, Any]) -> str:
  """Returns a summary over seeds in percent, with its deviation."""
  mean, std = summary['mean'], summary.get('std')
  if mean is None or math.isnan(mean):
    return UNDEFINED
  return f'{100 * mean:.2f}' + ('' if std is None else f'±{100 * std:.2f}')


def _grid(results: Results) -> list[Column]:
  titles = {*HEADLINES.values(), _BOTH}
  shown = [one for one in columns(results) if one.source in _SHOWN]
  shown = [one for one in shown if one.title in titles]
  return sorted(shown, key=lambda one: _SHOWN.index(one.source))


def _aligned(names: Sequence[str], shown: Sequence[Column]) -> list[str]:
  cells = [
    [one.source, *one.selection.split(' ', 1), one.title, *one.cells]
    for one in shown
  ]
  grid = [*zip(['', '', '', 'category', *names], *cells, strict=True)]
  first, *widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
  lines = []
  for name, *row in grid:
    padded = [c.rjust(w) for c, w in zip(row, widths, strict=True)]
    lines.append('  '.join([name.ljust(first), *padded]).rstrip())
  lines.insert(4, '-' * max(map(len, lines)))
  return lines


def _text(results: Results) -> str:
  lines = _aligned(rows(results), _grid(results))
  if at := limits.columns(results):
    lines += ['', *_aligned(list(results['categories']), at)]
  told = [textwrap.fill(note, 118) for note in notes(results)]
  return '\n'.join([*lines, '', *told])


def _markdown(results: Results) -> str:
  parts, categories = [], results['categories']
  tables = rows(results), _grid(results)
  for names, shown in (tables, ([*categories], limits.columns(results))):
    if shown:
      titles = [f'{one.source}, {one.selection}: {one.title}' for one in shown]
      body = zip(names, *(one.cells for one in shown), strict=True)
      parts.append(markdown_rows([['category', *titles], *body]))
  parts += notes(results)
  for name, one in categories.items():
    if told := one.get('threshold', {}).get('told'):
      parts.append(f'{name}: {"; ".join(told)}.')
  lines = [['category', 'kind of defect', 'images', *HEADLINES.values()]]
  for name, one in categories.items():
    lines += [[name, *row] for row in defects(one)]
  if len(lines) > 1:
    told = 'Each kind of defect against the good test images, last epoch:'
    parts += [told, markdown_rows(lines, 2)]
  return '\n\n'.join(parts)


def markdown_rows(rows: Sequence[Sequence[str]], names: int = 1) -> str:
  """Returns a table of a header and rows; the first columns are of names."""
  rule = ['---'] * names + ['---:'] * (len(rows[0]) - names)
  header, *body = [[cell.replace('|', '\\|') for cell in row] for row in rows]
  return '\n'.join(f'| {" | ".join(row)} |' for row in [header, rule, *body])


_LATEX_FIGURE = str.maketrans({'-': '$-$', '±': r'$\pm$', UNDEFINED: '--'})
_LATEX_WORDS = {'\\': 'backslash', '^': 'asciicircum', '~': 'asciitilde'}
_LATEX_NAME = str.maketrans(
  {character: f'\\{character}' for character in '&%$#_{}'}
  | {character: rf'\text{word}{{}}' for character, word in _LATEX_WORDS.items()}
)


def _latex(results: Results) -> str:
  shown, body = _grid(results), []
  header = [one[:3] for one in shown]
  heads = zip(('', '', 'category'), *header, strict=True)
  for name, *cells in zip(
    rows(results), *(x.cells for x in shown), strict=True
  ):
    name = ' '.join(name.translate(_LATEX_NAME).split())
    body.append([name, *(cell.translate(_LATEX_FIGURE) for cell in cells)])
  mean = [r'\midrule', body.pop()] if len(body) > 1 else []
  parts = [r'\toprule', *heads, r'\midrule', *body, *mean, r'\bottomrule']
  return '\n'.join(
    [
      f'\\begin{{tabular}}{{l{"r" * len(header)}}}',
      *(p if isinstance(p, str) else f'{" & ".join(p)} \\\\' for p in parts),
      r'\end{tabular}',
      *(f'% {" ".join(note.split())}' for note in notes(results)),
    ]
  )


def csv_rows(results: Results) -> Iterator[list[Any]]:
  """Yields a header, then all metrics by selection and category, fractions."""
  parts = [(metric, part) for metric in METRICS for part in ('mean', 'std')]
  names = [f'{metric}_{part}' for metric, part in parts]
  yield ['category', 'selection', 'seeds', *names]
  for selection, categories in by_selection(results).items():
    for name, summaries in categories.items():
      values = [summaries[metric][part] for metric, part in parts]
      seeds = len(summaries[METRICS[0]]['seeds'])
      # No spreadsheet shall run a folder's name as a formula.
      shown = f"'{name}" if is_formula(name) else name
      yield [shown, selection, seeds, *values]


_FORMS = {'text': _text, 'markdown': _markdown, 'latex': _latex}
_FORMS['csv'] = lambda results: csv_text(csv_rows(results))


def format_table(results: Results, form: str = 'text') -> str:
  """Returns a run's table: our figures beside the published ones, in percent.

  As 'text' it is aligned for 120 columns, or 'markdown', or 'latex' for the
  package booktabs; 'csv' has all metrics as fractions.
  """
  return _FORMS[form](results)


def defects(category: Mapping[str, Any]) -> list[list[str]]:
  """Returns a row of text for each kind of defect of a category's results."""
  return [
    [kind, str(one['images']), *(spread({'mean': one[m]}) for m in HEADLINES)]
    for kind, one in category.get('kinds', {}).items()
  ]


def _better_untrained(category: Mapping[str, Any]) -> list[str]:
  """Returns in which figures a category's baseline is better, in words."""
  found = []
  for metric, title in HEADLINES.items():
    mine = category['last'][metric]['mean']
    theirs = category['baseline'][metric]
    if None not in (mine, theirs['mean']) and theirs['mean'] >= mine + _BETTER:
      found.append(f'{title} {spread(theirs)} against {100 * mine:.2f}')
  return found


def notes(results: Results) -> list[str]:
  """Returns what a reader of the figures must know."""
  mean = results['mean']['last']
  seeds = len(mean['image_auroc']['seeds'])
  over = f'mean±std over {seeds} seeds' if seeds > 1 else 'one seed'
  if results['config'].get('train', {}).get('folds'):
    over = 'of the mean of all heads'
  measured = bool(columns(results))
  found = [
    f'{LAST_EPOCH}: chosen without test images; {SELECTED_ON_TEST}: the epoch '
    'best on the test images, which flatters.'
  ] * measured
  weights = results.get('weights', {})
  found += [f'Weights: {one}.' for one in weights.get('warnings', [])]
  if results['published'] and weights.get('recipe') == 'unknown':
    found.append(
      "Weights: not known to be torchvision's V1, as published figures' are."
    )
  for name, category in results['categories'].items():
    found += [f'Warning: {one}.' for one in category.get('cautions', [])]
    pixels = category.get('pixels', {})
    if left_out := pixels.get('left_out'):
      reasons = ', '.join(f'{n} {why}' for why, n in left_out.items())
      known = f'over {pixels["images"]} of {pixels["of"]} images'
      if category['last']['pixel_auroc']['mean'] is None:
        known = 'undefined'
      found.append(f'Pixel figures of {name} are {known}: {reasons}.')
  for name, category in results['categories'].items():
    if 'baseline' in category and (told := _better_untrained(category)):
      found.append(
        f'{name}: nearest neighbours without training are better '
        f'({", ".join(told)}); configs/folder.py:nearest makes a detector of '
        'them.'
      )
  found += [NOTES['limits']] * (measured and bool(limits.columns(results)))
  backbone = results['config']['backbone']['name']
  found.append(f'Percent, {over}; protocol {results["protocol"]}, {backbone}.')
  for source, (selection, figures) in _published(results).items():
    if selection == SELECTED_ON_TEST or 'mean' not in figures:
      continue
    ours, parts = mean if selection == LAST_EPOCH else None, []
    for metric, title in HEADLINES.items():
      if (value := figures['mean'][metric]) is not None:
        less = _less(ours, metric, value)
        said = '' if less == UNDEFINED else f' (ours {less})'
        parts.append(f'{title} {_figure(source, value)}{said}')
    found.append(f'Mean, {selection}, {source}: {", ".join(parts)}.')
  return found
