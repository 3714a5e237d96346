"""An experiment from its settings to its table and figure."""

from pathlib import Path
from typing import Any

from simplenet_jax.cluster import ALONE, Cluster
from simplenet_jax.config import Config
from simplenet_jax.console import console, counted
from simplenet_jax.evaluation import tables
from simplenet_jax.sweeps import extras, figures, gap, numbers
from simplenet_jax.sweeps.conduct import conduct


def run(
  config: Config, workdir: Path, cluster: Cluster = ALONE
) -> dict[str, Any]:
  """Runs a sweep and writes what it shows.

  Args:
    config: The sweep's settings, from `settings.sweep`.
    workdir: `<name>.json`, `.csv`, `.md`, `.png` and `.svg` are written here,
      the runs below it. A view of pictures has `<name>/<category>.png` in place
      of a figure.
    cluster: The processes that do it together; process 0 writes.

  Returns:
    What the JSON holds, see `numbers.collect`; nothing except in process 0.

  Raises:
    ValueError: For settings, images or weights that cannot be used, in the end
      also if a variant failed.
    OSError: If a file or folder is missing or cannot be written.
    stop.Stopped: If a signal asked to stop; the same command goes on.
  """
  outcomes, failures = conduct(config, workdir, cluster)
  if cluster.index > 0:
    return {}
  told = [f'{label}: {error}' for label, error in failures.items()]
  if not outcomes:
    raise ValueError(f'all variants failed; {told[0]}')
  collected = numbers.collect(config, outcomes, failures)
  for row, one in zip(collected['rows'], outcomes, strict=True):
    if config.view == 'speed':
      row['frames_per_second'] = extras.frames_per_second(one)
      heads = counted(len(row['seeds']), 'head')
      row['speed'] = f'{heads}, {one.config.precision}'
    if config.view == 'deviations':
      row['deviations'] = extras.deviations(one)
    if config.view == 'losses':
      row['loss_by_epoch'] = extras.losses(one)
  if config.view == 'gap':
    baseline = config.variants[0][0]
    if baseline in failures:
      raise ValueError(
        f'{baseline}, with which all are compared, failed: {failures[baseline]}'
      )
    for row, found in zip(
      collected['rows'], gap.measure(outcomes), strict=True
    ):
      row['gap'] = found
  by_category = config.view == 'categories'
  if by_category:
    table = tables.format_table(outcomes[0].results, 'markdown')
  else:
    table = (gap if config.view == 'gap' else numbers).tables(collected)
  paths = numbers.write(collected, workdir, table)
  if config.view == 'pictures':
    paths += extras.sheets(outcomes[0], workdir / config.name)
  else:
    drawn = figures.DRAWN[config.view](collected)
    paths += figures.write(drawn, workdir / config.name)
  console.print(
    tables.format_table(outcomes[0].results)
    if by_category
    else numbers.terminal(collected)
  )
  console.print('\n'.join(['Written:', *(f'  {path}' for path in paths)]))
  if failures:
    raise ValueError(
      f'{len(failures)} of {len(failures) + len(outcomes)} variants failed and '
      f'are left out; {told[0]}'
    )
  return collected
