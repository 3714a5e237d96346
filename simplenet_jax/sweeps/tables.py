"""A sweep's numbers beside the paper's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simplenet_jax.config import Config, describe_protocol, flatten
from simplenet_jax.evaluation import results
from simplenet_jax.evaluation.metrics import HEADLINES
from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.evaluation.tables import (
  PAIR,
  UNDEFINED,
  by_selection,
  csv_rows,
  markdown_rows,
  spread,
)
from simplenet_jax.files import atomic_write, table_writer
from simplenet_jax.sweeps import best_epoch

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


class Outcome(NamedTuple):
  """What came of one run; `results` is what its `results.json` holds."""

  label: str
  config: Config
  workdir: Path
  results: dict[str, Any]


def collect(
  config: Config, outcomes: Sequence[Outcome], failures: Mapping[str, str]
) -> dict[str, Any]:
  """Collects what a sweep found, as its JSON holds it.

  Every variant has a row with its `figures` by selection and category, as
  fractions, and the paper's in percent.
  """
  first = outcomes[0].results
  shared = ('selection_rule', 'device', 'versions', 'published')
  paper = PAPER.get(config.name, {})
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
      'figures': by_selection(one.results),
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


def markdown(collected: Mapping[str, Any]) -> str:
  """Returns the tables of a sweep, in percent, with notes below."""
  if collected['view'] != 'versus_best_epoch':
    return f'{markdown_rows(_means(collected))}\n\n{_note(collected)}'
  parts = []
  for name in collected['categories']:
    parts += [f'### {name}', markdown_rows(best_epoch.rows(collected, name))]
  note = best_epoch.note(collected['rows'][0]['label'])
  return '\n\n'.join([*parts, _note(collected), note])


def _means(collected: Mapping[str, Any]) -> list[list[str]]:
  """Returns header and rows: the means over categories."""
  header = ['variant', *(f'{LAST_EPOCH}: {m}' for m in HEADLINES.values())]
  header.append(f'{SELECTED_ON_TEST}: I / P-AUROC')
  if with_paper := any(row['paper'] for row in collected['rows']):
    header.append(f'paper, {SELECTED_ON_TEST}: I / P-AUROC')
  rows = [header]
  for row in collected['rows']:
    last = row['figures'][LAST_EPOCH]['mean']
    best = row['figures'].get(SELECTED_ON_TEST, {}).get('mean', {})
    pairs = [[spread(best[m]) for m in PAIR if best]]
    pairs += [map(str, row['paper'].values())] if with_paper else []
    joined = [' / '.join(pair) or UNDEFINED for pair in pairs]
    rows.append([row['label'], *(spread(last[m]) for m in HEADLINES), *joined])
  return rows


def _note(collected: Mapping[str, Any]) -> str:
  names, rows = collected['categories'], collected['rows']
  seeds = min(len(row['seeds']) for row in rows)
  epochs = ', '.join(map(str, sorted({row['epochs'] for row in rows})))
  of = ', '.join(names) if len(names) < 4 else f'{len(names)} categories'
  over = f'±standard deviation over {seeds} seeds' if seeds > 1 else 'one seed'
  if collected['view'] != 'versus_best_epoch':
    of = f'mean over {of}'
  text = f'Percent; {of}, {over}; epochs: {epochs}, '
  text += f'protocol {collected["protocol"]}.'
  if collected['failures']:
    text += f' Failed and left out: {", ".join(collected["failures"])}.'
  if not any(row['paper'] for row in rows):
    return text
  return (
    f"{text} The paper's figures are of 15 categories of MVTec AD and a "
    'WideResNet50-2 unless the row names another.'
  )


def write(
  collected: Mapping[str, Any], outcomes: Sequence[Outcome], table: str
) -> list[Path]:
  """Writes `<name>.json`, `.csv` and, with the table, `.md`."""
  workdir, name = outcomes[0].workdir.parent, collected['name']
  paths = [workdir / f'{name}.{suffix}' for suffix in ('json', 'csv', 'md')]
  results.write_json(paths[0], collected)
  with (
    atomic_write(paths[1]) as aside,
    aside.open('w', newline='', encoding='utf-8') as file,
  ):
    write_row = table_writer(file)
    for number, one in enumerate(outcomes):
      header, *rows = csv_rows(one.results)
      if not number:
        write_row(['variant', *header])
      for row in rows:
        write_row([one.label, *row])
  with atomic_write(paths[2]) as aside:
    text = f'## {collected["title"]}\n\n{table}\n'
    aside.write_text(text, encoding='utf-8')
  return paths
