"""From metrics per seed to results.json, and runs' results joined."""

import collections
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simplenet_jax.config import PROTOCOL_FIELDS, flatten
from simplenet_jax.evaluation import metrics, published, tables
from simplenet_jax.files import FileError, read_json, write_text

_DECISIVE = ('seeds', *PROTOCOL_FIELDS)

# A metric's `mean`, sample standard deviation `std` and `seeds`, by its name.
Summaries = dict[str, Any]

# A category's figures, fractions in [0, 1], None where undefined: summaries of
# the `last` epoch and those `selected_on_test`, of the `baseline` without
# training, metrics of the `ensemble`, `kinds` of defects, `cautions`, and
# known `pixels`.
CategoryResult = dict[str, Any]


def summarise(per_seed: Sequence[Mapping[str, float]]) -> Summaries:
  """Summarises each of `metrics.METRICS` over seeds, at least one.

  `std` is None for a single seed, and both where a seed's metric is NaN.
  """
  return {
    metric: _summary([float(seed[metric]) for seed in per_seed])
    for metric in metrics.METRICS
  }


def undefined(seeds: int) -> Summaries:
  """Returns the summaries of seeds that cannot be measured."""
  nothing: dict[str, float] = dict.fromkeys(metrics.METRICS, math.nan)
  return summarise([nothing] * seeds)


def _summary(values: list[float]) -> dict[str, Any]:
  defined = not any(math.isnan(value) for value in values)
  several = len(values) > 1
  return {
    'mean': statistics.fmean(values) if defined else None,
    'std': statistics.stdev(values) if defined and several else None,
    'seeds': [None if math.isnan(value) else value for value in values],
  }


def build(
  run: Mapping[str, Any], categories: Mapping[str, CategoryResult]
) -> dict[str, Any]:
  """Builds results.json of what `run` tells and what categories came to."""
  folds = run['config'].get('train', {}).get('folds')
  count, found, selected = 1 if folds else len(run['config']['seeds']), {}, {}
  for name, one in categories.items():
    found[name] = {key: value for key, value in one.items() if value}
    none = {'epochs': [None] * count, **undefined(count)}
    selected[name] = found[name].pop('selected_on_test', none)
  mean = {'last': _mean([one['last'] for one in found.values()])}
  if any(one.get('selected_on_test') for one in categories.values()):
    mean['selected_on_test'] = _mean(list(selected.values()))
  else:
    selected = {}
  if all('baseline' in one for one in found.values()):
    mean['baseline'] = _mean([one['baseline'] for one in found.values()])
  backbone = run['config']['backbone']['name']
  rows = published.comparable(found, backbone, run['protocol'])
  made = {
    'selection_rule': tables.NOTES['selection rule'],
    'categories': found,
    'mean': mean,
  }
  return {**run, **made, 'selected_on_test': selected, 'published': rows}


def _mean(categories: Sequence[Summaries]) -> Summaries:
  found = {}
  for metric in metrics.METRICS:
    seeds = zip(*(one[metric]['seeds'] for one in categories), strict=True)
    means = [math.nan if None in x else statistics.fmean(x) for x in seeds]
    found[metric] = _summary(means)
  return found


def join(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  """Joins the results of runs of different categories, by the runs' names.

  What does not decide figures, as the device, is the first run's; times are
  added. Runs with the same category, other settings that decide figures or
  other weights raise a FileError.
  """
  (first, table), *_ = runs.items()
  owners, seconds = {}, collections.Counter()
  for name, one in runs.items():
    seconds.update(one['wall_seconds'])
    for category in one['categories']:
      if (owner := owners.setdefault(category, name)) != name:
        told = f'cannot be joined: {category} is in both'
        raise FileError(f'{owner} and {name} {told}')
    ours, theirs = _decisive(table), _decisive(one)
    for field in ours | theirs:
      if ours.get(field) != theirs.get(field):
        raise FileError(
          f'{first} and {name} cannot be joined: they differ in {field} '
          f'({ours.get(field)} and {theirs.get(field)})'
        )

  data = {**table['config'].get('data', {}), 'categories': list(owners)}
  about = {**table, 'config': {**table['config'], 'data': data}}
  about['wall_seconds'] = dict(seconds)
  about['files'] = [x for one in runs.values() for x in one.get('files', [])]
  categories = {
    name: {**found, 'selected_on_test': one['selected_on_test'].get(name)}
    for one in runs.values()
    for name, found in one['categories'].items()
  }
  return build(about, categories)


def _decisive(table: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what decides a run's figures, beside its images."""
  config = flatten(table['config'])
  found = {k: v for k, v in config.items() if k.startswith(_DECISIVE)}
  weights = table.get('weights', {}).get('sha256')
  return found | {'protocol': table['protocol'], 'weights, sha256': weights}


def read(workdir: Path) -> dict[str, Any]:
  """Reads a run's results.json; raises where it is missing or damaged."""
  path = workdir / 'results.json'
  if not path.is_file():
    told = 'name the work directory of a run that has finished a category'
    raise FileNotFoundError(f'{path}: missing; {told}')
  return read_json(path)


def write(folder: Path, results: Mapping[str, Any]) -> None:
  """Writes results.json, results.csv and results.md."""
  write_json(folder / 'results.json', results)
  for form, suffix in (('csv', 'csv'), ('markdown', 'md')):
    text = tables.format_table(results, form).rstrip('\n')
    write_text(folder / f'results.{suffix}', f'{text}\n')


def write_json(path: Path | str, results: Mapping[str, Any]) -> None:
  """Writes results as strict JSON, whole or not at all; NaN becomes null."""
  text = json.dumps(strict(results), indent=2, allow_nan=False)
  write_text(path, f'{text}\n')


def strict(value: Any) -> Any:
  """Returns a value in JSON's types: NaN becomes None, arrays lists."""
  if hasattr(value, 'tolist'):  # NumPy scalars and arrays.
    value = value.tolist()
  if isinstance(value, Mapping):
    return {key: strict(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [strict(item) for item in value]
  if isinstance(value, float) and math.isnan(value):
    return None
  return value
