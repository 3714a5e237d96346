"""What a page shows, read from a work directory."""

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from simplenet_jax.evaluation import evidence, tables
from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.inference import file
from simplenet_jax.report import charts

UNDEFINED = '–'  # noqa: RUF001
METRICS = {
  'image_auroc': 'I-AUROC',
  'image_ap': 'I-AP',
  'pixel_auroc': 'P-AUROC',
  'pixel_ap': 'P-AP',
  'aupro_30': 'AUPRO',
}
PAIR = ('image_auroc', 'pixel_auroc')


@dataclasses.dataclass(frozen=True)
class Cell:
  """A figure in a table: how it is shown, and what it is sorted by."""

  text: str
  value: float | None = None


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of the table: where its figures come from, and which they are."""

  source: str
  selection: str
  metric: str


@dataclasses.dataclass(frozen=True)
class Threshold:
  """Where an image's score becomes a verdict, and why there."""

  value: float | None
  why: str


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
  return _json(path)


def _json(path: Path) -> Any:
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(
      f'{path}: damaged ({error}); delete it and start the run again'
    ) from None


def rows(results: dict[str, Any]) -> list[str]:
  """Returns the categories, and their mean where there are several."""
  names = list(results['categories'])
  return [*names, 'mean'] if len(names) > 1 else names


def table(
  results: dict[str, Any],
) -> tuple[list[Column], dict[str, list[Cell]]]:
  """Returns the columns of the large table, and its cells by row.

  Differences are taken only between figures that were selected alike.
  """
  names, ours = rows(results), tables.by_selection(results)
  columns: list[Column] = []
  cells: dict[str, list[Cell]] = {name: [] for name in names}

  def add(column: Column, found: Sequence[Cell]) -> None:
    if any(cell.value is not None for cell in found):
      columns.append(column)
      for name, cell in zip(names, found, strict=True):
        cells[name].append(cell)

  for metric, title in METRICS.items():
    last = ours[LAST_EPOCH]
    add(
      Column('ours', LAST_EPOCH, title),
      [spread(last[n][metric]) for n in names],
    )
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
  text = f'{100 * mean:.1f}'
  return Cell(text if std is None else f'{text} ± {100 * std:.1f}', 100 * mean)


@dataclasses.dataclass(frozen=True)
class Section:
  """One category's part of a page."""

  name: str
  notes: list[str]
  charts: list[tuple[str, Markup]]
  threshold: Threshold
  images: list[dict[str, Any]]
  defects: list[str]


def section(workdir: Path, name: str) -> Section:
  """Reads a category's part.

  Args:
    workdir: The run's directory.
    name: The category's.

  Raises:
    ValueError: If what the run left is damaged.
  """
  drawn, notes = [], []
  if losses := course(workdir, name):
    most = max(value for curve in losses.values() for _, value in curve)
    last = max(epoch for curve in losses.values() for epoch, _ in curve)
    x = charts.Axis('epoch', 0, max(last, 2))
    y = charts.Axis('loss', 0, max(most, 1e-9) * 1.05)
    seeds = [f'seed {seed}' for seed in losses]
    title = f'Loss by epoch, {name}'
    curves = list(losses.values())
    drawn.append(('Loss by epoch', charts.lines(title, x, y, curves, seeds)))
  path = evidence.path(workdir, name)
  if not path.is_file():
    notes.append(
      'No test images, or the run was told to leave nothing for this page '
      '(--noconfig.evaluation.report).'
    )
    return Section(name, notes, drawn, Threshold(None, ''), [], [])
  found = _json(path)
  threshold = _threshold(workdir, name, found)
  images = sorted(found['images'], key=lambda one: -one['score'])
  for one in images:
    one['verdict'] = verdict(one, threshold.value)
  drawn += _score_charts(name, found, images, threshold)
  if found['roc'][0] is None:
    notes.append('Test images of one kind only: no ROC curve, no AUROC.')
  if found['pro'] is None:
    notes.append('No masks: what is measured in pixels is undefined.')
  defects = sorted({one['defect'] for one in images})
  return Section(name, notes, drawn, threshold, images, defects)


def _score_charts(name, found, images, threshold):
  good = [one['score'] for one in images if not one['label']]
  bad = [one['score'] for one in images if one['label']]
  yield (
    'Image scores',
    charts.histogram(f'Image scores, {name}', good, bad, threshold.value),
  )
  seeds = [f'seed {seed}' for seed in found['seeds']]
  if found['roc'][0] is not None:
    x = charts.Axis('false positive rate', 0, 1)
    y = charts.Axis('true positive rate', 0, 1)
    yield 'ROC, images', charts.lines(f'ROC, {name}', x, y, found['roc'], seeds)
  if found['pro'] is not None:
    x = charts.Axis('false positive rate of pixels', 0, 0.3)
    y = charts.Axis('mean overlap of regions', 0, 1)
    yield 'PRO', charts.lines(f'PRO curve, {name}', x, y, [found['pro']])


def course(workdir: Path, name: str) -> dict[str, list[tuple[int, float]]]:
  """Returns the loss by epoch, by seed; nothing where it was not written."""
  path = workdir / 'curves' / f'{name}.csv'
  if not path.is_file():
    return {}
  found: dict[str, list[tuple[int, float]]] = {}
  with path.open(newline='') as lines:
    for row in csv.DictReader(lines):
      point = (int(row['epoch']), float(row['loss']))
      found.setdefault(row['seed'], []).append(point)
  return found


def verdict(image: dict[str, Any], threshold: float | None) -> str:
  """Returns 'miss', 'false alarm', 'found', 'passed', or nothing."""
  if threshold is None:
    return ''
  flagged = image['score'] > threshold
  if image['label']:
    return 'found' if flagged else 'miss'
  return 'false alarm' if flagged else 'passed'


def _threshold(workdir: Path, name: str, found: dict[str, Any]) -> Threshold:
  path = workdir / 'detectors' / f'{name}{file.SUFFIX}'
  if path.is_file():
    held = file.read_card(path).thresholds
    if held.image is not None:
      kind = (
        'set by hand'
        if 'image' in held.by_hand
        else (f'from {held.images} good images that were held out')
      )
      return Threshold(held.image, f"the detector's, {kind}")
  if found['threshold'] is None:
    return Threshold(None, 'none: the test images are of one kind')
  return Threshold(
    found['threshold'], 'the best F1 on these very images: chosen on test'
  )
