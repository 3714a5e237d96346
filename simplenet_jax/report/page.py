"""The page of a run, or of several that join: one file, complete in itself."""

import base64
import collections
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import jinja2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from simplenet_jax.config import flatten
from simplenet_jax.console import duration
from simplenet_jax.detection import file, thresholds
from simplenet_jax.evaluation import metrics, results, run_files, tables
from simplenet_jax.files import atomic_write, naming, read_json

NAME = 'report.html'
_COLOURS = ('#3d85d1', '#d9772b', '#2f9e62', '#a463c9', '#d0483f', '#7b858f')
_GOOD, _BAD, _THRESHOLD = _COLOURS[2], _COLOURS[4], _COLOURS[5]
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
    columns = tables.columns(table)
    cells = [column.cells for column in columns]
    names = [Path(name).resolve().name for name in found]
    text = template.render(
      title=', '.join(names) if len(found) > 1 else table['config']['name'],
      results=table,
      duration=duration,
      settings={
        **flatten(table['config']),
        'sha256 of the weights': table['weights']['sha256'][:16],
        **flatten(table['device'], 'device, '),
        **flatten(table['versions'], 'version of '),
      },
      columns=columns,
      rows=zip(tables.rows(table), zip(*cells, strict=True), strict=False),
      sections=[
        section(Path(run), category)
        for run, one in found.items()
        for category in one['categories']
      ],
      headlines=metrics.HEADLINES,
      notes=tables.notes(table),
      defects=tables.defects,
    )
  output = output or workdirs[0] / NAME
  with atomic_write(output) as aside:
    # Names of files need not be text.
    aside.write_text(text, encoding='utf-8', errors='backslashreplace')
  return output


def section(workdir: Path, name: str) -> dict[str, Any]:
  """Returns what the template shows of a category that a run left."""
  found = {'name': name, 'charts': [], 'images': []}
  with naming(workdir / 'curves' / f'{name}.csv'):
    if losses := run_files.read_losses(workdir, name):
      curves = [list(enumerate(one, 1)) for one in losses.values()]
      chart = _lines('Loss by epoch', 'epoch', 'loss', curves, losses)
      found['charts'].append(chart)
  path = run_files.report_path(workdir, name)
  if not path.is_file():
    return found
  held, detector = thresholds.Thresholds(), file.path_in(workdir, name)
  if detector.is_file():
    with naming(detector):
      held = file.read_card(detector).thresholds
  with naming(path):
    _add_images(found, read_json(path), held.image)
  return found | {'held': held}


def _add_images(
  section: dict[str, Any], data: Any, threshold: float | None
) -> None:
  """Adds charts of all test images, and those that are shown with verdicts."""
  images = sorted(data['images'], key=lambda one: -one['score'])
  labels = np.array([bool(one['label']) for one in images])
  scores = np.array([one['score'] for one in images], np.float64)
  best = metrics.best_f1(labels, scores)[1]
  threshold = best if threshold is None else threshold
  for one in images:
    words = ('miss', 'found') if one['label'] else ('passed', 'false alarm')
    known = threshold is not None
    one['verdict'] = words[one['score'] > threshold] if known else ''
  rate, charts = 'false positive rate', section['charts']
  charts.append(_histogram(scores, labels, threshold))
  if best is not None:
    seeds = zip(*(one['scores'] for one in images), strict=True)
    curves = [np.stack(roc_curve(labels, one)[:2], 1) for one in seeds]
    chart = _lines('ROC', rate, 'true positive rate', curves, data['seeds'], 1)
    charts.append(chart)
  if data['pro'] is not None:
    overlap = 'mean overlap of regions'
    chart = _lines('PRO, mean map', rate, overlap, [data['pro']], (), 0.3)
    charts.append(chart)
  section.update(
    images=[one for one in images if 'picture' in one],
    total=len(images),
    defective=int(labels.sum()),
    verdicts=collections.Counter(one['verdict'] for one in images),
    threshold=threshold,
    has_masks=data['pro'] is not None,
    whose=data['whose'],
    outlined=data['pixel_threshold'] is not None,
    origin=data.get('pixel_origin', 'best F1, chosen on test'),
  )


def _lines(
  title: str,
  x_label: str,
  y_label: str,
  curves: Iterable[Any],
  seeds: Iterable[object],
  right: float | None = None,
) -> dict[str, Any]:
  """Returns a chart of curves of points `(x, y)`, from zero, one per seed."""
  axes = _axes(x_label, y_label)
  for number, curve in enumerate(curves):
    colour = _COLOURS[number % len(_COLOURS)]
    axes.plot(*np.transpose(curve), color=colour, linewidth=1.4)
  axes.set(xlim=(0, right), ylim=(0, right and 1.02))
  names = [f'seed {seed}' for seed in seeds]
  few = 1 < len(names) <= len(_COLOURS)  # Many share their colours.
  return _chart(title, axes, zip(_COLOURS, names, strict=False) if few else ())


def _histogram(
  scores: np.ndarray, labels: np.ndarray, threshold: float | None
) -> dict[str, Any]:
  """Returns a chart of how the scores of both kinds are distributed."""
  axes = _axes('image score', 'images')
  edges = np.histogram_bin_edges(scores, 24).tolist()
  colours = [(_GOOD, 'good'), (_BAD, 'defective')]
  for part, (colour, _) in zip((~labels, labels), colours, strict=True):
    axes.hist(scores[part], edges, color=colour, alpha=0.6)
  if threshold is not None:
    axes.axvline(threshold, color=_THRESHOLD, linestyle='--')
    colours.append((_THRESHOLD, 'threshold'))
  return _chart('Scores', axes, colours)


def _axes(x_label: str, y_label: str) -> Axes:
  # Not Matplotlib's own layout, which takes longer than all else.
  axes = Figure(figsize=(4, 2.6)).add_axes((0.15, 0.18, 0.82, 0.78))
  axes.set(xlabel=x_label, ylabel=y_label)
  axes.grid(axis='y', color=_INK, alpha=0.25)
  return axes


def _chart(
  title: str, axes: Axes, colours: Iterable[tuple[str, str]]
) -> dict[str, Any]:
  """Returns what the template shows of a chart: an SVG, and its colours."""
  data, options = io.BytesIO(), {'metadata': {'Date': None}}
  figure = cast(Any, axes.get_figure())
  figure.savefig(data, format='svg', transparent=True, **options)
  encoded = base64.b64encode(data.getvalue()).decode()
  address = f'data:image/svg+xml;base64,{encoded}'
  return {'title': title, 'address': address, 'colours': list(colours)}
