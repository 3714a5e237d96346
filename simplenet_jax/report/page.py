"""The page of one run."""

from pathlib import Path
from typing import Any

import jinja2

from simplenet_jax.files import written_aside
from simplenet_jax.report import contents

NAME = 'report.html'


def write(workdir: Path, output: Path | None = None) -> Path:
  """Writes a run's page; whole or not at all.

  Args:
    workdir: The run's directory, with the results of a category at least.
    output: The page; `report.html` in `workdir` if not given.

  Returns:
    Where it is.

  Raises:
    FileNotFoundError: If the directory holds no results.
    ValueError: If what the run left is damaged.
  """
  output = output or workdir / NAME
  results = contents.read(workdir)
  columns, cells = contents.table(results)
  sections = [contents.section(workdir, name) for name in results['categories']]
  text = template('page.html.j2').render(
    title=f'{results["config"]["name"] or workdir.name}',
    results=results,
    seeds=results['config']['seeds'],
    facts=facts(results),
    fields=flat(results['config']) + flat(results['versions'], 'version of '),
    columns=columns,
    cells=cells,
    sections=sections,
  )
  with written_aside(output) as aside:
    aside.write_text(text, encoding='utf-8')
  return output


def template(name: str) -> jinja2.Template:
  """Returns a template of this package; what it is given is escaped."""
  return jinja2.Environment(
    loader=jinja2.PackageLoader('simplenet_jax.report'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  ).get_template(name)


def facts(results: dict[str, Any]) -> list[tuple[str, str]]:
  """Returns what ran, with what, on what and for how long."""
  config, device = results['config'], results['device']
  levels = '+'.join(map(str, config['backbone']['levels']))
  seconds = dict(results['wall_seconds'])
  compiling = seconds.pop('of which compilation', 0.0)
  return [
    ('Protocol', results['protocol']),
    ('Backbone', f'{config["backbone"]["name"]}, levels {levels}'),
    ('Weights', results['weights']['name']),
    ('Weights, sha256', results['weights']['sha256'][:16]),
    ('Schedule', f'{config["train"]["epochs"]} epochs of all good images'),
    ('Seeds', ', '.join(map(str, config['seeds']))),
    ('Device', f'{device["count"]} × {device["kind"]}, {config["precision"]}'),  # noqa: RUF001
    (
      'Wall time',
      ', '.join(f'{name} {value:.0f} s' for name, value in seconds.items())
      + f'; compilation, within these, {compiling:.0f} s',
    ),
  ]


def flat(config: dict[str, Any], prefix: str = '') -> list[tuple[str, str]]:
  """Returns every field of a config and its value, as text."""
  found = []
  for name, value in config.items():
    if isinstance(value, dict):
      found += flat(value, f'{prefix}{name}.')
    else:
      found.append((prefix + name, str(value)))
  return found
