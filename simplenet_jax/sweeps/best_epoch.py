"""Last epochs beside a baseline's best test epoch.

The epoch that is best on the test images cannot be known without them, so it is
no result of a recipe but a baseline: a variant whose last epoch is not inferior
to it needs no selection.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from simplenet_jax.data import dataset
from simplenet_jax.evaluation import run_files
from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.evaluation.tables import UNDEFINED, spread
from simplenet_jax.training import bank, layout
from simplenet_jax.training.job import step_operations

if TYPE_CHECKING:
  from simplenet_jax.sweeps.tables import Outcome

# What a last epoch may lie below the best test epoch, as fractions.
TOLERATED = {'image_auroc': 0.002, 'pixel_auroc': 0.003}
LATEST = 10  # Scorings whose spread is told.
CONFIDENCE = 0.95
# A recipe could be stopped, without a label, at the first scoring after which
# so many of an epoch's patches lie beyond their margins, both kinds on average.
SEPARATED = 0.9


def measure(one: 'Outcome', baseline: 'Outcome') -> dict[str, Any]:
  """Compares a run's last epochs with the best test epochs of a baseline's.

  Returns by category: `steps` and `head_tflop` of one head and by metric, as
  fractions, `margin` (see `compare`), `ensemble`, `early_stop` of each seed,
  and `spread`: the standard deviation over the latest scorings, mean over
  seeds. `spread_covers` is these scorings' share of the schedule. `history` has
  the operations up to every scoring, and the metrics' means over seeds.
  """
  extractor = bank.make_extractor(one.config)
  weights, found = bank.load_backbone(one.config).state, {}
  for inputs in dataset.open_categories(one.config.data).categories:
    steps = layout.make_jobs(one.config, [inputs])[0].steps
    shapes = extractor.shapes(weights, inputs.size)
    tflop = steps * step_operations(one.config, shapes) / 1e12
    costs = {'steps': steps, 'head_tflop': tflop}
    found[inputs.name] = costs | _compare(one, baseline, inputs.name, tflop)
  return {'versus_best_epoch': found}


def _compare(
  one: 'Outcome', baseline: 'Outcome', name: str, tflop: float
) -> dict[str, Any]:
  result = one.results['categories'][name]
  best = baseline.results['selected_on_test'].get(name)
  course, last = result.get('course', [[]]), result['last']
  if not best or not all(course) or None in last['pixel_auroc']['seeds']:
    raise ValueError(
      f'{one.label} cannot be compared on {name}: that takes test images of '
      'both kinds with masks and the figures of every scoring; set '
      '--config.base.evaluation.course, and give another --workdir'
    )
  at = np.array([scoring['epoch'] for scoring in course[0]])
  stops = []
  for curve in run_files.read_curves(one.workdir, name).values():
    separated = curve[at - 1, 2:].mean(axis=1) >= SEPARATED
    stops.append(separated.argmax() if separated.any() else -1)
  parts = ('spread', 'ensemble', 'early_stop', 'margin', 'history')
  found: dict[str, Any] = {part: {} for part in parts}
  found['spread_covers'] = min(1.0, LATEST / len(at))
  found['history']['tflop'] = tflop * at / at[-1]
  for metric, tolerated in TOLERATED.items():
    values = np.array([[each[metric] for each in seed] for seed in course])
    late = values[:, -LATEST:].std(axis=1, ddof=len(at) > 1)
    seeds, bar = last[metric]['seeds'], best[metric]['seeds']
    found['spread'][metric] = late.mean()
    found['ensemble'][metric] = result.get('ensemble', {}).get(metric)
    found['early_stop'][metric] = values[range(len(stops)), stops]
    found['margin'][metric] = compare(seeds, bar, tolerated)
    found['history'][metric] = values.mean(axis=0)
  return found


def compare(
  values: Sequence[float], baseline: Sequence[float], tolerated: float
) -> dict[str, Any]:
  """Compares values with a baseline's, paired by seed.

  Returns the `mean` difference, the ends `low` and `high` of its interval by
  Student's t (None for a single seed), and whether it is `not_inferior`: the
  whole interval lies above minus `tolerated`.
  """
  differences = np.subtract(values, baseline)
  mean, low, high = float(differences.mean()), None, None
  if len(differences) > 1:
    error = float(stats.sem(differences))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1))
    low, high = mean - reach * error, mean + reach * error
  not_inferior = low is not None and low >= -tolerated
  return {'mean': mean, 'low': low, 'high': high, 'not_inferior': not_inferior}


def rows(collected: Mapping[str, Any], name: str) -> list[list[str]]:
  """Returns header and rows of text for one category, in percent."""
  header = (
    *('variant', 'TFLOP', 'share', f'{LAST_EPOCH}: I / P-AUROC'),
    *(f'spread of {LATEST}: I / P', 'ensemble: I / P', 'early stop: I / P'),
    *(f'{SELECTED_ON_TEST}: I / P', 'margin: I', 'margin: P', 'no worse'),
  )
  lines = [[*header]]
  whole = collected['rows'][0]['versus_best_epoch'][name]['head_tflop']
  for row in collected['rows']:
    found = row['versus_best_epoch'][name]
    tflop, margins = found['head_tflop'], found['margin'].values()
    last, best = (
      _pair(spread(row['figures'][which][name][metric]) for metric in TOLERATED)
      for which in (LAST_EPOCH, SELECTED_ON_TEST)
    )
    late = _pair(f'{100 * value:.2f}' for value in found['spread'].values())
    stopped = [np.mean(one) for one in found['early_stop'].values()]
    cells = (
      *(row['label'], f'{tflop:.3g}', f'{tflop / whole:.1%}'),
      *(last, f'{late} ({found["spread_covers"]:.0%})'),
      *(_percents(found['ensemble'].values()), _percents(stopped), best),
      *map(_interval, margins),
      'yes' if all(one['not_inferior'] for one in margins) else 'no',
    )
    lines.append([*cells])
  return lines


def note(baseline: str) -> str:
  """Returns what a reader of the rows must know; names the first variant."""
  tolerated = ' and '.join(f'-{100 * one:g}' for one in TOLERATED.values())
  return (
    f"The baseline is the best test epoch of '{baseline}', selected on test. "
    'Margin: the last epoch minus it, paired by seed, with the '
    f'{CONFIDENCE:.0%} interval of the mean; no worse: both intervals lie '
    f'above {tolerated} points. TFLOP: what training one head costs; share: of '
    f'the first variant. Spread: standard deviation over the last {LATEST} '
    'scorings, which cover that much of the schedule. Ensemble: the mean of '
    "all seeds' scores. Early stop: at the first scoring with "
    f'{SEPARATED:.0%} of the patches beyond their margins, without a label.'
  )


def _pair(texts: Iterable[str]) -> str:
  return ' / '.join(texts)


def _percents(values: Iterable[float | None]) -> str:
  return _pair(UNDEFINED if v is None else f'{100 * v:.1f}' for v in values)


def _interval(found: Mapping[str, Any]) -> str:
  text = f'{100 * found["mean"]:+.2f}'
  if found['low'] is None:
    return text
  return f'{text} ({100 * found["low"]:+.2f} to {100 * found["high"]:+.2f})'
