"""What a sweep shows: numbers beside the paper's, and figures by view."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simplenet_jax.config import Config, describe_protocol, flatten
from simplenet_jax.evaluation import results, tables
from simplenet_jax.evaluation.metrics import HEADLINES
from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.evaluation.tables import PAIR, UNDEFINED, spread
from simplenet_jax.files import atomic_write, csv_text, write_text

Collected = Mapping[str, Any]  # From `collect`, with what a view needs.
_PAIR = {'image_auroc': 'I-AUROC, %', 'pixel_auroc': 'P-AUROC, %'}
# The paper's speed: frames a second, image AUROC in percent, and the device.
_PAPERS_SPEED = 77.0, 99.6, 'GeForce GTX 3080 Ti'


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
  rows, of = collected['rows'], ', '.join(collected['categories'])
  seeds = min(len(row['seeds']) for row in rows)
  epochs = ', '.join(map(str, sorted({row['epochs'] for row in rows})))
  over = f'±standard deviation over {seeds} seeds' if seeds > 1 else 'one seed'
  note = f'Percent; mean over {of}, {over}; epochs: {epochs}, '
  note += f'protocol {collected["protocol"]}.'
  if collected['failures']:
    note += f' Failed and left out: {", ".join(collected["failures"])}.'
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
    write_text(path, text)
  return paths


def draw(collected: Collected, path: Path) -> list[Path]:
  """Draws a sweep's view, if it is no table, as PNG and SVG; returns them."""
  if collected['view'] not in _DRAWN:
    return []
  figure = _DRAWN[collected['view']](collected)
  paths = [path.with_name(path.name + suffix) for suffix in ('.png', '.svg')]
  for one in paths:
    with atomic_write(one) as aside:
      figure.savefig(aside, dpi=150, format=one.suffix[1:])
  return paths


def _percent(summaries: Iterable[Any]) -> np.ndarray:
  """Returns means and standard deviations in percent, nan where undefined."""
  pairs = [(one['mean'], one['std']) for one in summaries]
  return 100 * np.array(pairs, float).T


def _start(
  collected: Collected, count: int, height: float
) -> tuple[Figure, list[Axes]]:
  """Returns a figure, titled with epochs and seeds, and its axes."""
  columns = min(count, 5)
  lines = -(-count // columns)
  figure = Figure(figsize=(9, lines * height), layout='constrained')
  axes = [figure.add_subplot(lines, columns, 1 + i) for i in range(count)]
  for ax in axes:
    ax.grid(alpha=0.3)
  figure.suptitle(collected['title'], parse_math=False)
  rows = collected['rows']
  epochs = ', '.join(map(str, sorted({row['epochs'] for row in rows})))
  seeds = ', '.join(map(str, rows[0]['seeds']))
  text = f'last epoch ({epochs}), seeds {seeds}'
  figure.supxlabel(text, fontsize=8, color='0.4')
  return figure, axes


def _line(collected: Collected) -> Figure:
  """Draws figures over the value that changes, a line per category."""
  names, rows = list(collected['categories']), collected['rows']
  x, names = [row['at'] for row in rows], names + ['mean'] * (len(names) > 1)
  figure, axes = _start(collected, 2, 3.6)
  for ax, (metric, title) in zip(axes, _PAIR.items(), strict=True):
    for name in names:
      found = [row['figures'][LAST_EPOCH][name][metric] for row in rows]
      means, stds = _percent(found)
      style: Any = {'color': 'black' if name == 'mean' else None}
      if np.isfinite(means).any():
        ax.errorbar(x, means, stds, marker='o', capsize=3, label=name, **style)
    ax.set(xlabel=collected['axis'], ylabel=title)
    ax.set_xscale('log' if x[-1] >= 16 * x[0] else 'linear')
    ax.set_xticks(x, [f'{one:g}' for one in x], minor=False)
    ax.set_xticks([], minor=True)
  handles = axes[0].get_legend_handles_labels()
  figure.legend(*handles, loc='outside right upper', frameon=False, fontsize=8)
  return figure


def _losses(collected: Collected) -> Figure:
  """Draws the loss by epoch: the mean over categories, and their range."""
  figure, (ax,) = _start(collected, 1, 4)
  for row in collected['rows']:
    found = np.array(list(row['loss_by_epoch'].values()))
    epochs = np.arange(1, found.shape[1] + 1)
    low, high = found.min(0), found.max(0)
    (drawn,) = ax.plot(epochs, found.mean(0), label=row['label'])
    colour = drawn.get_color()
    ax.fill_between(epochs, low, high, alpha=0.15, color=colour, lw=0)
  ax.set(xlabel='epoch', ylabel='loss', ylim=(0, None))
  ax.legend(frameon=False)
  return figure


def _speed(collected: Collected) -> Figure:
  figure, (ax,) = _start(collected, 1, 4)
  for row in collected['rows']:
    y, std = _percent([row['figures'][LAST_EPOCH]['mean']['image_auroc']])
    x, label = [row['frames_per_second']], row['label']
    ax.errorbar(x, y, yerr=std, fmt='o', capsize=3, label=label)
  x, y, device = _PAPERS_SPEED
  ax.plot(x, y, 'x', color='0.45', label=f'paper, {device}, best on test')
  ax.legend(frameon=False, fontsize=8)
  ax.set_xscale('log')
  ax.xaxis.set_major_formatter('{x:g}')
  ax.xaxis.set_minor_formatter('{x:g}')
  ax.margins(x=0.15)
  speed, device = collected['rows'][0]['speed'], collected['device']['kind']
  label = f'images a second, one at a time, {speed}, {device}'
  ax.set(xlabel=label, ylabel='I-AUROC, %')
  return figure


def _deviations(collected: Collected) -> Figure:
  spreads = collected['rows'][0]['deviations']
  figure, axes = _start(collected, len(spreads), 3.2)
  for ax, (name, found) in zip(axes, spreads.items(), strict=True):
    bins = np.linspace(0, max(*found['features'], *found['adapted']), 60)
    for key, label in (('features', 'before'), ('adapted', 'after')):
      ax.hist(found[key], bins, alpha=0.6, label=f'{label} the adaptor')
    ax.set_title(name, fontsize=10, parse_math=False)
    ax.set(xlabel='standard deviation', ylabel='dimensions')
    ax.label_outer()
  axes[0].legend(frameon=False, fontsize=8)
  return figure


_DRAWN = {
  'line': _line,
  'losses': _losses,
  'speed': _speed,
  'deviations': _deviations,
}
