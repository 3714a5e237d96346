"""A sweep's numbers beside the paper's: JSON, CSV and tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich import table as rich_table

from simplenet_jax.config import Config, describe_protocol, flatten
from simplenet_jax.console import console, counted
from simplenet_jax.data.folder import MVTEC_AD
from simplenet_jax.evaluation import metrics, results
from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.evaluation.tables import by_selection, no_formula
from simplenet_jax.files import table_writer, written_aside
from simplenet_jax.models.weights import UNKNOWN, V1
from simplenet_jax.sweeps import published
from simplenet_jax.sweeps.conduct import Outcome

METRICS = {
  'image_auroc': 'I-AUROC',
  'pixel_auroc': 'P-AUROC',
  'aupro_30': 'AUPRO',
}
_PAIR = ('image_auroc', 'pixel_auroc')
UNDEFINED = '–'  # noqa: RUF001


def collect(
  config: Config, outcomes: Sequence[Outcome], failures: Mapping[str, str]
) -> dict[str, Any]:
  """Collects what a sweep found.

  Args:
    config: Its settings.
    outcomes: Of its variants.
    failures: Why others have none, by label.

  Returns:
    `name`, `title`, `view`, `axis`, `protocol`, `epochs`, `seeds`,
    `categories`, `device`, `versions`, `failures` and what was `published` of
    the first variant's settings, and a row per variant: `label`, `folder`,
    `changes`, `at` (its value on the axis), `epochs`, `seeds`, `figures` by
    selection and category (`mean` over them), as fractions, each with `mean`,
    `std` and `seeds`, and `paper`: percent, with its selection, and the
    difference to ours where both are of the protocol, whole, and of
    the same images, network and selection.
  """
  first = outcomes[0]
  return {
    'name': config.name,
    'title': config.title,
    'view': config.view,
    'axis': config.axis,
    'protocol': describe_protocol(config.base),
    'epochs': config.base.train.epochs,
    'seeds': list(config.base.seeds),
    'categories': list(first.results['categories']),
    'selection_rule': first.results['selection_rule'],
    'device': first.results['device'],
    'versions': first.results['versions'],
    'published': first.results['published'],
    'failures': dict(failures),
    'rows': [_row(config, one) for one in outcomes],
  }


def _row(config: Config, one: Outcome) -> dict[str, Any]:
  found = {
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
    'figures': found,
    'paper': _paper(config, one, found),
  }


def _paper(config: Config, one: Outcome, found: Mapping[str, Any]):
  pair = published.TABLES.get(config.name, {}).get(one.label)
  if pair is None:
    return None
  percent = dict(zip(_PAIR, pair, strict=True))
  network = one.label if config.name == 'table4' else 'wide_resnet50_2'
  same = (
    set(one.results['categories']) == set(MVTEC_AD)
    and one.config.backbone.name == network
    and describe_protocol(config.base) in ('reference', 'paper')
    and one.results['weights'].get('recipe', UNKNOWN) in (V1, UNKNOWN)
    and published.SELECTION in found
  )
  ours = found[published.SELECTION]['mean'] if same else {}
  return {
    'percent': percent,
    'selection': published.SELECTION,
    'of': f'15 categories of MVTec AD, {network}',
    'ours_minus_paper': {
      metric: 100 * ours[metric]['mean'] - percent[metric]
      for metric in percent
      if same and ours[metric]['mean'] is not None
    }
    or None,
  }


def columns(collected: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
  """Returns headers and rows of text: the mean over categories, in percent."""
  headers = ['variant', *(f'{LAST_EPOCH}: {m}' for m in METRICS.values())]
  headers += [f'{SELECTED_ON_TEST}: I / P-AUROC']
  with_paper = any(row['paper'] for row in collected['rows'])
  if with_paper:
    headers += [f'paper, {published.SELECTION}: I / P-AUROC']
  rows = []
  for row in collected['rows']:
    last = row['figures'][LAST_EPOCH]['mean']
    best = row['figures'].get(SELECTED_ON_TEST, {}).get('mean')
    cells = [
      row['label'],
      *(mean_and_deviation(last[metric]) for metric in METRICS),
    ]
    cells.append(
      ' / '.join(mean_and_deviation(best[m]) for m in _PAIR)
      if best
      else UNDEFINED
    )
    if with_paper:
      paper = row['paper']
      cells.append(
        ' / '.join(f'{paper["percent"][m]:.1f}' for m in _PAIR)
        if paper
        else UNDEFINED
      )
    rows.append(cells)
  return headers, rows


def mean_and_deviation(summary: Mapping[str, Any]) -> str:
  """Returns a mean and its standard deviation, in percent."""
  if summary['mean'] is None:
    return UNDEFINED
  mean, std = f'{100 * summary["mean"]:.1f}', summary['std']
  return mean if std is None else f'{mean}±{100 * std:.1f}'


def note(collected: Mapping[str, Any], averaged: bool = True) -> str:
  """Returns what a reader of the numbers must know.

  Args:
    collected: From `collect`.
    averaged: Whether the numbers are means over the categories.
  """
  names, rows = collected['categories'], collected['rows']
  seeds = min(len(row['seeds']) for row in rows)
  epochs = sorted({row['epochs'] for row in rows})
  schedule = (
    counted(epochs[0], 'epoch')
    if len(epochs) == 1
    else f'{", ".join(map(str, epochs))} epochs'
  )
  of = ', '.join(names) if len(names) < 4 else f'{len(names)} categories'
  over = f'±standard deviation over {seeds} seeds' if seeds > 1 else 'one seed'
  text = (
    f'Percent; {"mean over " if averaged else ""}{of}, {over}; '
    f'{schedule}, '
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


def tables(collected: Mapping[str, Any]) -> str:
  """Returns the table of the variants in Markdown."""
  return f'{markdown(*columns(collected))}\n\n{note(collected)}'


def terminal(collected: Mapping[str, Any]) -> rich_table.Table:
  """Returns the table for a terminal."""
  headers, rows = columns(collected)
  table = rich_table.Table(
    title=collected['title'],
    caption=note(collected),
    box=box.SIMPLE_HEAD,
    width=None if console.is_terminal else 118,
    title_justify='left',
    caption_justify='left',
  )
  for number, header in enumerate(headers):
    lines = header.replace(': ', '\n').replace(', ', ',\n')
    table.add_column(lines, justify='right' if number else 'left', no_wrap=True)
  for row in rows:
    table.add_row(*row)
  return table


def write(
  collected: Mapping[str, Any], workdir: Path, table: str
) -> list[Path]:
  """Writes `<name>.json`, `.csv` and `.md`; returns their paths.

  Args:
    collected: From `collect`.
    workdir: Where to.
    table: What the Markdown shows.
  """
  name = collected['name']
  paths = [workdir / f'{name}.{suffix}' for suffix in ('json', 'csv', 'md')]
  results.write_json(paths[0], collected)
  with (
    written_aside(paths[1]) as aside,
    aside.open('w', newline='', encoding='utf-8') as file,
  ):
    write_row = table_writer(file)
    for row in _flat(collected):
      write_row(row)
  with written_aside(paths[2]) as aside:
    aside.write_text(
      f'## {collected["title"]}\n\n{table}\n',
      encoding='utf-8',
    )
  return paths


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a table in Markdown."""
  rule = ['---', *['---:'] * (len(headers) - 1)]
  return '\n'.join(f'| {" | ".join(line)} |' for line in (headers, rule, *rows))


def _flat(collected: Mapping[str, Any]):
  yield ['variant', 'selection', 'category', 'metric', 'seed', 'value']
  for row in collected['rows']:
    for selection, by_category in row['figures'].items():
      for category, by_metric in by_category.items():
        for metric, summary in by_metric.items():
          for seed, value in zip(row['seeds'], summary['seeds'], strict=True):
            name = no_formula(category)
            yield [row['label'], selection, name, metric, seed, value]
    if paper := row['paper']:
      for metric, value in paper['percent'].items():
        yield [
          row['label'],
          f'paper, {paper["selection"]}',
          'mean',
          metric,
          '',
          round(value / 100, 6),
        ]
