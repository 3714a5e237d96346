"""A run's results, and the large table."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2

from simplenet_jax.evaluation import earlier, tables
from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.files import read_json

UNDEFINED = '–'  # noqa: RUF001
METRICS = {
  'image_auroc': 'I-AUROC',
  'image_ap': 'I-AP',
  'pixel_auroc': 'P-AUROC',
  'pixel_ap': 'P-AP',
  'aupro_30': 'AUPRO',
}
PAIR = ('image_auroc', 'pixel_auroc')
_KEYS = (
  *('protocol', 'config', 'weights', 'versions', 'device', 'wall_seconds'),
  *('selection_rule', 'categories', 'mean', 'selected_on_test', 'published'),
)
# How it ends where something is not there, or is of another kind.
_LACKING = (
  *(ValueError, LookupError, TypeError, AttributeError, OverflowError),
  jinja2.UndefinedError,
)


@dataclasses.dataclass(frozen=True)
class Cell:
  """A figure in a table.

  Attributes:
    text: How it is shown.
    value: What it is sorted by, if it is defined.
    deviation: Over seeds, where there are several.
  """

  text: str
  value: float | None = None
  deviation: str = ''


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of the table: where its figures come from, and which they are."""

  source: str
  selection: str
  metric: str


def read(workdir: Path) -> dict[str, Any]:
  """Reads a run's results.

  Args:
    workdir: Its directory.

  Raises:
    FileNotFoundError: If there is no `results.json`.
    ValueError: If that is damaged.
  """
  path = workdir / 'results.json'
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: missing; name the work directory of a run of '
      'simplenet_jax.main that has finished a category'
    )
  with told(path):
    found = read_json(path)
    # What all that follows needs; a file of something else lacks it.
    for key in _KEYS:
      found[key]
    for one in found['categories'].values():
      one['last']['image_auroc']['seeds']
    return earlier.read_as_now(found)


class DamagedError(ValueError):
  """A file that holds something else than it should; names it."""


@contextlib.contextmanager
def told(path: Path | str) -> Iterator[None]:
  """Has whatever a file lacks end in one line that names it."""
  try:
    yield
  except DamagedError:  # Of a file that was read meanwhile.
    raise
  except _LACKING as error:
    raise DamagedError(
      f'{path}: damaged ({type(error).__name__}: {error}); delete it and start '
      'the run again'
    ) from None


def rows(results: dict[str, Any]) -> list[str]:
  """Returns the categories, and their mean where there are several."""
  names = list(results['categories'])
  return [*names, 'mean'] if len(names) > 1 else names


def table(
  results: dict[str, Any],
) -> tuple[list[Column], dict[str, list[Cell]]]:
  """Returns the columns of the large table, and its cells by row.

  Differences are taken only between figures that were selected alike. There
  are no columns where nothing was measured.
  """
  names, ours = rows(results), tables.by_selection(results)
  columns: list[Column] = []
  cells: dict[str, list[Cell]] = {name: [] for name in names}

  def add(column: Column, found: Sequence[Cell], always=False) -> None:
    if always or any(cell.value is not None for cell in found):
      columns.append(column)
      for name, cell in zip(names, found, strict=True):
        cells[name].append(cell)

  last = ours[LAST_EPOCH]
  measured = any(
    last[name][metric]['mean'] is not None
    for name in names
    for metric in METRICS
  )
  for metric, title in METRICS.items():
    found = [spread(last[n][metric]) for n in names]
    add(Column('ours', LAST_EPOCH, title), found, always=measured)
  best = ours.get(SELECTED_ON_TEST, {})
  for metric in PAIR:
    found = [spread(best[n][metric]) if n in best else _NONE for n in names]
    add(Column('ours', SELECTED_ON_TEST, METRICS[metric]), found)
  for source in dict.fromkeys(row['table'] for row in results['published']):
    _add_published(results, source, names, ours, add)
  return columns, cells


_NONE = Cell(UNDEFINED)


def _add_published(results, source, names, ours, add) -> None:
  theirs = {
    row['category']: row
    for row in results['published']
    if row['table'] == source
  }
  selection = next(iter(theirs.values()))['selection']
  alike = ours.get(selection, {})
  for metric in PAIR:
    values = [
      theirs.get(n, {'percent': {}})['percent'].get(metric) for n in names
    ]
    add(
      Column(source, selection, METRICS[metric]),
      [_NONE if v is None else Cell(f'{v:.1f}', v) for v in values],
    )
    means = [alike.get(n, {}).get(metric, {}).get('mean') for n in names]
    add(
      Column(f'ours - {source}', selection, METRICS[metric]),
      [
        _NONE
        if mean is None or value is None
        else Cell(f'{100 * mean - value:+.1f}', 100 * mean - value)
        for mean, value in zip(means, values, strict=True)
      ],
    )


def spread(summary: dict[str, Any]) -> Cell:
  """Returns a summary over seeds in percent, with its deviation."""
  mean, std = summary['mean'], summary['std']
  if mean is None:
    return _NONE
  return Cell(
    f'{100 * mean:.1f}', 100 * mean, '' if std is None else f'{100 * std:.1f}'
  )
