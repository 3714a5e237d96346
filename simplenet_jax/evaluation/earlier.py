"""What results.json tells of a run that is taken up again."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simplenet_jax.evaluation.results import CategoryResult
from simplenet_jax.files import read_json


def recall(workdir: Path, seeds: Sequence[int]) -> dict[str, CategoryResult]:
  """Reads back what a run has found, by category.

  Args:
    workdir: The run's directory.
    seeds: The run's.

  Returns:
    Nothing where there is no `results.json`, or it is of other seeds.

  Raises:
    ValueError: If the file is not as `write_json` leaves it.
  """
  path = workdir / 'results.json'
  if not path.exists():
    return {}
  try:
    table = read_json(path)
    if tuple(table['config']['seeds']) != tuple(seeds):
      return {}
    best = table['selected_on_test']
    return {
      name: CategoryResult(
        _per_seed(found['last']),
        _per_seed(best.get(name, {})),
        _with_nan(named_as_now(found.get('ensemble', {}))),
        [list(map(_with_nan, seed)) for seed in found.get('course', ())],
        {kind: _with_nan(f) for kind, f in found.get('kinds', {}).items()},
        found.get('cautions', ()),
        found.get('pixels', {}),
      )
      for name, found in table['categories'].items()
    }
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path} is damaged ({error}); delete it, and the run evaluates anew'
    ) from None


def read_as_now(table: dict[str, Any]) -> dict[str, Any]:
  """Returns what a results.json holds by today's names of metrics.

  Args:
    table: What it holds; changed in place.
  """
  for one in (*table['categories'].values(), table['mean']):
    for name in ('last', 'ensemble', 'selected_on_test'):
      if name in one:
        one[name] = named_as_now(one[name])
  for name, one in table['selected_on_test'].items():
    table['selected_on_test'][name] = named_as_now(one)
  return table


def named_as_now(summaries: Mapping[str, Any]) -> dict[str, Any]:
  """Returns summaries by today's names of metrics.

  What was once called `aupro_30` is sampled at 100 thresholds, as MVTec 3D-AD's
  is; `aupro_30` is now what was called `aupro_30_exact`.

  Args:
    summaries: By metric.
  """
  if 'aupro_30_exact' not in summaries:
    return dict(summaries)
  names = {}
  for name in ('aupro_30', 'aupro_05'):
    names |= {name: f'{name}_sampled', f'{name}_exact': name}
  return {names.get(name, name): one for name, one in summaries.items()}


def _with_nan(values: Mapping[str, Any]) -> dict[str, Any]:
  return {k: math.nan if v is None else v for k, v in values.items()}


def _per_seed(summaries: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Undoes `summarise`, and names the epochs where they were selected."""
  columns = {
    metric: [math.nan if value is None else value for value in each['seeds']]
    for metric, each in named_as_now(summaries).items()
    if metric != 'epochs'
  }
  if 'epochs' in summaries:
    columns['epoch'] = summaries['epochs']
  return [
    dict(zip(columns, seed, strict=True))
    for seed in zip(*columns.values(), strict=True)
  ]
