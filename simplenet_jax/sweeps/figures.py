"""What a sweep shows beside its numbers: PNG and SVG, by view."""

from collections.abc import Iterable
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
  'line': _line,
  'losses': _losses,
  'speed': _speed,
  'deviations': _deviations,
}
