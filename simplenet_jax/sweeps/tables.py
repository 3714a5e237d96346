"""A sweep's numbers beside the paper's and beside a best test epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simplenet_jax.config import Config, describe_protocol, flatten
from simplenet_jax.console import counted
from simplenet_jax.data.folder import MVTEC_AD
from simplenet_jax.evaluation import results
from simplenet_jax.evaluation.metrics import HEADLINES, METRICS
from simplenet_jax.evaluation.published import (
  BACKBONE,
  LAST_EPOCH,
  SELECTED_ON_TEST,
)
from simplenet_jax.evaluation.tables import (
  UNDEFINED,
  by_selection,
  markdown_rows,
  no_formula,
  spread,
)
from simplenet_jax.files import atomic_write, table_writer
from simplenet_jax.models.weights import UNKNOWN, V1
from simplenet_jax.sweeps import best_epoch

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

_PAIR = ('image_auroc', 'pixel_auroc')


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
      name: {metric: each[metric] for metric in METRICS}
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
  network = one.label if config.name == 'table4' else BACKBONE
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


def markdown(collected: Mapping[str, Any]) -> str:
  """Returns the tables of a sweep, in percent, with notes below."""
  if collected['view'] != 'versus_best_epoch':
    return f'{markdown_rows(_means(collected))}\n\n{_note(collected)}'
  parts = []
  for name in collected['categories']:
    parts += [f'### {name}', markdown_rows(best_epoch.rows(collected, name))]
  note = best_epoch.note(collected['rows'][0]['label'])
  return '\n\n'.join([*parts, _note(collected, averaged=False), note])


def _means(collected: Mapping[str, Any]) -> list[list[str]]:
  """Returns header and rows: the means over categories."""
  header = ['variant', *(f'{LAST_EPOCH}: {m}' for m in HEADLINES.values())]
  header += [f'{SELECTED_ON_TEST}: I / P-AUROC']
  with_paper = any(row['paper'] for row in collected['rows'])
  if with_paper:
    header += [f'paper, {SELECTED_ON_TEST}: I / P-AUROC']
  rows = [header]
  for row in collected['rows']:
    last = row['figures'][LAST_EPOCH]['mean']
    best = row['figures'].get(SELECTED_ON_TEST, {}).get('mean')
    cells = [row['label'], *(spread(last[m]) for m in HEADLINES)]
    cells += [' / '.join(spread(best[m]) for m in _PAIR) if best else UNDEFINED]
    if with_paper:
      theirs = row['paper'] and row['paper']['percent'].values()
      cells += [' / '.join(map(str, theirs)) if theirs else UNDEFINED]
    rows.append(cells)
  return rows


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
