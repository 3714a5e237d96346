"""What a page shows of each category: charts, and test images with verdicts."""

import base64
import collections
import contextlib
import dataclasses
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from simplenet_jax.detection import file
from simplenet_jax.evaluation import metrics, results, run_files
from simplenet_jax.files import read_json

COLOURS = ('#3d85d1', '#d9772b', '#2f9e62', '#a463c9', '#d0483f', '#7b858f')
_GOOD, _BAD, _THRESHOLD = COLOURS[2], COLOURS[4], COLOURS[5]
_INK = '#808890'  # Readable on light and on dark pages.
_LARGEST = 1e30  # Matplotlib's sums of larger values overflow.
_STYLE: dict[Any, Any] = {
  'svg.fonttype': 'none',
  'svg.hashsalt': 'simplenet',  # The same results make the same bytes.
  'font.size': 9,
  'text.color': _INK,
  'axes.labelcolor': _INK,
  'axes.edgecolor': _INK,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'xtick.color': _INK,
  'ytick.color': _INK,
}
# How reading ends where something is missing, or is of another kind.
_LACKING = (
  *(ValueError, LookupError, TypeError, AttributeError, OverflowError),
  jinja2.UndefinedError,
)


class DamagedError(ValueError):
  """A file that holds something else than it should; the message names it."""


@contextlib.contextmanager
def told(path: Path | str) -> Iterator[None]:
  """Raises whatever a file lacks as one line that names it."""
  try:
    yield
  except (DamagedError, results.NotJoinedError):
    raise
  except _LACKING as error:
    raise DamagedError(
      f'{path}: damaged ({type(error).__name__}: {error}); delete it and start '
      'the run again'
    ) from None


class Chart(NamedTuple):
  """A chart: its title, an address that holds it, and its colours' meanings."""

  title: str
  address: str
  keys: Sequence[tuple[str, str]] = ()


@dataclasses.dataclass
class Section:
  """One category's part of a page; see the template for how it is shown."""

  name: str
  notes: list[str] = dataclasses.field(default_factory=list)
  charts: list[Chart] = dataclasses.field(default_factory=list)
  verdicts: str = ''  # The threshold's origin and what the verdicts come to.
  images: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  # What images can be filtered by: a value, its name and how many.
  kinds: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)
  outlined: bool = False  # Whether what was found is outlined.
  whose: str = ''  # Whose scores and maps are shown.


def read(workdir: Path, name: str) -> Section:
  """Reads a category's part from what a run left.

  Raises:
    ValueError: If a file is damaged.
  """
  section = Section(name)
  with told(workdir / 'curves' / f'{name}.csv'):
    if courses := run_files.read_curves(workdir, name):
      drawn = lines('epoch', 'loss', [one[:, :2] for one in courses.values()])
      section.charts.append(Chart('Loss by epoch', drawn, _keys(courses)))
  path = run_files.report_path(workdir, name)
  if path.is_file():
    threshold = _detector_threshold(workdir, name)
    with told(path):
      _add_images(section, read_json(path), threshold)
  else:
    section.notes.append(
      'No test images, or the run was told to leave nothing for this page '
      '(--noconfig.evaluation.report).'
    )
  return section


def _add_images(
  section: Section, found: Any, detector_threshold: tuple[float, str] | None
) -> None:
  images = sorted(found['images'], key=lambda one: -one['score'])
  labels = np.array([bool(one['label']) for one in images])
  scores = np.array([one['score'] for one in images], np.float64)
  best = metrics.best_f1(labels, scores)[1]
  threshold, origin = detector_threshold or (
    best,
    'the best F1 on these very images: chosen on test',
  )
  for one in images:
    one['verdict'] = _verdict(one, threshold)
  section.verdicts = (
    'No threshold: the test images are of one kind.'
    if threshold is None
    else f'Threshold {threshold:.3f}, {origin}. At it {_outcome(images)}.'
  )
  section.whose = run_files.describe_seeds(found['seeds'])
  keys = [(_GOOD, 'good'), (_BAD, 'defective')]
  keys += [] if threshold is None else [(_THRESHOLD, 'threshold')]
  drawn = histogram(scores[~labels], scores[labels], threshold)
  section.charts.append(Chart('Scores', drawn, keys))
  if best is None:
    section.notes.append(
      'Test images of one kind only: no ROC curve, no AUROC.'
    )
  else:
    x, y = 'false positive rate', 'true positive rate'
    seeds = zip(*(one['scores'] for one in images), strict=True)
    curves = [np.stack(roc_curve(labels, one)[:2], 1) for one in seeds]
    drawn = lines(x, y, curves, right=1, top=1.02)
    section.charts.append(Chart('ROC', drawn, _keys(found['seeds'])))
  if found['pro'] is None:
    section.notes.append('No masks: what is measured in pixels is undefined.')
  else:
    x, y = 'false positive rate of pixels', 'mean overlap of regions'
    drawn = lines(x, y, [found['pro']], right=0.3, top=1.02)
    section.charts.append(Chart('PRO, mean map', drawn))
  section.outlined = found['pixel_threshold'] is not None
  section.images = [one for one in images if 'picture' in one]
  section.kinds = _kinds(section.images)
  if len(section.images) < len(images):
    section.notes.append(
      f'Shown are {len(section.images)} of {len(images)} test images: the good '
      'ones that score highest and the defective ones that score lowest. '
      'Curves and figures are of all.'
    )


def _verdict(image: dict[str, Any], threshold: float | None) -> str:
  if threshold is None:
    return ''
  words = ('miss', 'found') if image['label'] else ('passed', 'false alarm')
  return words[image['score'] > threshold]


def _outcome(images: Sequence[dict[str, Any]]) -> str:
  counts = collections.Counter(one['verdict'] for one in images)
  parts = []
  if bad := counts['found'] + counts['miss']:
    parts.append(f'{counts["found"]} of {bad} defective images are found')
  if good := counts['passed'] + counts['false alarm']:
    parts.append(f'{counts["false alarm"]} of {good} good ones raise an alarm')
  return ', '.join(parts)


def _kinds(images: Sequence[dict[str, Any]]) -> list[tuple[str, str, int]]:
  """Returns what the images can be filtered by, errors first."""
  verdicts = collections.Counter(one['verdict'] for one in images)
  defects = collections.Counter(one['defect'] for one in images)
  errors = (('miss', 'misses'), ('false alarm', 'false alarms'))
  return [
    *((f'v:{one}', name, verdicts[one]) for one, name in errors if verdicts),
    *((f'd:{name}', name, defects[name]) for name in sorted(defects)),
  ]


def _detector_threshold(workdir: Path, name: str) -> tuple[float, str] | None:
  """Returns the threshold of a category's detector and where it is from."""
  path = workdir / 'detectors' / f'{name}{file.SUFFIX}'
  if not path.is_file():
    return None
  try:
    held = file.read_card(path).thresholds
  except ValueError as error:  # It names the file.
    raise DamagedError(str(error)) from None
  if held.image is None:
    return None
  kind = f'from {held.images} good images that were held out'
  origin = 'set by hand' if 'image' in held.manual else kind
  return held.image, f"the detector's, {origin}"


def _keys(seeds: Iterable[object]) -> list[tuple[str, str]]:
  """Returns what tells a few seeds' curves apart; many share their colours."""
  names = [f'seed {seed}' for seed in seeds]
  few = 1 < len(names) <= len(COLOURS)
  return list(zip(COLOURS, names, strict=False)) if few else []


def lines(
  x_label: str,
  y_label: str,
  curves: Iterable[Any],
  *,
  right: float | None = None,
  top: float | None = None,
) -> str:
  """Draws curves of points `(x, y)`, from zero; returns an SVG's address."""
  with mpl.rc_context(_STYLE):
    figure, axes = _figure(x_label, y_label)
    for number, curve in enumerate(curves):
      points = _finite(curve).reshape(-1, 2)
      colour = COLOURS[number % len(COLOURS)]
      axes.plot(*points.T, color=colour, linewidth=1.4)
    axes.set(xlim=(0, right), ylim=(0, top))
    return _address(figure)


def histogram(
  good: np.ndarray, defective: np.ndarray, threshold: float | None
) -> str:
  """Draws how scores are distributed; returns an SVG's address."""
  parts = [_finite(good), _finite(defective)]
  edges = np.histogram_bin_edges(np.concatenate(parts), 24)
  with mpl.rc_context(_STYLE):
    figure, axes = _figure('image score', 'images')
    for scores, colour in zip(parts, (_GOOD, _BAD), strict=True):
      axes.hist(scores, edges.tolist(), color=colour, alpha=0.6)
    if threshold is not None:
      axes.axvline(float(_finite(threshold)), color=_THRESHOLD, linestyle='--')
    return _address(figure)


def _finite(values: object) -> np.ndarray:
  array = np.asarray(values, np.float64)
  if not np.isfinite(array).all():
    raise ValueError('a chart has values that are not finite')
  return array.clip(-_LARGEST, _LARGEST)


def _figure(x_label: str, y_label: str) -> tuple[Figure, Axes]:
  figure = Figure(figsize=(4, 2.6))
  # Not Matplotlib's own layout, which takes longer than all else.
  axes = figure.add_axes((0.15, 0.18, 0.82, 0.78))
  axes.set(xlabel=x_label, ylabel=y_label)
  axes.grid(axis='y', color=_INK, alpha=0.25)
  return figure, axes


def _address(figure: Figure) -> str:
  data = io.BytesIO()
  figure.savefig(data, format='svg', transparent=True, metadata={'Date': None})
  encoded = base64.b64encode(data.getvalue()).decode()
  return f'data:image/svg+xml;base64,{encoded}'
