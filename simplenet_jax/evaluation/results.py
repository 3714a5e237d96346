"""From metrics per seed to results.json, results.csv and the tables shown."""

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simplenet_jax.evaluation import metrics, published
from simplenet_jax.evaluation.tables import by_selection, markdown_table
from simplenet_jax.evaluation.tables import terminal_table as terminal_table
from simplenet_jax.files import is_formula, table_writer, written_aside

SELECTION_RULE = (
  'The headline is the last epoch, mean and sample standard deviation over '
  "seeds: no test image had a say in it. Figures 'selected on test' come from "
  'the epoch with the best image AUROC on the test images (ties: pixel AUROC, '
  'then the earliest). They flatter, exist for comparison with figures that '
  'were selected likewise, and are never mixed with the others.'
)
_RUN_KEYS = ('protocol', 'versions', 'device', 'wall_seconds', 'config')
_PARTS = ('mean', 'std')


@dataclasses.dataclass(frozen=True)
class CategoryResult:
  """One category's metrics, as fractions in [0, 1], NaN where undefined.

  Attributes:
    last: Metrics of the last epoch, one mapping per seed; empty without test
      images.
    best: Metrics of the best test epoch, one mapping per seed in the same
      order, each with its 'epoch'; empty if none was selected.
    ensemble: Metrics of the mean of all seeds' scores at the last epoch; empty
      for a single seed.
    course: The epoch, image AUROC and pixel AUROC of every scoring, one list
      per seed; empty unless asked for.
    kinds: By kind of defect its number of `images`, and metrics against the
      good images, mean over seeds; see `TestSet.evaluate_defects`.
    cautions: What is to be known before a figure is believed, one line each.
    pixels: How many test images' pixels were measured, `images`, out of how
      many, `of`, and by reason how many were `left_out`.
  """

  last: Sequence[Mapping[str, float]]
  best: Sequence[Mapping[str, float]] = ()
  ensemble: Mapping[str, float] = dataclasses.field(default_factory=dict)
  course: Sequence[Sequence[Mapping[str, float]]] = ()
  kinds: Mapping[str, Mapping[str, float]] = dataclasses.field(
    default_factory=dict
  )
  cautions: Sequence[str] = ()
  pixels: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def summarise(
  per_seed: Sequence[Mapping[str, float]],
) -> dict[str, dict[str, Any]]:
  """Summarises each metric over seeds.

  Args:
    per_seed: One mapping of `metrics.METRICS` per seed.

  Returns:
    `{metric: {'mean', 'std', 'seeds'}}`: the sample standard deviation is None
    for a single seed; all are None where a seed's metric is undefined (NaN).

  Raises:
    ValueError: If there is no seed.
  """
  if not per_seed:
    raise ValueError('found no seed to summarise, expected one or more')
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
    run: What the figures belong to: 'protocol', 'versions', 'device',
      'wall_seconds' by phase, 'config' (as nested dicts, with backbone.name),
      and whatever else is to be kept.
    categories: The metrics by category, in the order of the tables.

  Returns:
    `run`, `selection_rule`, `categories.<name>.last.<metric>` (beside `last`
    what else a `CategoryResult` holds), apart from them
    `selected_on_test.<name>` (metrics, and `epochs` of the seeds), `mean.last`
    and `mean.selected_on_test` over the categories, and `published`: the
    figures that apply, in percent, each with its selection.

  Raises:
    ValueError: If a key of `run` is missing, there is no category, one is
      called 'mean', or they differ in their number of seeds.
  """
  if missing := [key for key in _RUN_KEYS if key not in run]:
    raise ValueError(f'run lacks {missing}, expected all of {_RUN_KEYS}')
  if not categories:
    raise ValueError('found no category to report, expected one or more')
  if 'mean' in categories:
    raise ValueError(
      "found a category called 'mean', the name of the row over all; rename it"
    )
  last = _filled({name: result.last for name, result in categories.items()})
  best = _filled({name: result.best for name, result in categories.items()})
  mean = {'last': _over_categories(last)}
  selected = {}
  if any(result.best for result in categories.values()):
    mean['selected_on_test'] = _over_categories(best)
    for name, seeds in best.items():
      epochs = [seed.get('epoch') for seed in seeds]
      selected[name] = {'epochs': epochs, **summarise(seeds)}
  rows = published.comparable(
    categories, run['config']['backbone']['name'], run['protocol']
  )
  return {
    **run,
    'selection_rule': SELECTION_RULE,
    'categories': {
      name: {'last': summarise(last[name]), **_further(result)}
      for name, result in categories.items()
    },
    'mean': mean,
    'selected_on_test': selected,
    'published': [
      {
        'table': row.table.name,
        'category': row.category,
        'selection': row.table.selection,
        'percent': dataclasses.asdict(row.figures),
        'source': row.table.source,
      }
      for row in rows
    ],
  }


def _further(result: CategoryResult) -> dict[str, Any]:
  names = ('ensemble', 'course', 'kinds', 'cautions', 'pixels')
  found = {name: getattr(result, name) for name in names}
  return {name: value for name, value in found.items() if value}


_PerSeed = Mapping[str, Sequence[Mapping[str, float]]]


def _filled(categories: _PerSeed) -> _PerSeed:
  """Gives a category without metrics undefined ones, for as many seeds."""
  counts = {name: len(seeds) for name, seeds in categories.items() if seeds}
  if len(set(counts.values())) > 1:
    raise ValueError(
      f'seeds per category: found {counts}, expected equally many'
    )
  undefined: dict[str, float] = dict.fromkeys(metrics.METRICS, math.nan)
  fill = [undefined] * max(counts.values(), default=1)
  return {name: seeds or fill for name, seeds in categories.items()}


def _over_categories(categories: _PerSeed) -> dict[str, dict[str, Any]]:
  """Averages over categories within each seed, then summarises the seeds."""
  return summarise(
    [
      {
        metric: statistics.fmean(category[metric] for category in seed)
        for metric in metrics.METRICS
      }
      for seed in zip(*categories.values(), strict=True)
    ]
  )


def write_json(path: Path | str, results: Mapping[str, Any]) -> None:
  """Writes results as strict JSON, whole or not at all; NaN becomes null."""
  text = json.dumps(_strict(results), indent=2, allow_nan=False)
  with written_aside(path) as aside:
    aside.write_text(text + '\n', encoding='utf-8')


def _strict(value: Any) -> Any:
  if hasattr(value, 'tolist'):  # NumPy scalars and arrays.
    value = value.tolist()
  if isinstance(value, Mapping):
    return {key: _strict(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_strict(item) for item in value]
  if isinstance(value, float) and math.isnan(value):
    return None
  return value


def write_csv(path: Path | str, results: Mapping[str, Any]) -> None:
  """Writes all metrics as fractions: a row per category and selection."""
  columns = [(metric, part) for metric in metrics.METRICS for part in _PARTS]
  names = [f'{metric}_{part}' for metric, part in columns]
  with (
    written_aside(path) as aside,
    aside.open('w', newline='', encoding='utf-8') as file,
  ):
    write = table_writer(file)
    write(['category', 'selection', 'seeds', *names])
    for selection, categories in by_selection(results).items():
      for name, summaries in categories.items():
        values = [summaries[metric][part] for metric, part in columns]
        seeds = len(summaries[metrics.METRICS[0]]['seeds'])
        write([no_formula(name), selection, seeds, *values])


def no_formula(text: str) -> str:
  """Returns a folder's name so that no spreadsheet runs it."""
  return f"'{text}" if is_formula(text) else text


def write_markdown(path: Path | str, results: Mapping[str, Any]) -> None:
  """Writes the Markdown table, whole or not at all."""
  with written_aside(path) as aside:
    aside.write_text(markdown_table(results) + '\n', encoding='utf-8')
