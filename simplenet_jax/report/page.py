"""The page of a run, or of several that join: one file, complete in itself."""

import base64
import collections
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from simplenet_jax.config import flatten
from simplenet_jax.console import duration
from simplenet_jax.detection import file
from simplenet_jax.evaluation import (
  limits,
  metrics,
  results,
  run_files,
  tables,
)
from simplenet_jax.files import naming, read_json, write_text
from simplenet_jax.pictures import Scale

NAME = 'report.html'
_COLOURS = ('#3d85d1', '#d9772b', '#2f9e62', '#a463c9', '#d0483f', '#7b858f')
_INK = '#808890'  # Readable on light and on dark pages.
_STYLE: dict[Any, Any] = {
  'svg.fonttype': 'none',
  'svg.hashsalt': 'simplenet',  # The same results make the same bytes.
  'font.size': 9,
  **{f'axes.spines.{side}': False for side in ('top', 'right')},
  **dict.fromkeys(('text.color', 'axes.labelcolor', 'axes.edgecolor'), _INK),
  **dict.fromkeys(('xtick.color', 'ytick.color'), _INK),
}


def write(*workdirs: Path, output: Path | None = None) -> Path:
  """Writes the page of one run, or the joined page of several.

  Returns where it is: in `output`, or report.html in the first directory. Runs
  that lack results, are damaged or cannot be joined raise an error.
  """
  found = {str(workdir): results.read(workdir) for workdir in workdirs}
  template = jinja2.Environment(
    loader=jinja2.PackageLoader('simplenet_jax.report'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  ).get_template('page.html.j2')
  paths = ' or '.join(f'{name}/results.json' for name in found)
  with naming(paths), mpl.rc_context(_STYLE):
    table = results.join(found)
    names = [Path(name).resolve().name for name in found]
    parts = list(table['categories'])
    every = Scale(0, 1).colours(np.linspace(0, 1, 256))
    text = template.render(
      title=parts[0] if len(parts) == 1 else ', '.join(names),
      results=table,
      duration=duration,
      settings={
        **flatten(table['config']),
        'sha256 of the weights': table['weights']['sha256'][:16],
        **flatten(table['device'], 'device, '),
        **flatten(table['versions'], 'version of '),
      },
      at_limits=_grouped(limits.columns(table), parts),
      figures=_grouped(tables.columns(table), tables.rows(table)),
      sections=[
        section(Path(run), category, result)
        for run, one in found.items()
        for category, result in one['categories'].items()
      ],
      colours=base64.b64encode(every.tobytes()).decode(),
      headlines=metrics.HEADLINES.values(),
      notes=tables.notes(table),
    )
  output = output or workdirs[0] / NAME
  write_text(output, text, 'backslashreplace')  # Names need not be text.
  return output


def _grouped(
  columns: Iterable[limits.Column], rows: Sequence[str]
) -> dict[str, Any] | None:
  """Returns a table for the template, without columns that say nothing."""
  shown = [one for one in columns if set(one.cells) != {limits.UNDEFINED}]
  heads = collections.Counter(', '.join(one[:2]) for one in shown)
  cells = zip(*(one.cells for one in shown), strict=True)
  body = list(zip(rows, cells, strict=True)) if shown else []
  titles = [one.title for one in shown]
  return {'heads': heads, 'titles': titles, 'rows': body} if shown else None


def section(
  workdir: Path, name: str, result: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns what the template shows of a category that a run left."""
  charts, path = [], workdir / 'curves' / f'{name}.csv'
  with naming(path):
    if losses := run_files.read_losses(workdir, name):
      curves = [list(enumerate(one, 1)) for one in losses.values()]
      charts.append(_lines('Loss by epoch', 'epoch', 'loss', curves, losses))
  data, detector = {}, file.path_in(workdir, name)
  path = run_files.path_in(workdir, name)
  if path.is_file():
    data = read_json(path)
  with naming(path):
    images, good = data.get('images', []), data.get('good', [])
    limit = _limit(workdir, name, result, data)
    tested = [(one['score'], one['label'], one['defect']) for one in images]
    labels = np.array([bool(label) for _, label, _ in tested])
    rate = 'false positive rate'
    if tested and 0 < labels.sum() < len(labels):
      seeds = zip(*(one['scores'] for one in images), strict=True)
      curves = [np.stack(roc_curve(labels, one)[:2], 1) for one in seeds]
      title = 'true positive rate'
      charts.append(_lines('ROC', rate, title, curves, data['seeds'], 1))
    if data.get('pro') is not None:
      title, curve = 'mean overlap of regions', [data['pro']]
      charts.append(_lines('PRO, mean map', rate, title, curve, (), 0.3))
    # Those that earlier versions left have other maps, and no 'top'.
    shown, kept = (
      [one | {'top': float(one['top'])} for one in rows if 'picture' in one]
      for rows in (images, good)
    )
    return {
      'name': name,
      'result': result,
      'charts': charts,
      'limit': limit,
      'whose': data.get('whose'),
      'command': detector.is_file() and file.command(detector.with_suffix('')),
      'good': kept,
      'images': shown,
      'total': len(images),
      'has_masks': any(one['truth'] for one in shown),
      'defects': tables.defects(result),
      'data': {
        'scores': tested,
        'held': [one['score'] for one in good],
        'scale': data.get('scale'),
        'image': limit['image'],
        'pixel': limit['pixel'],
      },
    }


def _limit(
  workdir: Path, name: str, result: Mapping[str, Any], data: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns a category's limits; where it has none, those chosen on test."""
  own = {'note': '', **result.get('threshold', {})}
  path = file.path_in(workdir, name)
  if path.is_file():
    with naming(path):
      now = file.read_card(path).thresholds.summary()
    changed = any(own.get(at, now[at]) != now[at] for at in ('image', 'pixel'))
    note = 'The detector has other limits now than when it was trained.'
    own = {**now, 'note': note if changed else ''}
  if own.get('image') is not None:
    return own
  image, pixel = data.get('selected_on_test', (None, None))
  told = 'limit: the best F1 on these very images, chosen on test: it flatters'
  told = [told] if image is not None else own.get('told', [])
  return {'image': image, 'pixel': pixel, 'told': told, 'note': ''}


def _lines(
  title: str,
  x_label: str,
  y_label: str,
  curves: Iterable[Any],
  seeds: Iterable[object],
  right: float | None = None,
) -> dict[str, Any]:
  """Returns a chart of curves of points `(x, y)`, from zero, one per seed."""
  # Not Matplotlib's own layout, which takes longer than all else.
  figure = Figure(figsize=(4, 2.6))
  axes = figure.add_axes((0.15, 0.18, 0.82, 0.78))
  axes.grid(axis='y', color=_INK, alpha=0.25)
  for number, curve in enumerate(curves):
    colour = _COLOURS[number % len(_COLOURS)]
    axes.plot(*np.transpose(curve), color=colour, linewidth=1.4)
  axes.set(xlabel=x_label, ylabel=y_label)
  axes.set(xlim=(0, right), ylim=(0, right and 1.02))
  options = {'transparent': True, 'metadata': {'Date': None}}
  address = run_files.as_url(figure.savefig, 'svg', **options)
  names = [f'seed {seed}' for seed in seeds]
  few = 1 < len(names) <= len(_COLOURS)  # Many share their colours.
  keys = list(zip(_COLOURS, names, strict=False)) if few else []
  return {'title': title, 'address': address, 'colours': keys}
