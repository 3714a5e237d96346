"""A sweep's numbers beside the paper's and beside a best test epoch."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from simplenet_jax.config import Config, describe_protocol, flatten
from simplenet_jax.console import counted
from simplenet_jax.data import dataset
from simplenet_jax.data.folder import MVTEC_AD
from simplenet_jax.evaluation import metrics, results, run_files
from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.evaluation.tables import (
  UNDEFINED,
  by_selection,
  no_formula,
  spread,
)
from simplenet_jax.files import atomic_write, table_writer
from simplenet_jax.models.weights import UNKNOWN, V1
from simplenet_jax.training import bank, layout
from simplenet_jax.training.job import step_operations

if TYPE_CHECKING:
  from simplenet_jax.sweeps.experiment import Outcome

# What the paper shows of its own sweeps (Liu et al., CVPR 2023): image and
# pixel AUROC in percent, means over MVTec AD with a WideResNet50-2 unless a row
# names another network. Its code keeps the best epoch on the test images.
PAPER: dict[str, dict[str, tuple[float, float]]] = {
  'table2': {
    '1': (93.0, 94.2),
    '2': (98.4, 96.7),
    '3': (99.2, 97.5),
    '1+2': (96.7, 96.7),
    '2+3': (99.6, 98.1),
    '1+2+3': (99.1, 98.1),
  },
  'table3': {
    'linear': (99.6, 98.1),
    'non-linear': (98.3, 97.2),
    'none': (99.2, 97.9),
    'cross-entropy': (99.4, 97.8),
  },
  'table4': {
    'resnet18': (98.3, 95.7),
    'resnet50': (99.6, 98.0),
    'resnet101': (99.2, 97.6),
    'wide_resnet50_2': (99.6, 98.1),
  },
}

_METRICS = {
  'image_auroc': 'I-AUROC',
  'pixel_auroc': 'P-AUROC',
  'aupro_30': 'AUPRO',
}
_PAIR = ('image_auroc', 'pixel_auroc')

# What a last epoch may lie below the best test epoch, as fractions.
TOLERATED = {'image_auroc': 0.002, 'pixel_auroc': 0.003}
LATEST = 10  # Scorings whose spread is told.
CONFIDENCE = 0.95
# A recipe could be stopped, without a label, at the first scoring after which
# so many of an epoch's patches lie beyond their margins, both kinds on average.
SEPARATED = 0.9


def collect(
  config: Config, outcomes: Sequence['Outcome'], failures: Mapping[str, str]
) -> dict[str, Any]:
  """Collects what a sweep found, as its JSON holds it.

  Args:
    config: The sweep's settings.
    outcomes: Of its variants.
    failures: Why others have none, by label.

  Returns:
    What holds for all, and a row per variant: `figures` by selection and
    category (`mean` over them), as fractions, each with `mean`, `std` and
    `seeds`, and `paper`: percent, and the difference to ours where both are of
    the protocol, whole, and of the same images, network and selection.
  """
  first = outcomes[0]
  shared = ('selection_rule', 'device', 'versions', 'published')
  return {
    'name': config.name,
    'title': config.title,
    'view': config.view,
    'axis': config.axis,
    'protocol': describe_protocol(config.base),
    'epochs': config.base.train.epochs,
    'seeds': list(config.base.seeds),
    'categories': list(first.results['categories']),
    **{name: first.results[name] for name in shared},
    'failures': dict(failures),
    'rows': [_row(config, one) for one in outcomes],
  }


def _row(config: Config, one: 'Outcome') -> dict[str, Any]:
  figures = {
    selection: {
      name: {metric: each[metric] for metric in metrics.METRICS}
      for name, each in by_category.items()
    }
    for selection, by_category in by_selection(one.results).items()
  }
  return {
    'label': one.label,
    'folder': one.workdir.name,
    'changes': dict(dict(config.variants)[one.label]),
    'at': flatten(one.config).get(config.axis),
    'epochs': one.config.train.epochs,
    'seeds': list(one.config.seeds),
    'backbone': one.config.backbone.name,
    'weights_sha256': one.results['weights']['sha256'],
    'figures': figures,
    'paper': _paper(config, one, figures),
  }


def _paper(config: Config, one: 'Outcome', figures: Mapping[str, Any]):
  pair = PAPER.get(config.name, {}).get(one.label)
  if pair is None:
    return None
  percent = dict(zip(_PAIR, pair, strict=True))
  network = one.label if config.name == 'table4' else 'wide_resnet50_2'
  comparable = (
    set(one.results['categories']) == set(MVTEC_AD)
    and one.config.backbone.name == network
    and describe_protocol(config.base) in ('reference', 'paper')
    and one.results['weights'].get('recipe', UNKNOWN) in (V1, UNKNOWN)
    and SELECTED_ON_TEST in figures
  )
  ours = figures[SELECTED_ON_TEST]['mean'] if comparable else {}
  return {
    'percent': percent,
    'selection': SELECTED_ON_TEST,
    'of': f'15 categories of MVTec AD, {network}',
    'ours_minus_paper': {
      metric: 100 * summary['mean'] - percent[metric]
      for metric in _PAIR
      if (summary := ours.get(metric)) and summary['mean'] is not None
    }
    or None,
  }


def compare_with_best_epoch(
  outcomes: Sequence['Outcome'],
) -> list[dict[str, Any]]:
  """Compares variants' last epochs with the best test epochs of the first.

  The epoch that is best on the test images cannot be known without them, so it
  is no result of a recipe but a baseline: a variant whose last epoch is not
  inferior to it needs no selection.

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


def markdown(collected: Mapping[str, Any]) -> str:
  """Returns the tables of a sweep, in percent, with notes below."""
  if collected['view'] != 'versus_best_epoch':
    return f'{_table(_means(collected))}\n\n{_note(collected)}'
  parts = []
  for name in collected['categories']:
    parts += [f'### {name}', _table(_margins(collected, name))]
  tolerated = ' and '.join(f'-{100 * one:g}' for one in TOLERATED.values())
  first = collected['rows'][0]['label']
  note = (
    f"The baseline is the best test epoch of '{first}', selected on test. "
    'Margin: the last epoch minus it, paired by seed, with the '
    f'{CONFIDENCE:.0%} interval of the mean; no worse: both intervals lie '
    f'above {tolerated} points. TFLOP: what training one head costs; share: of '
    f'the first variant. Spread: standard deviation over the last {LATEST} '
    'scorings, which cover that much of the schedule. Ensemble: the mean of '
    "all seeds' scores. Early stop: at the first scoring with "
    f'{SEPARATED:.0%} of the patches beyond their margins, without a label.'
  )
  return '\n\n'.join([*parts, _note(collected, averaged=False), note])


def _table(rows: Sequence[Sequence[str]]) -> str:
  rule = ['---', *['---:'] * (len(rows[0]) - 1)]
  lines = (rows[0], rule, *rows[1:])
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _means(collected: Mapping[str, Any]) -> list[list[str]]:
  """Returns header and rows: the means over categories."""
  header = ['variant', *(f'{LAST_EPOCH}: {m}' for m in _METRICS.values())]
  header += [f'{SELECTED_ON_TEST}: I / P-AUROC']
  with_paper = any(row['paper'] for row in collected['rows'])
  if with_paper:
    header += [f'paper, {SELECTED_ON_TEST}: I / P-AUROC']
  rows = [header]
  for row in collected['rows']:
    last = row['figures'][LAST_EPOCH]['mean']
    best = row['figures'].get(SELECTED_ON_TEST, {}).get('mean')
    cells = [row['label'], *(spread(last[m]).text for m in _METRICS)]
    cells += [_pair(spread(best[m]).text for m in _PAIR) if best else UNDEFINED]
    if with_paper:
      theirs = row['paper'] and row['paper']['percent'].values()
      cells += [_pair(map(str, theirs)) if theirs else UNDEFINED]
    rows.append(cells)
  return rows


def _margins(collected: Mapping[str, Any], name: str) -> list[list[str]]:
  """Returns header and rows: a category beside the best test epoch."""
  rows = [
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
      _pair(spread(figures[which][name][metric]).text for metric in _PAIR)
      for which in (LAST_EPOCH, SELECTED_ON_TEST)
    )
    late = _pair(f'{100 * value:.2f}' for value in found['spread'].values())
    rows.append(
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
  return rows


def _pair(texts) -> str:
  return ' / '.join(texts)


def _percent(value: float | None) -> str:
  return UNDEFINED if value is None else f'{100 * value:.1f}'


def _interval(found: Mapping[str, Any]) -> str:
  text = f'{100 * found["mean"]:+.2f}'
  if found['low'] is None:
    return text
  return f'{text} ({100 * found["low"]:+.2f} to {100 * found["high"]:+.2f})'


def _note(collected: Mapping[str, Any], averaged: bool = True) -> str:
  names, rows = collected['categories'], collected['rows']
  seeds = min(len(row['seeds']) for row in rows)
  epochs = sorted({row['epochs'] for row in rows})
  of = ', '.join(names) if len(names) < 4 else f'{len(names)} categories'
  over = f'±standard deviation over {seeds} seeds' if seeds > 1 else 'one seed'
  schedule = (
    counted(epochs[0], 'epoch')
    if len(epochs) == 1
    else f'{", ".join(map(str, epochs))} epochs'
  )
  text = (
    f'Percent; {"mean over " if averaged else ""}{of}, {over}; {schedule}, '
    f'protocol {collected["protocol"]}.'
  )
  if collected['failures']:
    text += f' Failed and left out: {", ".join(collected["failures"])}.'
  if any(row['paper'] for row in rows):
    text += (
      " The paper's figures are of 15 categories of MVTec AD and a "
      'WideResNet50-2 unless the row names another.'
    )
  return text


def write(
  collected: Mapping[str, Any], workdir: Path, table: str
) -> list[Path]:
  """Writes `<name>.json`, `.csv` and, with the table, `.md`."""
  name = collected['name']
  paths = [workdir / f'{name}.{suffix}' for suffix in ('json', 'csv', 'md')]
  results.write_json(paths[0], collected)
  with (
    atomic_write(paths[1]) as aside,
    aside.open('w', newline='', encoding='utf-8') as file,
  ):
    write_row = table_writer(file)
    for row in _flat(collected):
      write_row(row)
  with atomic_write(paths[2]) as aside:
    text = f'## {collected["title"]}\n\n{table}\n'
    aside.write_text(text, encoding='utf-8')
  return paths


def _flat(collected: Mapping[str, Any]):
  yield ['variant', 'selection', 'category', 'metric', 'seed', 'value']
  for row in collected['rows']:
    label, paper = row['label'], row['paper']
    for selection, by_category in row['figures'].items():
      for category, by_metric in by_category.items():
        name = no_formula(category)
        for metric, summary in by_metric.items():
          for seed, value in zip(row['seeds'], summary['seeds'], strict=True):
            yield [label, selection, name, metric, seed, value]
    if paper:
      for metric, value in paper['percent'].items():
        selection = f'paper, {paper["selection"]}'
        yield [label, selection, 'mean', metric, '', round(value / 100, 6)]
