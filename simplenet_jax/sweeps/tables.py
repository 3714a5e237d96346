"""A sweep's numbers beside the paper's and beside a best test epoch.

Which epoch is best on the test images cannot be known without them, so it is no
result of a recipe but a baseline: a variant whose last epoch is not inferior to
it needs no selection.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from simplenet_jax.config import Config, describe_protocol, flatten
from simplenet_jax.data import dataset
from simplenet_jax.evaluation import results, tables
from simplenet_jax.evaluation.metrics import HEADLINES
from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.evaluation.tables import PAIR, UNDEFINED, spread
from simplenet_jax.files import atomic_write, csv_text
from simplenet_jax.training import bank, layout
from simplenet_jax.training.job import step_operations

# What a last epoch may lie below the best test epoch, as fractions.
TOLERATED = {'image_auroc': 0.002, 'pixel_auroc': 0.003}
CONFIDENCE = 0.95

Collected = Mapping[str, Any]  # From `collect`, with what a view needs.


class Outcome(NamedTuple):
  """What came of one run; `results` is what its `results.json` holds."""

  label: str
  config: Config
  workdir: Path
  results: dict[str, Any]


def collect(
  config: Config, outcomes: Sequence[Outcome], failures: Mapping[str, str]
) -> dict[str, Any]:
  """Returns what a sweep's JSON holds: our fractions, the paper's percents."""
  first = outcomes[0].results
  shared = ('selection_rule', 'device', 'versions', 'published')
  paper = {label: pair for label, *pair in config.paper}
  rows = [
    {
      'label': one.label,
      'folder': one.workdir.name,
      'changes': dict(dict(config.variants)[one.label]),
      'at': flatten(one.config).get(config.axis),
      'epochs': one.config.train.epochs,
      'seeds': list(one.config.seeds),
      'backbone': one.config.backbone.name,
      'weights_sha256': one.results['weights']['sha256'],
      'figures': tables.by_selection(one.results),
      'paper': dict(zip(PAIR, paper.get(one.label, ()), strict=False)),
    }
    for one in outcomes
  ]
  return {
    **{field: config[field] for field in ('name', 'title', 'view', 'axis')},
    'protocol': describe_protocol(config.base),
    'epochs': config.base.train.epochs,
    'seeds': list(config.base.seeds),
    'categories': list(first['categories']),
    **{name: first[name] for name in shared},
    'failures': dict(failures),
    'rows': rows,
  }


def versus_best_epoch(one: Outcome, baseline: Outcome) -> dict[str, Any]:
  """Compares a run's last epochs with the best test epochs of a baseline's.

  Returns by category `steps` and `head_tflop` of one head, by metric the
  `margin` (see `compare`), and the `history`: the operations up to every
  scoring, and the metrics' means over seeds.
  """
  weights, found = bank.load_backbone(one.config).state, {}
  for inputs in dataset.open_categories(one.config.data).categories:
    steps = layout.make_jobs(one.config, [inputs])[0].steps
    shapes = bank.shapes(one.config, weights, inputs.size)
    tflop = steps * step_operations(one.config, shapes) / 1e12
    costs = {'steps': steps, 'head_tflop': tflop}
    found[inputs.name] = costs | _compare(one, baseline, inputs.name, tflop)
  return {'versus_best_epoch': found}


def _compare(
  one: Outcome, baseline: Outcome, name: str, tflop: float
) -> dict[str, Any]:
  result = one.results['categories'][name]
  best = baseline.results['selected_on_test'].get(name)
  course, last = result.get('course', [[]]), result['last']
  if one.config.seeds != baseline.config.seeds:
    raise ValueError(f'{one.label} has other seeds than {baseline.label}')
  if not best or not all(course) or None in last['pixel_auroc']['seeds']:
    raise ValueError(
      f'{one.label} cannot be compared on {name}: that takes test images of '
      'both kinds with masks and the figures of every scoring; set '
      '--config.base.evaluation.course, and give another --workdir'
    )
  at = np.array([scoring['epoch'] for scoring in course[0]])
  history, margin = {'tflop': tflop * at / at[-1]}, {}
  for metric, tolerated in TOLERATED.items():
    values = [[scoring[metric] for scoring in seed] for seed in course]
    history[metric] = np.mean(values, axis=0)
    ours, bar = last[metric]['seeds'], best[metric]['seeds']
    margin[metric] = compare(ours, bar, tolerated)
  return {'margin': margin, 'history': history}


def compare(
  values: Sequence[float], baseline: Sequence[float], tolerated: float
) -> dict[str, Any]:
  """Compares values with a baseline's, paired by seed.

  Returns the `mean` difference, its interval by Student's t (None for a single
  seed) from `low` to `high`, and whether all of that lies above minus
  `tolerated`: `not_inferior`.
  """
  differences = np.subtract(values, baseline)
  mean, low, high = float(differences.mean()), None, None
  if len(differences) > 1:
    error = float(stats.sem(differences))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1))
    low, high = mean - reach * error, mean + reach * error
  not_inferior = low is not None and low >= -tolerated
  return {'mean': mean, 'low': low, 'high': high, 'not_inferior': not_inferior}


def markdown(collected: Collected) -> str:
  """Returns the tables of a sweep, in percent, with notes below."""
  if collected['view'] != 'versus_best_epoch':
    return f'{tables.markdown_rows(_means(collected))}\n\n{_note(collected)}'
  parts = []
  for name in collected['categories']:
    parts += [f'### {name}', tables.markdown_rows(_margins(collected, name))]
  tolerated = ' and '.join(f'-{100 * one:g}' for one in TOLERATED.values())
  parts += [
    _note(collected),
    'The baseline is the best test epoch of the first variant. Margin: the '
    f'last epoch minus it, paired by seed, with the {CONFIDENCE:.0%} interval; '
    f'no worse: both intervals lie above {tolerated} points. Operations: of '
    "training one head, in percent of the first variant's.",
  ]
  return '\n\n'.join(parts)


def _means(collected: Collected) -> list[list[str]]:
  """Returns header and rows: the means over categories."""
  header = ['variant', *(f'{LAST_EPOCH}: {m}' for m in HEADLINES.values())]
  header.append(f'{SELECTED_ON_TEST}: I / P-AUROC')
  if with_paper := any(row['paper'] for row in collected['rows']):
    header.append(f'paper, {SELECTED_ON_TEST}: I / P-AUROC')
  lines = [header]
  for row in collected['rows']:
    last = row['figures'][LAST_EPOCH]['mean']
    cells = [row['label'], *(spread(last[metric]) for metric in HEADLINES)]
    cells.append(_pair(row, SELECTED_ON_TEST, 'mean'))
    if with_paper:
      cells.append(' / '.join(map(str, row['paper'].values())) or UNDEFINED)
    lines.append(cells)
  return lines


def _margins(collected: Collected, name: str) -> list[list[str]]:
  """Returns header and rows of text for one category, in percent."""
  selections = (LAST_EPOCH, SELECTED_ON_TEST)
  pairs = [f'{selection}: I / P-AUROC' for selection in selections]
  margins = ['margin: I', 'margin: P', 'no worse']
  lines = [['variant', 'operations', *pairs, *margins]]
  whole = collected['rows'][0]['versus_best_epoch'][name]['head_tflop']
  for row in collected['rows']:
    found = row['versus_best_epoch'][name]
    share = f'{found["head_tflop"] / whole:.1%}'
    pairs = [_pair(row, selection, name) for selection in selections]
    margins = found['margin'].values()
    no_worse = 'yes' if all(one['not_inferior'] for one in margins) else 'no'
    intervals = map(_interval, margins)
    lines.append([row['label'], share, *pairs, *intervals, no_worse])
  return lines


def _pair(row: Mapping[str, Any], selection: str, name: str) -> str:
  """Returns a variant's I / P-AUROC of a category, or its mean, in percent."""
  found = row['figures'].get(selection, {}).get(name)
  return ' / '.join(spread(found[m]) for m in PAIR) if found else UNDEFINED


def _interval(found: Mapping[str, Any]) -> str:
  text = f'{100 * found["mean"]:+.2f}'
  if found['low'] is None:
    return text
  return f'{text} ({100 * found["low"]:+.2f} to {100 * found["high"]:+.2f})'


def _note(collected: Collected) -> str:
  rows, of = collected['rows'], ', '.join(collected['categories'])
  seeds = min(len(row['seeds']) for row in rows)
  epochs = ', '.join(map(str, sorted({row['epochs'] for row in rows})))
  over = f'±standard deviation over {seeds} seeds' if seeds > 1 else 'one seed'
  if collected['view'] != 'versus_best_epoch':
    of = f'mean over {of}'
  text = f'Percent; {of}, {over}; epochs: {epochs}, '
  text += f'protocol {collected["protocol"]}.'
  if collected['failures']:
    text += f' Failed and left out: {", ".join(collected["failures"])}.'
  if any(row['paper'] for row in rows):
    text += (
      " The paper's figures are of 15 categories of MVTec AD and a "
      'WideResNet50-2 unless the row names another.'
    )
  return text


def write(
  collected: Collected, outcomes: Sequence[Outcome], table: str
) -> list[Path]:
  """Writes `<name>.json`, `.csv` and, with the table, `.md`."""
  workdir, name = outcomes[0].workdir.parent, collected['name']
  paths = [workdir / f'{name}.{suffix}' for suffix in ('json', 'csv', 'md')]
  results.write_json(paths[0], collected)
  lines = [['variant', *next(tables.csv_rows(outcomes[0].results))]]
  for one in outcomes:
    _, *rows = tables.csv_rows(one.results)
    lines += [[one.label, *row] for row in rows]
  texts = csv_text(lines), f'## {collected["title"]}\n\n{table}\n'
  for path, text in zip(paths[1:], texts, strict=True):
    with atomic_write(path) as aside:
      aside.write_text(text, encoding='utf-8', newline='')
  return paths
