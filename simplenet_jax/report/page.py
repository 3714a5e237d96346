"""The page of a run, or of several: one file that needs nothing beside it."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from simplenet_jax.evaluation import results, tables
from simplenet_jax.evaluation.metrics import HEADLINES
from simplenet_jax.files import atomic_write, read_json
from simplenet_jax.report import sections

NAME = 'report.html'
_KEYS = (
  *('protocol', 'config', 'weights', 'versions', 'device', 'wall_seconds'),
  *('selection_rule', 'categories', 'mean', 'selected_on_test', 'published'),
)
_Results = dict[str, Any]  # What a results.json holds.


def write(*workdirs: Path, output: Path | None = None) -> Path:
  """Writes the page of one run or several; whole or not at all.

  The tables of runs that have no category in common are joined into one with
  the mean, where they can be; otherwise the runs are compared.

  Args:
    *workdirs: The runs' directories, each with the results of a category.
    output: The page; `report.html` in the only directory if not given.

  Returns:
    Where it is.

  Raises:
    FileNotFoundError: If a directory holds no results.
    ValueError: If what a run left is damaged.
  """
  names = [workdir.resolve().name for workdir in workdirs]
  if len(set(names)) < len(names):
    names = [str(workdir) for workdir in workdirs]
  found = {n: read(w) for n, w in zip(names, workdirs, strict=True)}
  with sections.told(' or '.join(str(w / 'results.json') for w in workdirs)):
    runs, apart = _runs(dict(zip(names, workdirs, strict=True)), found)
    text = _template().render(
      title=', '.join(run['title'] for run in runs),
      runs=runs,
      apart=apart,
      compared=_compare(found) if len(runs) > 1 else None,
      headlines=HEADLINES,
      defects=tables.defects,
      pixels=tables.pixels,
    )
  output = output or workdirs[0] / NAME
  with atomic_write(output) as aside:
    # Names of files need not be text.
    aside.write_text(text, encoding='utf-8', errors='backslashreplace')
  return output


def read(workdir: Path) -> _Results:
  """Reads a run's results.

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
  with sections.told(path):
    found = read_json(path)
    # What all that follows needs; a file of something else lacks it.
    for key in _KEYS:
      found[key]
    for one in found['categories'].values():
      one['last']['image_auroc']['seeds']
    return found


def _template() -> jinja2.Template:
  return jinja2.Environment(
    loader=jinja2.PackageLoader('simplenet_jax.report'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  ).get_template('page.html.j2')


def _runs(
  workdirs: Mapping[str, Path], found: Mapping[str, _Results]
) -> tuple[list[dict[str, Any]], str]:
  """Returns the runs to show, and why several were not joined into one."""
  apart = ''
  if len(found) > 1:
    try:
      joined = results.join(found)
    except results.NotJoinedError as error:
      apart = str(error)
    else:
      places = {
        category: workdirs[name]
        for name, one in found.items()
        for category in one['categories']
      }
      return [_run(', '.join(found), joined, places)], ''
  runs = []
  for name, one in found.items():
    title = name if apart else one['config']['name'] or name
    places = dict.fromkeys(one['categories'], workdirs[name])
    runs.append(_run(title, one, places))
  return runs, apart


def _run(
  title: str, found: _Results, places: Mapping[str, Path]
) -> dict[str, Any]:
  columns = tables.columns(found)
  last = [one for one in columns if one.is_last]
  measured = any(one.is_defined for one in last)
  shown = [
    one for one in columns if one.is_defined or (measured and one in last)
  ]
  rows = zip(*(one.cells for one in shown), strict=True)
  return {
    'title': title,
    'results': found,
    'seeds': found['config']['seeds'],
    'facts': _facts(found),
    'settings': _settings(found),
    'columns': shown,
    'rows': list(zip(tables.rows(found), rows, strict=False)),
    'sections': [sections.read(path, name) for name, path in places.items()],
  }


def _facts(found: _Results) -> list[tuple[str, str]]:
  """Returns what ran, with what, on what and for how long."""
  config, device = found['config'], found['device']
  levels = '+'.join(map(str, config['backbone']['levels']))
  recipe = found['weights'].get('recipe', 'unknown')
  weights = found['weights']['name']
  weights += '' if recipe == 'unknown' else f' ({recipe})'
  least = config['train'].get('min_steps', 0)
  schedule = f'{config["train"]["epochs"]} epochs of all good images'
  schedule += f', in at least {least:,} steps' if least else ''
  return [
    ('Protocol', found['protocol']),
    ('Backbone', f'{config["backbone"]["name"]}, levels {levels}'),
    ('Weights', '; '.join([weights, *tables.weights(found)])),
    ('Weights, sha256', found['weights']['sha256'][:16]),
    ('Schedule', schedule),
    ('Seeds', ', '.join(map(str, config['seeds']))),
    ('Device', f'{device["count"]} × {device["kind"]}, {config["precision"]}'),  # noqa: RUF001
    ('Made with', f'simplenet-jax {found["versions"]["simplenet-jax"]}'),
    ('Wall time', _durations(found['wall_seconds'])),
  ]


def _durations(seconds: dict[str, float]) -> str:
  """Returns what took how long, the longest first."""
  phases = sorted(seconds.items(), key=lambda one: -one[1])
  compiling = 'of which compilation'
  text = ', '.join(
    f'{name} {_duration(value)}'
    for name, value in phases
    if name != compiling and value >= 0.5
  )
  compiled = _duration(seconds.get(compiling, 0.0))
  return f'{text or "under a second"}; {compiling} {compiled}'


def _duration(seconds: float) -> str:
  if seconds < 600:
    return f'{seconds:.0f} s'
  minutes = round(seconds / 60)
  hours = f'{minutes // 60} h ' if minutes >= 60 else ''
  return f'{hours}{minutes % 60} min'


def _settings(found: _Results) -> dict[str, str]:
  """Returns all that a run's figures may depend on, as text."""
  parts = {
    **dict(results.flatten(found['config'])),
    'sha256 of the weights': found['weights']['sha256'][:16],
    **dict(results.flatten(found['device'], 'device, ')),
    **dict(results.flatten(found['versions'], 'version of ')),
  }
  return {name: str(value) for name, value in parts.items()}


def _compare(found: Mapping[str, _Results]) -> dict[str, Any]:
  """Returns what several runs differ in, and figures of what they share."""
  runs = list(found.values())
  settings = [_settings(run) for run in runs]
  fields = dict.fromkeys(name for one in settings for name in one)
  values = {name: [one.get(name, '') for one in settings] for name in fields}
  shared = [
    name
    for name in runs[0]['categories']
    if all(name in run['categories'] for run in runs)
  ]
  parts = [*([name] for name in shared), shared] if shared else []
  return {
    'names': list(found),
    'differing': {k: v for k, v in values.items() if len(set(v)) > 1},
    'rows': [
      (name, [[_mean(run, part, m) for run in runs] for m in HEADLINES])
      for name, part in zip([*shared, 'mean'], parts, strict=False)
    ],
    'differences': [
      (name, [_paired(runs[0], run, shared, m) for m in HEADLINES])
      for name, run in list(found.items())[1:]
      if shared
    ],
  }


def _seeds(run: _Results, names: Sequence[str], metric: str) -> list[float]:
  """Returns a metric of every seed, mean over categories; none: undefined."""
  each = [run['categories'][name]['last'][metric]['seeds'] for name in names]
  if any(value is None for seeds in each for value in seeds):
    return []
  return [statistics.fmean(values) for values in zip(*each, strict=True)]


def _mean(run: _Results, names: Sequence[str], metric: str) -> tables.Cell:
  seeds = _seeds(run, names, metric)
  mean = statistics.fmean(seeds) if seeds else None
  std = statistics.stdev(seeds) if len(seeds) > 1 else None
  return tables.spread({'mean': mean, 'std': std})


def _paired(
  first: _Results, second: _Results, names: Sequence[str], metric: str
) -> str:
  """Returns the second's figures less the first's, seed by seed."""
  if first['config']['seeds'] != second['config']['seeds']:
    return 'other seeds'
  seeds = [_seeds(run, names, metric) for run in (first, second)]
  differences = [100 * (b - a) for a, b in zip(*seeds, strict=False)]
  if not differences:
    return tables.UNDEFINED
  mean = statistics.fmean(differences)
  if len(differences) < 2:
    return f'{mean:+.1f}'
  error = statistics.stdev(differences) / math.sqrt(len(differences))
  return f'{mean:+.1f}, standard error {error:.1f}'
