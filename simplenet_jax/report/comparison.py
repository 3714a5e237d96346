"""The page that compares several runs."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simplenet_jax.report import charts, contents, page, sections

METRICS = ('image_auroc', 'pixel_auroc', 'aupro_30')


def write(workdirs: Sequence[Path], output: Path) -> Path:
  """Writes a page with several runs side by side.

  Args:
    workdirs: Directories of two runs or more.
    output: The page.

  Returns:
    Where it is.

  Raises:
    FileNotFoundError: If one holds no results.
    ValueError: If what a run left is damaged, or none of their categories are
      the same.
  """
  runs = [contents.read(workdir) for workdir in workdirs]
  shared = [
    name
    for name in runs[0]['categories']
    if all(name in run['categories'] for run in runs)
  ]
  if not shared:
    raise ValueError(
      f'{", ".join(map(str, workdirs))}: no category is in all of them; name '
      'runs on the same images'
    )
  files = ' or '.join(str(workdir / 'results.json') for workdir in workdirs)
  with contents.told(files):
    text = _render(workdirs, runs, shared)
  return page.save(text, output)


def _render(
  workdirs: Sequence[Path],
  runs: Sequence[dict[str, Any]],
  shared: Sequence[str],
) -> str:
  names = _names(workdirs)
  return page.template('comparison.html.j2').render(
    title='Comparison',
    names=names,
    differing=_differing(runs),
    shared=shared,
    metrics=[contents.METRICS[metric] for metric in METRICS],
    figures=[
      *((name, _figures(runs, [name])) for name in shared),
      ('mean', _figures(runs, shared)),
    ],
    differences=[
      (names[0], name, _paired(runs[0], run, shared))
      for name, run in zip(names[1:], runs[1:], strict=True)
    ],
    courses=[(name, _courses(workdirs, names, name)) for name in shared],
  )


def _names(workdirs: Sequence[Path]) -> list[str]:
  """Returns the directories' names, or their paths where those are equal."""
  short = [workdir.resolve().name for workdir in workdirs]
  return short if len(set(short)) == len(short) else [str(w) for w in workdirs]


def _differing(runs: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
  fields = [dict(page.settings(run)) for run in runs]
  names = dict.fromkeys(name for one in fields for name in one)
  found = [(name, [one.get(name, '') for one in fields]) for name in names]
  return [(name, values) for name, values in found if len(set(values)) > 1]


def _figures(runs, names: Sequence[str]) -> list[list[contents.Cell]]:
  """Returns every run's metrics, mean over some categories."""
  return [
    [contents.spread(_summary(_means(run, names, m))) for m in METRICS]
    for run in runs
  ]


def _means(run, names: Sequence[str], metric: str) -> list[float] | None:
  """Returns a metric of every seed, mean over categories; None: undefined."""
  each = [run['categories'][name]['last'][metric]['seeds'] for name in names]
  if any(value is None for seeds in each for value in seeds):
    return None
  return [statistics.fmean(values) for values in zip(*each, strict=True)]


def _summary(values: Sequence[float] | None) -> dict[str, float | None]:
  if not values:
    return {'mean': None, 'std': None}
  std = statistics.stdev(values) if len(values) > 1 else None
  return {'mean': statistics.fmean(values), 'std': std}


def _paired(first, second, shared: Sequence[str]) -> list[str]:
  """Returns the second's figures less the first's, seed by seed."""
  seeds = [run['config']['seeds'] for run in (first, second)]
  if list(seeds[0]) != list(seeds[1]):
    return ['other seeds' for _ in METRICS]
  found = []
  for metric in METRICS:
    before, after = (_means(run, shared, metric) for run in (first, second))
    pairs = zip(before or [], after or [], strict=False)
    found.append(_described([100 * (b - a) for a, b in pairs]))
  return found


def _described(differences: Sequence[float]) -> str:
  if not differences:
    return contents.UNDEFINED
  mean = statistics.fmean(differences)
  if len(differences) < 2:
    return f'{mean:+.1f}'
  error = statistics.stdev(differences) / math.sqrt(len(differences))
  return f'{mean:+.1f}, standard error {error:.1f}'


def _courses(workdirs, names, category: str):
  found = [sections.course(workdir, category) for workdir in workdirs]
  curves, labels = [], []
  for name, course in zip(names, found, strict=True):
    if not course:
      continue
    means = [
      (points[0][0], statistics.fmean(value for _, value in points))
      for points in zip(*course.values(), strict=True)
    ]
    curves.append(means)
    labels.append(name)
  if not curves:
    return None
  most = max(value for curve in curves for _, value in curve)
  last = max(epoch for curve in curves for epoch, _ in curve)
  return charts.lines(
    f'Loss by epoch, {category}',
    charts.Axis('epoch', 0, max(last, 2)),
    charts.Axis('loss', 0, max(most, 1e-9) * 1.05),
    curves,
    labels,
  )
