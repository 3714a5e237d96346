"""How near a recipe's last epoch comes to another one's best test epoch.

The first variant of a sweep is the baseline. The epoch that is best on the test
images cannot be known without them, so it is no result of a recipe, but a bar:
a variant whose last epoch is not inferior to it needs no selection.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from scipy import stats

from simplenet_jax.data import dataset
from simplenet_jax.evaluation import run_files
from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.sweeps import numbers
from simplenet_jax.sweeps.conduct import Outcome
from simplenet_jax.training import estimate, layout, setup

# What a figure may lie below the bar, as fractions.
MARGINS = {'image_auroc': 0.002, 'pixel_auroc': 0.003}
LATEST = 10  # Scorings whose spread is told.
CONFIDENCE = 0.95
# A recipe could be stopped, without a label, at the first scoring after which
# so many of an epoch's patches lie beyond their margins, both kinds on average.
SEPARATED = 0.9

_PerSeed = list[dict[str, float]]


def measure(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
  """Compares variants with the best test epochs of the first one.

  Args:
    outcomes: Of the variants, each with the course of its scorings.

  Returns:
    For every variant, by category: `steps` and `head_tflop` of one head,
    `share` of it in the baseline's, and by metric (fractions) `spread`: the
    standard deviation over the latest scorings, mean over seeds
    (`spread_covers`: their share of the schedule); `ensemble`;
    `stopped`: one value per seed; and `to_bar`: last epoch minus the
    baseline's best test epoch, paired by seed, with its `mean`, the ends `low`
    and `high` of its confidence interval (None for a single seed) and whether
    it is `not_inferior`. `course` has the share of the baseline's operations
    at every scoring, and the metrics' means over seeds.

  Raises:
    ValueError: If a variant was not scored as it went, has other seeds, or a
      category has no pixel figures.
  """
  bars = outcomes[0].results['selected_on_test']
  operations = [_operations(one) for one in outcomes]
  return [
    _measure(one, outcomes[0], bars, own, operations[0])
    for one, own in zip(outcomes, operations, strict=True)
  ]


def _measure(
  one: Outcome, baseline: Outcome, bars, operations, most
) -> dict[str, Any]:
  if one.config.seeds != baseline.config.seeds:
    raise ValueError(
      f'{one.label} has seeds {one.config.seeds}, {baseline.label} has '
      f'{baseline.config.seeds}; pairs are of equal seeds'
    )
  found = {}
  for name, result in one.results['categories'].items():
    courses = result.get('course')
    if not courses or not all(courses):
      raise ValueError(
        f'{one.label} has no course of {name}; set '
        '--config.base.evaluation.course, and give another --workdir'
      )
    if name not in bars:
      raise ValueError(
        f'{name} has no best test epoch: its test images are of one kind'
      )
    if None in result['last']['pixel_auroc']['seeds']:
      raise ValueError(f'{name} has no pixel AUROC: its defects have no masks')
    steps, epochs, flops = operations[name]
    share = flops / most[name][-1]
    found[name] = {
      'steps': steps,
      'head_tflop': flops / 1e12,
      'share': share,
      'spread': {
        metric: statistics.fmean(_spread(seed, metric) for seed in courses)
        for metric in MARGINS
      },
      'spread_covers': min(1.0, LATEST / len(courses[0])),
      'ensemble': {m: result.get('ensemble', {}).get(m) for m in MARGINS},
      'stopped': _stopped(one, name, courses),
      'to_bar': {
        metric: compare(
          result['last'][metric]['seeds'], bars[name][metric]['seeds'], margin
        )
        for metric, margin in MARGINS.items()
      },
      'course': {
        'share': [share * at['epoch'] / epochs for at in courses[0]],
        **{
          metric: [
            statistics.fmean(at[metric] for at in together)
            for together in zip(*courses, strict=True)
          ]
          for metric in MARGINS
        },
      },
    }
  return found


def _operations(one: Outcome) -> dict[str, tuple[int, int, float]]:
  """Returns the steps, epochs and operations of one head, by category."""
  config = one.config
  extractor = setup.make_extractor(config)
  recipe = setup.make_recipe(config, extractor.level_offsets)
  weights = setup.load_backbone(config).state
  head = jax.eval_shape(
    lambda: setup.init_head(
      config, extractor.level_offsets, recipe, setup.head_key(0, '')
    )
  )
  found = {}
  for inputs in dataset.open_categories(config.data).categories:
    job = layout.make_jobs(config, [inputs])[0]
    flops = estimate.step_flops(
      extractor.shapes(weights, inputs.size), recipe, head
    )
    found[job.category] = job.steps, job.epochs, flops * job.steps
  return found


def compare(
  values: Sequence[float], bar: Sequence[float], margin: float
) -> dict[str, Any]:
  """Compares paired values.

  Args:
    values: One per seed.
    bar: What they are compared with, in the same order.
    margin: What they may lie below it.

  Returns:
    `mean`, `low`, `high` and `not_inferior`, see `measure`: whether the whole
    interval of Student's t lies above minus the margin.
  """
  differences = np.subtract(values, bar)
  mean, low, high = float(differences.mean()), None, None
  if len(differences) > 1:
    error = float(stats.sem(differences))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1))
    low, high = mean - reach * error, mean + reach * error
  return {
    'mean': mean,
    'low': low,
    'high': high,
    'not_inferior': low is not None and low >= -margin,
  }


def _spread(course: Sequence[Mapping[str, float]], metric: str) -> float:
  latest = [at[metric] for at in course[-LATEST:]]
  return statistics.stdev(latest) if len(latest) > 1 else 0.0


def _stopped(one: Outcome, name: str, courses) -> dict[str, list[float]]:
  """Returns the metrics at the scorings that no label would choose."""
  chosen = []
  curves = run_files.read_curves(one.workdir, name).values()
  for curve, course in zip(curves, courses, strict=True):
    shares = curve[:, 2:].mean(axis=1)  # Of patches beyond their margins.
    far = (at for at in course if shares[int(at['epoch']) - 1] >= SEPARATED)
    chosen.append(next(far, course[-1]))
  return {metric: [at[metric] for at in chosen] for metric in MARGINS}


def columns(
  collected: Mapping[str, Any], name: str
) -> tuple[list[str], list[list[str]]]:
  """Returns headers and rows of text for one category, in percent.

  Args:
    collected: From `numbers.collect`, each row with its `gap`.
    name: The category.
  """
  headers = ['variant', 'TFLOP', 'share', f'{LAST_EPOCH}: I / P-AUROC']
  headers += [f'spread of {LATEST}: I / P', 'ensemble: I / P']
  headers += ['stopped: I / P', f'{SELECTED_ON_TEST}: I / P']
  headers += ['to the bar: I', 'to the bar: P', 'no worse']
  rows = []
  for row in collected['rows']:
    found = row['gap'][name]
    last, best = (
      [row['figures'][which][name][metric] for metric in MARGINS]
      for which in (LAST_EPOCH, SELECTED_ON_TEST)
    )
    to_bar = found['to_bar'].values()
    rows.append(
      [
        row['label'],
        f'{found["head_tflop"]:.3g}',
        f'{found["share"]:.1%}',
        _pair([numbers.mean_and_deviation(metric) for metric in last]),
        _pair([f'{100 * value:.2f}' for value in found['spread'].values()])
        + f' ({found["spread_covers"]:.0%})',
        _pair([_percent(value) for value in found['ensemble'].values()]),
        _pair(
          [f'{100 * np.mean(each):.1f}' for each in found['stopped'].values()]
        ),
        _pair([numbers.mean_and_deviation(metric) for metric in best]),
        *map(_interval, to_bar),
        'yes' if all(each['not_inferior'] for each in to_bar) else 'no',
      ]
    )
  return headers, rows


def _pair(texts: Sequence[str]) -> str:
  return ' / '.join(texts)


def _percent(value: float | None) -> str:
  return numbers.UNDEFINED if value is None else f'{100 * value:.1f}'


def _interval(found: Mapping[str, Any]) -> str:
  text = f'{100 * found["mean"]:+.2f}'
  if found['low'] is None:
    return text
  return f'{text} ({100 * found["low"]:+.2f} to {100 * found["high"]:+.2f})'


def note(collected: Mapping[str, Any]) -> str:
  """Returns what a reader of the columns must know."""
  i, p = (f'{100 * margin:g}' for margin in MARGINS.values())
  return (
    f"The bar is the best test epoch of '{collected['rows'][0]['label']}', "
    'selected on test. To the bar: the last epoch minus it, paired by seed, '
    f'with the {CONFIDENCE:.0%} interval of the mean; no worse: both intervals '
    f'lie above -{i} and -{p} points. TFLOP: what training one head costs; '
    'share: of the first variant. Spread: standard deviation over the last '
    f'{LATEST} scorings, which cover that much of the schedule. Ensemble: the '
    "mean of all seeds' scores. Stopped: at the first scoring with "
    f'{SEPARATED:.0%} of the patches beyond their margins, without a label.'
  )


def tables(collected: Mapping[str, Any]) -> str:
  """Returns the tables of all categories in Markdown."""
  parts = []
  for name in collected['categories']:
    parts += [f'### {name}', numbers.markdown(*columns(collected, name))]
  return '\n\n'.join(
    [*parts, numbers.note(collected, averaged=False), note(collected)]
  )
