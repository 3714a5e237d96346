"""What a sweep shows beside its numbers: PNG and SVG, by view."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.files import atomic_write

_PAIR = {'image_auroc': 'I-AUROC, %', 'pixel_auroc': 'P-AUROC, %'}
_COLUMNS = 5  # Axes side by side, at most.
# The paper's speed: frames a second, image AUROC in percent, and the device.
_PAPERS_SPEED = 77.0, 99.6, 'GeForce GTX 3080 Ti'


def write(collected: Mapping[str, Any], path: Path) -> list[Path]:
  """Draws a sweep's view; writes it as PNG and SVG and returns the paths.

  Args:
    collected: From `tables.collect`, with what the view needs.
    path: Where, without a suffix.
  """
  figure = _DRAWN[collected['view']](collected)
  paths = [path.with_name(path.name + suffix) for suffix in ('.png', '.svg')]
  for one in paths:
    with atomic_write(one) as aside:
      figure.savefig(aside, dpi=150, format=one.suffix[1:])
  return paths


def _percent(summaries) -> tuple[np.ndarray, np.ndarray]:
  """Returns means and standard deviations in percent, nan where undefined."""
  pairs = [(one['mean'], one['std']) for one in summaries]
  means, stds = 100 * np.array(pairs, float).T
  return means, stds


def _start(collected, count: int, height: float, columns: int = _COLUMNS):
  columns = min(count, columns)
  rows = -(-count // columns)
  figure = Figure(figsize=(9, rows * height), layout='constrained')
  grid = figure.subplots(rows, columns, squeeze=False).ravel()
  for empty in grid[count:]:
    empty.set_axis_off()
  figure.suptitle(collected['title'], parse_math=False)
  epochs = sorted({row['epochs'] for row in collected['rows']})
  seeds = dict.fromkeys(seed for r in collected['rows'] for seed in r['seeds'])
  figure.supxlabel(
    f'last epoch ({", ".join(map(str, epochs))}), seeds '
    f'{", ".join(map(str, seeds))}',
    fontsize=8,
    color='0.4',
  )
  return figure, grid[:count]


def _dots(collected, names, summaries, theirs) -> Figure:
  """Draws a row of dots per name: ours with deviations, others' as crosses.

  Args:
    collected: From `tables.collect`.
    names: Of the rows.
    summaries: Ours, called with a metric.
    theirs: Percent by label, one per row; called with a metric.
  """
  figure, axes = _start(collected, 2, 1.4 + 0.33 * len(names))
  places = np.arange(len(names))
  for ax, (metric, title) in zip(axes, _PAIR.items(), strict=True):
    means, stds = _percent(summaries(metric))
    ax.errorbar(means, places, xerr=stds, fmt='o', capsize=3, label='ours')
    for label, values in theirs(metric).items():
      values = np.array(values, float)
      if np.isfinite(values).any():
        ax.plot(values, places, 'x', label=label)
    ax.set_yticks(places, names, parse_math=False)
    ax.set(xlabel=title, ylim=(len(names) - 0.5, -0.5))
    ax.grid(axis='x', alpha=0.3)
  axes[1].tick_params(labelleft=False)
  handles = axes[0].get_legend_handles_labels()
  figure.legend(*handles, loc='outside upper right', frameon=False, fontsize=8)
  return figure


def _table(collected) -> Figure:
  """Draws the variants' means over categories, and the paper's."""
  rows = collected['rows']
  return _dots(
    collected,
    [row['label'] for row in rows],
    lambda metric: [row['figures'][LAST_EPOCH]['mean'][metric] for row in rows],
    lambda metric: {
      'paper, best on test': [
        row['paper']['percent'][metric] if row['paper'] else np.nan
        for row in rows
      ]
    },
  )


def _categories(collected) -> Figure:
  """Draws the figures of every category, and those published."""
  names = collected['categories']
  ours = collected['rows'][0]['figures'][LAST_EPOCH]

  def published(metric):
    found: dict[str, list] = {}
    for row in collected['published']:
      if row['category'] in names:  # Others are means.
        label = f'{row["table"]}, {row["selection"]}'
        values = found.setdefault(label, [np.nan] * len(names))
        values[names.index(row['category'])] = row['percent'][metric]
    return found

  return _dots(
    collected, names, lambda metric: [ours[n][metric] for n in names], published
  )


def _line(collected) -> Figure:
  """Draws figures over the value that changes, a line per category."""
  figure, axes = _start(collected, 2, 3.6)
  names, rows = collected['categories'], collected['rows']
  places = [row['at'] for row in rows]
  for ax, (metric, title) in zip(axes, _PAIR.items(), strict=True):
    for name in (*names, 'mean') if len(names) > 1 else names:
      means, stds = _percent(
        row['figures'][LAST_EPOCH][name][metric] for row in rows
      )
      style = {'color': 'black', 'linewidth': 2} if name == 'mean' else {}
      (drawn,) = ax.plot(places, means, marker='o', label=name, **style)
      low, high = np.clip([means - stds, means + stds], 0, 100)
      colour = drawn.get_color()
      ax.fill_between(places, low, high, alpha=0.15, color=colour, lw=0)
    if places[-1] >= 16 * places[0]:
      ax.set_xscale('log')
    ax.set_xticks(places, [f'{place:g}' for place in places], minor=False)
    ax.set_xticks([], minor=True)
    ax.set(xlabel=collected['axis'], ylabel=title)
    ax.grid(alpha=0.3)
  axes[0].legend(frameon=False, fontsize=8)
  return figure


def _losses(collected) -> Figure:
  """Draws the loss by epoch: the mean over categories, and their range."""
  figure, (ax,) = _start(collected, 1, 4)
  for row in collected['rows']:
    found = np.array(list(row['loss_by_epoch'].values()))
    epochs = np.arange(1, found.shape[1] + 1)
    (drawn,) = ax.plot(epochs, found.mean(0), label=row['label'])
    low, high, colour = found.min(0), found.max(0), drawn.get_color()
    ax.fill_between(epochs, low, high, alpha=0.15, color=colour, lw=0)
  ax.set(xlabel='epoch', ylabel='loss', ylim=(0, None))
  ax.legend(frameon=False)
  ax.grid(alpha=0.3)
  return figure


def _speed(collected) -> Figure:
  """Draws image AUROC over frames per second."""
  figure, (ax,) = _start(collected, 1, 4)
  near = {'textcoords': 'offset points'}
  for row in collected['rows']:
    x = row['frames_per_second']
    found = row['figures'][LAST_EPOCH]['mean']['image_auroc']
    (y,), (std,) = _percent([found])
    ax.errorbar([x], [y], yerr=[std], fmt='o', capsize=3, color='C0')
    ax.annotate(row['label'], (x, y), xytext=(6, 4), **near)
  x, y, device = _PAPERS_SPEED
  ax.plot(x, y, 'x', color='0.45')
  text = f'paper, {device},\nbest on test'
  ax.annotate(text, (x, y), xytext=(6, -16), color='0.45', fontsize=8, **near)
  ax.set_xscale('log')
  ax.xaxis.set_major_formatter('{x:g}')
  ax.xaxis.set_minor_formatter('{x:g}')
  ax.margins(x=0.15)
  ax.set(
    xlabel='images a second, one at a time, '
    f'{collected["rows"][0]["speed"]}, {collected["device"]["kind"]}',
    ylabel='I-AUROC, %',
  )
  ax.grid(alpha=0.3)
  return figure


def _deviations(collected) -> Figure:
  """Draws histograms of the dimensions' deviations, per category."""
  spreads = collected['rows'][0]['deviations']
  figure, axes = _start(collected, len(spreads), 3.2)
  for ax, (name, found) in zip(axes, spreads.items(), strict=True):
    bins = np.linspace(0, max(*found['features'], *found['adapted']), 60)
    for key, label in (('features', 'before'), ('adapted', 'after')):
      ax.hist(found[key], bins, alpha=0.6, label=f'{label} the adaptor')
    ax.set_title(name, fontsize=10, parse_math=False)
  for ax in axes[-_COLUMNS:]:
    ax.set_xlabel('standard deviation')
  for ax in axes[::_COLUMNS]:
    ax.set_ylabel('dimensions')
  axes[0].legend(frameon=False, fontsize=8)
  return figure


def _versus_best_epoch(collected) -> Figure:
  """Draws every variant's history over what it costs, and the baseline."""
  names, first = collected['categories'], collected['rows'][0]
  figure, axes = _start(collected, 2 * len(names), 3.4, columns=2)
  # As many colours as variants, evenly apart; the first one is black.
  colours = matplotlib.colormaps['turbo'](
    np.linspace(0.05, 0.95, max(1, len(collected['rows']) - 1))
  )
  pairs = ((name, metric) for name in names for metric in _PAIR)
  for ax, (name, metric) in zip(axes, pairs, strict=True):
    ax.set_prop_cycle(color=['black', *colours])
    for row in collected['rows']:
      history = row['versus_best_epoch'][name]['history']
      x, y = 100 * np.array(history['share']), 100 * np.array(history[metric])
      (drawn,) = ax.plot(x, y, label=row['label'], linewidth=1.2)
      ax.plot(x[-1:], y[-1:], 'o', color=drawn.get_color())
    ((best,), _) = _percent([first['figures'][SELECTED_ON_TEST][name][metric]])
    label = f'{first["label"]}, {SELECTED_ON_TEST}'
    ax.axhline(best, color='0.3', linestyle='--', linewidth=1, label=label)
    ax.set_xscale('log')
    ax.xaxis.set_major_formatter('{x:g}')
    ax.set_title(name, fontsize=10, parse_math=False)
    ax.set(xlabel=f"operations, % of {first['label']}'s", ylabel=_PAIR[metric])
    ax.grid(alpha=0.3)
  handles = axes[0].get_legend_handles_labels()
  figure.legend(*handles, loc='outside right', frameon=False, fontsize=8)
  return figure


_DRAWN = {
  'table': _table,
  'line': _line,
  'categories': _categories,
  'losses': _losses,
  'speed': _speed,
  'deviations': _deviations,
  'versus_best_epoch': _versus_best_epoch,
}
