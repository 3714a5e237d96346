"""The page of a run, or of several that join: one file, complete in itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from simplenet_jax.config import flatten
from simplenet_jax.console import duration
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
  """Writes the page of one run, or the joined page of several.

  Args:
    *workdirs: The runs' directories, each with the results of a category.
    output: The page; `report.html` in the first directory if not given.

  Returns:
    Where it is.

  Raises:
    FileNotFoundError: If a directory holds no results.
    ValueError: If what a run left is damaged, or runs cannot be joined.
  """
  found = {str(workdir): read(workdir) for workdir in workdirs}
  if len(found) < len(workdirs):
    raise ValueError('name each work directory once')
  template = jinja2.Environment(
    loader=jinja2.PackageLoader('simplenet_jax.report'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  ).get_template('page.html.j2')
  with sections.told(' or '.join(str(w / 'results.json') for w in workdirs)):
    joined = results.join(found) if len(found) > 1 else found[str(workdirs[0])]
    text = template.render(
      **_context(joined, found),
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


def _context(table: _Results, runs: Mapping[str, _Results]) -> dict[str, Any]:
  """Returns what the template shows of runs and their joined table."""
  folders = {
    category: Path(name)
    for name, one in runs.items()
    for category in one['categories']
  }
  columns = tables.columns(table)
  measured = any(one.is_last and one.is_defined for one in columns)
  shown = [
    one for one in columns if one.is_defined or (measured and one.is_last)
  ]
  rows = zip(*(one.cells for one in shown), strict=True)
  names = [Path(name).resolve().name for name in runs]
  alone = table['config']['name'] if len(runs) == 1 else ''
  return {
    'title': alone or ', '.join(names),
    'results': table,
    'seeds': table['config']['seeds'],
    'facts': _facts(table),
    'settings': _settings(table),
    'columns': shown,
    'rows': list(zip(tables.rows(table), rows, strict=False)),
    'sections': [sections.read(path, name) for name, path in folders.items()],
  }


def _facts(found: _Results) -> list[tuple[str, str]]:
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


def _durations(seconds: Mapping[str, float]) -> str:
  compiling = 'of which compilation'
  phases = sorted(seconds.items(), key=lambda one: -one[1])
  text = ', '.join(
    f'{name} {duration(value)}'
    for name, value in phases
    if name != compiling and value >= 0.5
  )
  compiled = duration(seconds.get(compiling, 0.0))
  return f'{text or "under a second"}; {compiling} {compiled}'


def _settings(found: _Results) -> dict[str, Any]:
  return {
    **flatten(found['config']),
    'sha256 of the weights': found['weights']['sha256'][:16],
    **flatten(found['device'], 'device, '),
    **flatten(found['versions'], 'version of '),
  }
