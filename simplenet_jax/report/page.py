"""The page of one run."""

from pathlib import Path
from typing import Any

import jinja2

from simplenet_jax.evaluation import tables
from simplenet_jax.files import written_aside
from simplenet_jax.report import contents, sections

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
  results = contents.read(workdir)
  with contents.told(workdir / 'results.json'):
    columns, cells = contents.table(results)
    text = template('page.html.j2').render(
      title=results['config']['name'] or workdir.resolve().name,
      results=results,
      seeds=results['config']['seeds'],
      facts=facts(results),
      fields=settings(results),
      columns=columns,
      cells=cells,
      kinds=tables.kinds,
      pixels=tables.pixels,
      sections=[
        sections.section(workdir, name) for name in results['categories']
      ],
    )
  return save(text, output or workdir / NAME)


def save(text: str, output: Path) -> Path:
  """Writes a page; whole or not at all."""
  with written_aside(output) as aside:
    # Names of files need not be text.
    aside.write_text(text, encoding='utf-8', errors='backslashreplace')
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
  return [
    ('Protocol', results['protocol']),
    ('Backbone', f'{config["backbone"]["name"]}, levels {levels}'),
    ('Weights', _weights(results)),
    ('Weights, sha256', results['weights']['sha256'][:16]),
    ('Schedule', _schedule(config['train'])),
    ('Seeds', ', '.join(map(str, config['seeds']))),
    ('Device', f'{device["count"]} × {device["kind"]}, {config["precision"]}'),  # noqa: RUF001
    ('Made with', f'simplenet-jax {results["versions"]["simplenet-jax"]}'),
    ('Wall time', _durations(results['wall_seconds'])),
  ]


def _schedule(train: dict[str, Any]) -> str:
  text = f'{train["epochs"]} epochs of all good images'
  # Runs of before there was this setting did without.
  least = train.get('min_steps', 0)
  return f'{text}, in at least {least:,} steps' if least else text


def _weights(results: dict[str, Any]) -> str:
  """Returns their name, their training and what there is to warn of."""
  recipe = results['weights'].get('recipe', 'unknown')
  known = '' if recipe == 'unknown' else f' ({recipe})'
  name = f'{results["weights"]["name"]}{known}'
  return '; '.join([name, *tables.weights(results)])


def _durations(seconds: dict[str, float]) -> str:
  """Returns what took how long, the longest first."""
  phases = sorted(seconds.items(), key=lambda one: -one[1])
  compiling = seconds.get('of which compilation', 0.0)
  text = ', '.join(
    f'{name} {_duration(value)}'
    for name, value in phases
    if name != 'of which compilation' and value >= 0.5
  )
  return f'{text or "under a second"}; of which compilation' + (
    f' {_duration(compiling)}'
  )


def _duration(seconds: float) -> str:
  if seconds < 600:
    return f'{seconds:.0f} s'
  minutes = round(seconds / 60)
  hours = f'{minutes // 60} h ' if minutes >= 60 else ''
  return f'{hours}{minutes % 60} min'


def settings(results: dict[str, Any]) -> list[tuple[str, str]]:
  """Returns all that a run's figures may depend on, as text."""
  return [
    *flat(results['config']),
    ('sha256 of the weights', results['weights']['sha256'][:16]),
    *flat(results['device'], 'device, '),
    *flat(results['versions'], 'version of '),
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
