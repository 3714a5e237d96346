"""A sweep's numbers beside the paper's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simplenet_jax.config import Config, describe_protocol, flatten
from simplenet_jax.evaluation import results, tables
from simplenet_jax.evaluation.metrics import HEADLINES
from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.evaluation.tables import PAIR, UNDEFINED, spread
from simplenet_jax.files import atomic_write, csv_text

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


def markdown(collected: Collected) -> str:
  """Returns the means over categories, in percent, and a note below."""
  selected = f'{SELECTED_ON_TEST}: I / P-AUROC'
  header = ['variant', *(f'{LAST_EPOCH}: {m}' for m in HEADLINES.values())]
  header.append(selected)
  rows, note = collected['rows'], _note(collected)
  if with_paper := any(row['paper'] for row in rows):
    header.append(f'paper, {selected}')
    note += (
      " The paper's figures are of 15 categories of MVTec AD and a "
      'WideResNet50-2 unless the row names another.'
    )
  lines = [header]
  for row in rows:
    last, best = (
      row['figures'].get(one, {}).get('mean')
      for one in (LAST_EPOCH, SELECTED_ON_TEST)
    )
    cells = [row['label'], *(spread(last[metric]) for metric in HEADLINES)]
    pair = [spread(best[metric]) for metric in PAIR] if best else []
    cells.append(' / '.join(pair) or UNDEFINED)
    if with_paper:
      cells.append(' / '.join(map(str, row['paper'].values())) or UNDEFINED)
    lines.append(cells)
  return f'{tables.markdown_rows(lines)}\n\n{note}'


def _note(collected: Collected) -> str:
  rows, of = collected['rows'], ', '.join(collected['categories'])
  seeds = min(len(row['seeds']) for row in rows)
  epochs = ', '.join(map(str, sorted({row['epochs'] for row in rows})))
  over = f'±standard deviation over {seeds} seeds' if seeds > 1 else 'one seed'
  text = f'Percent; mean over {of}, {over}; epochs: {epochs}, '
  text += f'protocol {collected["protocol"]}.'
  if collected['failures']:
    text += f' Failed and left out: {", ".join(collected["failures"])}.'
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
