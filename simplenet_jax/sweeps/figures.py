"""What a sweep shows beside its numbers: PNG and SVG, by view."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simplenet_jax.evaluation.published import LAST_EPOCH
from simplenet_jax.files import atomic_write
from simplenet_jax.sweeps.tables import Collected

_PAIR = {'image_auroc': 'I-AUROC, %', 'pixel_auroc': 'P-AUROC, %'}
# The paper's speed: frames a second, image AUROC in percent, and the device.
_PAPERS_SPEED = 77.0, 99.6, 'GeForce GTX 3080 Ti'


def write(collected: Collected, path: Path) -> list[Path]:
  """Draws a sweep's view; writes it as PNG and SVG and returns the paths."""
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


def _series(
  collected: Collected, x: Sequence[Any], series: Mapping[str, Any]
) -> Figure:
  """Draws each series, a summary by metric for every x, with its deviations."""
  figure, axes = _start(collected, 2, 3.6)
  numbers = not isinstance(x[0], str)
  for ax, (metric, title) in zip(axes, _PAIR.items(), strict=True):
    for label, summaries in series.items():
      means, stds = _percent(one[metric] for one in summaries)
      colour = 'black' if label in ('ours', 'mean') else None
      style: Any = {'color': colour, 'linestyle': '-' if numbers else ''}
      if np.isfinite(means).any():
        ax.errorbar(x, means, stds, marker='o', capsize=3, label=label, **style)
    ax.set_ylabel(title)
    if numbers:
      ax.set_xlabel(collected['axis'])
      ax.set_xscale('log' if x[-1] >= 16 * x[0] else 'linear')
      ax.set_xticks(x, [f'{one:g}' for one in x], minor=False)
      ax.set_xticks([], minor=True)
    else:
      ax.set_xticks(x, x, rotation=90, parse_math=False)
  handles = axes[0].get_legend_handles_labels()
  figure.legend(*handles, loc='outside right upper', frameon=False, fontsize=8)
  return figure


def _as_summaries(figures: Mapping[str, Any]) -> dict[str, Any]:
  """Returns published figures, in percent, in the form of our own."""
  values = {metric: figures.get(metric) for metric in _PAIR}
  return {
    metric: {'mean': None if value is None else value / 100, 'std': None}
    for metric, value in values.items()
  }


def _table(collected: Collected) -> Figure:
  """Draws the variants' means over categories, and the paper's."""
  rows = collected['rows']
  ours = [row['figures'][LAST_EPOCH]['mean'] for row in rows]
  paper = [_as_summaries(row['paper']) for row in rows]
  series = {'ours': ours, 'paper, best on test': paper}
  return _series(collected, [row['label'] for row in rows], series)


def _categories(collected: Collected) -> Figure:
  """Draws the figures of every category, and those published."""
  names = collected['categories']
  figures = collected['rows'][0]['figures'][LAST_EPOCH]
  series = {'ours': [figures[name] for name in names]}
  for row in collected['published']:
    if row['category'] in names:  # Others are means.
      label = f'{row["table"]}, {row["selection"]}'
      theirs = series.setdefault(label, [_as_summaries({}) for _ in names])
      theirs[names.index(row['category'])] = _as_summaries(row['percent'])
  return _series(collected, names, series)


def _line(collected: Collected) -> Figure:
  """Draws figures over the value that changes, a line per category."""
  names, rows = collected['categories'], collected['rows']
  series = {
    name: [row['figures'][LAST_EPOCH][name] for row in rows]
    for name in ([*names, 'mean'] if len(names) > 1 else names)
  }
  return _series(collected, [row['at'] for row in rows], series)


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
  """Draws image AUROC over frames per second."""
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
  """Draws histograms of the dimensions' deviations, per category."""
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
  'table': _table,
  'line': _line,
  'categories': _categories,
  'losses': _losses,
  'speed': _speed,
  'deviations': _deviations,
}
