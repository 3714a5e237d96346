"""From metrics per seed to results.json, results.csv and the tables shown."""

import collections
import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simplenet_jax.config import PROTOCOL_FIELDS, flatten
from simplenet_jax.evaluation import metrics, published, tables
from simplenet_jax.files import atomic_write

SELECTION_RULE = (
  'The headline is the last epoch, mean and sample standard deviation over '
  'seeds: it is chosen without test images. Figures '
  "'selected on test' come from the epoch with the best image AUROC on the "
  'test images (ties: pixel AUROC, then the earliest). They flatter, exist for '
  'comparison with figures that were selected likewise, and are never mixed '
  'with the others.'
)
_DECISIVE = ('seeds', *PROTOCOL_FIELDS)


@dataclasses.dataclass(frozen=True)
class CategoryResult:
  """One category's metrics, as fractions in [0, 1], NaN where undefined."""

  # The last epoch's metrics, one mapping per seed; empty without test images.
  last: Sequence[Mapping[str, float]]
  # The best test epoch's, each with its 'epoch'; empty if none was selected.
  best: Sequence[Mapping[str, float]] = ()
  # Metrics of several seeds' mean scores at the last epoch.
  ensemble: Mapping[str, float] = dataclasses.field(default_factory=dict)
  # If asked for, epoch and AUROCs of every scoring, one list per seed.
  course: Sequence[Sequence[Mapping[str, float]]] = ()
  # Figures of each kind of defect; see `TestSet.evaluate_defects`.
  kinds: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  # What a reader must know before believing a figure, one line each.
  cautions: Sequence[str] = ()
  # Over how many images pixel metrics are; see `Inputs.known_pixels`.
  pixels: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# A metric's `mean`, sample standard deviation `std` and `seeds`, by its name.
Summaries = dict[str, dict[str, Any]]


def summarise(per_seed: Sequence[Mapping[str, float]]) -> Summaries:
  """Summarises each of `metrics.METRICS` over seeds, at least one.

  `std` is None for a single seed, and both where a seed's metric is NaN.
  """
  return {
    metric: _summary([float(seed[metric]) for seed in per_seed])
    for metric in metrics.METRICS
  }


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
  """Builds the content of results.json.

  Args:
    run: What the figures belong to, kept as it is: 'protocol', 'config' (as
      nested dicts) and more.
    categories: The metrics by category, in the order of the tables.

  Raises:
    ValueError: If there is no category, one is called 'mean', or has another
      number of seeds.
  """
  if not categories:
    raise ValueError('found no category to report, expected one or more')
  if 'mean' in categories:
    raise ValueError(
      "found a category called 'mean', the name of the row over all; rename it"
    )
  count = len(run['config']['seeds'])
  counts = {name: len(one.last) for name, one in categories.items() if one.last}
  if set(counts.values()) - {count}:
    raise ValueError(f'seeds per category: found {counts}, expected {count}')
  found, selected = {}, {}
  for name, one in categories.items():
    more = {
      field: value
      for field in ('ensemble', 'course', 'kinds', 'cautions', 'pixels')
      if (value := getattr(one, field))
    }
    found[name] = {'last': summarise(one.last or _undefined(count)), **more}
    if one.best:
      epochs = [seed['epoch'] for seed in one.best]
      selected[name] = {'epochs': epochs, **summarise(one.best)}
  return _with_means(run, found, selected)


def _undefined(count: int) -> list[dict[str, float]]:
  return [dict.fromkeys(metrics.METRICS, math.nan)] * count


def _with_means(
  run: Mapping[str, Any],
  categories: Mapping[str, Any],
  selected: Mapping[str, Any],
) -> dict[str, Any]:
  """Adds means over the categories, and the published figures that apply."""
  count = len(run['config']['seeds'])
  mean = {'last': _mean([one['last'] for one in categories.values()])}
  if selected:
    none = {'epochs': [None] * count, **summarise(_undefined(count))}
    selected = {name: selected.get(name, none) for name in categories}
    mean['selected_on_test'] = _mean(list(selected.values()))
  return {
    **run,
    'selection_rule': SELECTION_RULE,
    'categories': dict(categories),
    'mean': mean,
    'selected_on_test': dict(selected),
    'published': published.comparable(
      categories, run['config']['backbone']['name'], run['protocol']
    ),
  }


def _mean(categories: Sequence[Summaries]) -> Summaries:
  found = {}
  for metric in metrics.METRICS:
    seeds = zip(*(one[metric]['seeds'] for one in categories), strict=True)
    found[metric] = _summary(
      [math.nan if None in seed else statistics.fmean(seed) for seed in seeds]
    )
  return found


class NotJoinedError(ValueError):
  """Runs whose tables do not belong into one; says which and why."""


def join(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  """Joins the results.json of runs of different categories, by the runs' names.

  What does not decide figures, as the device, is the first run's; times are
  added.

  Raises:
    NotJoinedError: If two runs have the same category, or differ in settings
      that decide figures or in weights.
  """
  (first, table), *_ = runs.items()
  decisive = _decisive(table)
  owners: dict[str, str] = {}
  seconds = collections.Counter()
  for name, one in runs.items():
    seconds.update(one['wall_seconds'])
    for category in one['categories']:
      if (owner := owners.setdefault(category, name)) != name:
        raise NotJoinedError(
          f'{owner} and {name} cannot be joined: {category} is in both'
        )
    theirs = _decisive(one)
    differing = [
      f'{field} ({decisive.get(field)} and {theirs.get(field)})'
      for field in decisive | theirs
      if decisive.get(field) != theirs.get(field)
    ]
    if differing:
      raise NotJoinedError(
        f'{first} and {name} cannot be joined: they differ in '
        f'{", ".join(differing)}'
      )

  def merged(key: str) -> dict[str, Any]:
    return {k: v for one in runs.values() for k, v in one[key].items()}

  data = {**table['config'].get('data', {}), 'categories': list(owners)}
  about = {
    **table,
    'config': {**table['config'], 'data': data},
    'wall_seconds': dict(seconds),
    'files': [row for one in runs.values() for row in one.get('files', [])],
  }
  return _with_means(about, merged('categories'), merged('selected_on_test'))


def _decisive(table: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what decides a run's figures, beside its images."""
  config = flatten(table['config'])
  return {
    'protocol': table['protocol'],
    'sha256 of the weights': table.get('weights', {}).get('sha256'),
    **{k: v for k, v in config.items() if k.startswith(_DECISIVE)},
  }


def write(folder: Path, results: Mapping[str, Any]) -> None:
  """Writes results.json, results.csv and results.md."""
  write_json(folder / 'results.json', results)
  for form, suffix in (('csv', 'csv'), ('markdown', 'md')):
    text = tables.format_table(results, form)
    with atomic_write(folder / f'results.{suffix}') as aside:
      aside.write_text(text.rstrip('\n') + '\n', encoding='utf-8', newline='')


def write_json(path: Path | str, results: Mapping[str, Any]) -> None:
  """Writes results as strict JSON, whole or not at all; NaN becomes null."""
  text = json.dumps(strict(results), indent=2, allow_nan=False)
  with atomic_write(path) as aside:
    aside.write_text(text + '\n', encoding='utf-8')


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
