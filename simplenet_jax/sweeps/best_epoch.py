"""Last epochs beside a baseline's best test epoch.

The epoch that is best on the test images cannot be known without them, so it is
no result of a recipe but a baseline: a variant whose last epoch is not inferior
to it needs no selection.
"""

import statistics
from collections.abc import Mapping, Sequence
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
  from simplenet_jax.sweeps.experiment import Outcome

# What a last epoch may lie below the best test epoch, as fractions.
TOLERATED = {'image_auroc': 0.002, 'pixel_auroc': 0.003}
LATEST = 10  # Scorings whose spread is told.
CONFIDENCE = 0.95
# A recipe could be stopped, without a label, at the first scoring after which
# so many of an epoch's patches lie beyond their margins, both kinds on average.
SEPARATED = 0.9


def compare_all(
  outcomes: Sequence['Outcome'],
) -> list[dict[str, Any]]:
  """Compares variants' last epochs with the best test epochs of the first.

  Returns:
    For every variant, by category: `steps` and `head_tflop` of one head, its
    `share` in the baseline's, and by metric (fractions) `margin`, see
    `compare`; `spread`: the standard deviation over the latest scorings, mean
    over seeds (`spread_covers`: their share of the schedule); `ensemble`;
    `early_stop`: one value per seed. `history` has the share of the baseline's
    operations at every scoring, and the metrics' means over seeds.

  Raises:
    ValueError: If a variant was not scored as it went, has other seeds, or a
      category has no pixel figures.
  """
  costs = [_operations(one) for one in outcomes]
  return [
    {
      name: _compare(one, outcomes[0], name, own[name], costs[0][name][-1])
      for name in one.results['categories']
    }
    for one, own in zip(outcomes, costs, strict=True)
  ]


def _compare(
  one: 'Outcome', first: 'Outcome', name: str, cost, most: float
) -> dict[str, Any]:
  result = one.results['categories'][name]
  best = first.results['selected_on_test'].get(name)
  history, last = result.get('course'), result['last']
  if one.config.seeds != first.config.seeds:
    raise ValueError(
      f'{one.label} has seeds {one.config.seeds}, {first.label} has '
      f'{first.config.seeds}; pairs are of equal seeds'
    )
  if not history or not all(history):
    raise ValueError(
      f'{one.label} has no course of {name}; set '
      '--config.base.evaluation.course, and give another --workdir'
    )
  if not best:
    raise ValueError(
      f'{name} has no best test epoch: its test images are of one kind'
    )
  if None in last['pixel_auroc']['seeds']:
    raise ValueError(f'{name} has no pixel AUROC: its defects have no masks')
  steps, epochs, flops = cost
  share = flops / most
  stopped = []
  curves = run_files.read_curves(one.workdir, name).values()
  for curve, seed in zip(curves, history, strict=True):
    shares = curve[:, 2:].mean(axis=1)  # Of patches beyond their margins.
    far = (at for at in seed if shares[int(at['epoch']) - 1] >= SEPARATED)
    stopped.append(next(far, seed[-1]))
  return {
    'steps': steps,
    'head_tflop': flops / 1e12,
    'share': share,
    'spread': {
      metric: statistics.fmean(
        np.std([at[metric] for at in seed[-LATEST:]], ddof=len(seed) > 1)
        for seed in history
      )
      for metric in TOLERATED
    },
    'spread_covers': min(1.0, LATEST / len(history[0])),
    'ensemble': {m: result.get('ensemble', {}).get(m) for m in TOLERATED},
    'early_stop': {m: [at[m] for at in stopped] for m in TOLERATED},
    'margin': {
      metric: compare(last[metric]['seeds'], best[metric]['seeds'], tolerated)
      for metric, tolerated in TOLERATED.items()
    },
    'history': {
      'share': [share * at['epoch'] / epochs for at in history[0]],
      **{
        metric: [
          statistics.fmean(at[metric] for at in together)
          for together in zip(*history, strict=True)
        ]
        for metric in TOLERATED
      },
    },
  }


def _operations(one: 'Outcome') -> dict[str, tuple[int, int, float]]:
  """Returns the steps, epochs and operations of one head, by category."""
  config = one.config
  extractor = bank.make_extractor(config)
  weights = bank.load_backbone(config).state
  found = {}
  for inputs in dataset.open_categories(config.data).categories:
    job = layout.make_jobs(config, [inputs])[0]
    flops = step_operations(config, extractor.shapes(weights, inputs.size))
    found[inputs.name] = job.steps, job.epochs, flops * job.steps
  return found


def compare(
  values: Sequence[float], baseline: Sequence[float], tolerated: float
) -> dict[str, Any]:
  """Compares values with a baseline's, paired by seed.

  Returns:
    The `mean` difference, the ends `low` and `high` of its interval by
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
  lines = [
    [
      *('variant', 'TFLOP', 'share', f'{LAST_EPOCH}: I / P-AUROC'),
      *(f'spread of {LATEST}: I / P', 'ensemble: I / P', 'early stop: I / P'),
      *(f'{SELECTED_ON_TEST}: I / P', 'margin: I', 'margin: P', 'no worse'),
    ]
  ]
  for row in collected['rows']:
    found, figures = row['versus_best_epoch'][name], row['figures']
    margins = found['margin'].values()
    last, best = (
      _pair(spread(figures[which][name][metric]) for metric in TOLERATED)
      for which in (LAST_EPOCH, SELECTED_ON_TEST)
    )
    late = _pair(f'{100 * value:.2f}' for value in found['spread'].values())
    lines.append(
      [
        row['label'],
        f'{found["head_tflop"]:.3g}',
        f'{found["share"]:.1%}',
        last,
        f'{late} ({found["spread_covers"]:.0%})',
        _pair(_percent(value) for value in found['ensemble'].values()),
        _pair(_percent(np.mean(one)) for one in found['early_stop'].values()),
        best,
        *map(_interval, margins),
        'yes' if all(one['not_inferior'] for one in margins) else 'no',
      ]
    )
  return lines


def note(baseline: str) -> str:
  """Returns what a reader of the rows must know.

  Args:
    baseline: The first variant.
  """
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


def _pair(texts) -> str:
  return ' / '.join(texts)


def _percent(value: float | None) -> str:
  return UNDEFINED if value is None else f'{100 * value:.1f}'


def _interval(found: Mapping[str, Any]) -> str:
  text = f'{100 * found["mean"]:+.2f}'
  if found['low'] is None:
    return text
  return f'{text} ({100 * found["low"]:+.2f} to {100 * found["high"]:+.2f})'
