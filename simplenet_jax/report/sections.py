"""What a page shows of each category."""

import collections
import csv
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from simplenet_jax.detection import file
from simplenet_jax.evaluation import run_files
from simplenet_jax.files import read_json
from simplenet_jax.report import charts, contents


@dataclasses.dataclass(frozen=True)
class Threshold:
  """Where an image's score becomes a verdict, and why there."""

  value: float | None
  why: str


@dataclasses.dataclass(frozen=True)
class Chart:
  """A chart, its title and what its colours mean: a CSS class and a name."""

  title: str
  drawn: Markup
  keys: list[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Section:
  """One category's part of a page.

  Attributes:
    name: Of the category.
    notes: What is not there, and why.
    charts: What it has to show in curves.
    threshold: For verdicts.
    outcome: What the verdicts come to, in words.
    images: The test images with pictures, highest score first.
    kinds: What they can be filtered by: a value, its name and how many.
    drawn: Whether what was found is outlined, for which masks are needed.
    whose: Whose scores and maps are shown.
  """

  name: str
  notes: list[str]
  charts: list[Chart]
  threshold: Threshold = dataclasses.field(
    default_factory=lambda: Threshold(None, '')
  )
  outcome: str = ''
  images: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  kinds: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)
  drawn: bool = False
  whose: str = ''


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
    drawn.append(_loss_chart(name, losses))
  path = run_files.report_path(workdir, name)
  if not path.is_file():
    notes.append(
      'No test images, or the run was told to leave nothing for this page '
      '(--noconfig.evaluation.report).'
    )
    return Section(name, notes, drawn)
  threshold = _detectors_threshold(workdir, name)
  with contents.told(path):
    found = read_json(path)
    threshold = threshold or _chosen_on_test(found)
    images = sorted(found['images'], key=lambda one: -one['score'])
    for one in images:
      one['verdict'] = verdict(one, threshold.value)
    drawn += _score_charts(name, found, images, threshold)
    if found['roc'][0] is None:
      notes.append('Test images of one kind only: no ROC curve, no AUROC.')
    if found['pro'] is None:
      notes.append('No masks: what is measured in pixels is undefined.')
    pictured = [one for one in images if 'picture' in one]
    if len(pictured) < len(images):
      notes.append(
        f'Shown are {len(pictured)} of {len(images)} test images: the good '
        'ones that score highest and the defective ones that score lowest. '
        'Curves and figures are of all.'
      )
    return Section(
      name,
      notes,
      drawn,
      threshold,
      _outcome(images),
      pictured,
      _kinds(pictured),
      found['pixel_threshold'] is not None,
      run_files.describe_seeds(found['seeds']),
    )


def _outcome(images: Sequence[dict[str, Any]]) -> str:
  """Returns how many images of each kind the verdicts are right about."""
  counts = collections.Counter(one['verdict'] for one in images)
  bad = counts['found'] + counts['miss']
  good = counts['passed'] + counts['false alarm']
  parts = []
  if bad:
    parts.append(f'{counts["found"]} of {bad} defective images are found')
  if good:
    parts.append(f'{counts["false alarm"]} of {good} good ones raise an alarm')
  return ', '.join(parts)


def _kinds(images: Sequence[dict[str, Any]]) -> list[tuple[str, str, int]]:
  """Returns what images can be filtered by; errors first, if there are any."""
  verdicts = collections.Counter(one['verdict'] for one in images)
  defects = collections.Counter(one['defect'] for one in images)
  errors = (('miss', 'misses'), ('false alarm', 'false alarms'))
  return [
    *((f'v:{one}', name, verdicts[one]) for one, name in errors if verdicts),
    *((f'd:{name}', name, defects[name]) for name in sorted(defects)),
  ]


def _loss_chart(name: str, losses: dict[str, list[tuple[int, float]]]) -> Chart:
  most = max(value for curve in losses.values() for _, value in curve)
  last = max(epoch for curve in losses.values() for epoch, _ in curve)
  x = charts.Axis('epoch', 0, max(last, 2))
  y = charts.Axis('loss', 0, max(most, 1e-9) * 1.05)
  seeds = [f'seed {seed}' for seed in losses]
  curves = list(losses.values())
  drawn = charts.lines(f'Loss by epoch, {name}', x, y, curves, seeds)
  return Chart('Loss by epoch', drawn, _keys(seeds))


def _score_charts(name, found, images, threshold) -> Iterator[Chart]:
  good = [one['score'] for one in images if not one['label']]
  bad = [one['score'] for one in images if one['label']]
  drawn = charts.histogram(f'Image scores, {name}', good, bad, threshold.value)
  keys = [('good', 'good'), ('bad', 'defective')]
  if threshold.value is not None:
    keys.append(('limit', 'threshold'))
  yield Chart('Scores', drawn, keys)
  seeds = [f'seed {seed}' for seed in found['seeds']]
  if found['roc'][0] is not None:
    x = charts.Axis('false positive rate', 0, 1)
    y = charts.Axis('true positive rate', 0, 1)
    drawn = charts.lines(f'ROC, {name}', x, y, found['roc'], seeds)
    yield Chart('ROC', drawn, _keys(seeds))
  if found['pro'] is not None:
    x = charts.Axis('false positive rate of pixels', 0, 0.3)
    y = charts.Axis('mean overlap of regions', 0, 1)
    drawn = charts.lines(f'PRO curve, {name}', x, y, [found['pro']])
    yield Chart('PRO' if len(seeds) < 2 else 'PRO, mean map', drawn, [])


def _keys(names: Sequence[str]) -> list[tuple[str, str]]:
  """Returns what tells a few curves apart; many share their colours."""
  if not 1 < len(names) <= charts.COLOURS:
    return []
  return [(f'c{number}', name) for number, name in enumerate(names)]


def course(workdir: Path, name: str) -> dict[str, list[tuple[int, float]]]:
  """Returns the loss by epoch, by seed; nothing where it was not written."""
  return {
    seed: [(epoch, loss) for epoch, loss, _ in points]
    for seed, points in _curves(workdir, name).items()
  }


def separation(workdir: Path, name: str) -> list[list[float]]:
  """Returns the share of patches beyond their margins, by seed and epoch.

  Both kinds on average, in [0, 1].
  """
  return [
    [share for _, _, share in points]
    for points in _curves(workdir, name).values()
  ]


def _curves(workdir, name) -> dict[str, list[tuple[int, float, float]]]:
  path = workdir / 'curves' / f'{name}.csv'
  if not path.is_file():
    return {}
  found: dict[str, list[tuple[int, float, float]]] = {}
  with contents.told(path), path.open(newline='', encoding='utf-8') as lines:
    for row in csv.DictReader(lines):
      share = (float(row['p_normal']) + float(row['p_counterfeit'])) / 2
      point = (int(row['epoch']), float(row['loss']), share)
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


def _detectors_threshold(workdir: Path, name: str) -> Threshold | None:
  path = workdir / 'detectors' / f'{name}{file.SUFFIX}'
  if not path.is_file():
    return None
  try:
    held = file.read_card(path).thresholds
  except ValueError as error:  # It names the file.
    raise contents.DamagedError(str(error)) from None
  if held.image is None:
    return None
  kind = (
    'set by hand'
    if 'image' in held.by_hand
    else f'from {held.images} good images that were held out'
  )
  return Threshold(held.image, f"the detector's, {kind}")


def _chosen_on_test(found: dict[str, Any]) -> Threshold:
  if found['threshold'] is None:
    return Threshold(None, 'the test images are of one kind')
  return Threshold(
    found['threshold'], 'the best F1 on these very images: chosen on test'
  )
