"""What a sweep shows beside its numbers: PNG and SVG, by view."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from simplenet_jax.evaluation.published import LAST_EPOCH, SELECTED_ON_TEST
from simplenet_jax.files import written_aside
from simplenet_jax.sweeps import published

_PAIR = {'image_auroc': 'I-AUROC, %', 'pixel_auroc': 'P-AUROC, %'}


def write(figure: Figure, path: Path) -> list[Path]:
  """Writes a figure as PNG and SVG; returns their paths.

  Args:
    figure: What.
    path: Where, without a suffix.
  """
  paths = [path.with_name(path.name + suffix) for suffix in ('.png', '.svg')]
  for one in paths:
    with written_aside(one) as aside:
      figure.savefig(aside, dpi=150, format=one.suffix[1:])
  return paths


def _percent(summary: Mapping[str, Any]) -> tuple[float, float]:
  mean, std = summary['mean'], summary['std']
  undefined = float('nan')
  return (
    undefined if mean is None else 100 * mean,
    undefined if std is None else 100 * std,
  )


_COLUMNS = 5  # Axes side by side, at most.


def _start(
  collected: Mapping[str, Any],
  count: int,
  height: float,
  columns: int = _COLUMNS,
):
  columns = min(count, columns)
  rows = -(-count // columns)
  figure = Figure(figsize=(9, rows * height), layout='constrained')
  grid = figure.subplots(rows, columns, squeeze=False).ravel()
  axes = grid[:count]
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
  return figure, axes


def table(collected: Mapping[str, Any]) -> Figure:
  """Draws the variants' means over categories, and the paper's, as dots."""
  rows = collected['rows']
  figure, axes = _start(collected, 2, 1.4 + 0.35 * len(rows))
  places = np.arange(len(rows))
  for ax, (metric, title) in zip(axes, _PAIR.items(), strict=True):
    found = [
      _percent(row['figures'][LAST_EPOCH]['mean'][metric]) for row in rows
    ]
    means, stds = np.array(found).T
    ax.errorbar(
      means, places, xerr=stds, fmt='o', capsize=3, label='ours, last'
    )
    theirs = [
      row['paper']['percent'][metric] if row['paper'] else np.nan
      for row in rows
    ]
    if np.isfinite(theirs).any():
      ax.plot(theirs, places, 'x', color='0.45', label='paper, best on test')
    ax.set_yticks(places, [row['label'] for row in rows], parse_math=False)
    ax.set(xlabel=title, ylim=(len(rows) - 0.5, -0.5))
    ax.grid(axis='x', alpha=0.3)
  axes[1].tick_params(labelleft=False)
  axes[0].legend(frameon=False, fontsize=8)
  return figure


def line(collected: Mapping[str, Any]) -> Figure:
  """Draws figures over the value that changes, a line per category."""
  figure, axes = _start(collected, 2, 3.6)
  places = [row['at'] for row in collected['rows']]
  for ax, (metric, title) in zip(axes, _PAIR.items(), strict=True):
    for name in (*collected['categories'], 'mean'):
      if name == 'mean' and len(collected['categories']) == 1:
        continue
      found = [
        _percent(row['figures'][LAST_EPOCH][name][metric])
        for row in collected['rows']
      ]
      means, stds = np.array(found).T
      style = {'color': 'black', 'linewidth': 2} if name == 'mean' else {}
      (drawn,) = ax.plot(places, means, marker='o', label=name, **style)
      colour = drawn.get_color()
      low, high = np.clip([means - stds, means + stds], 0, 100)
      ax.fill_between(places, low, high, alpha=0.15, color=colour, lw=0)
    if places[-1] >= 16 * places[0]:
      ax.set_xscale('log')
    ax.set_xticks(places, [f'{place:g}' for place in places], minor=False)
    ax.set_xticks([], minor=True)
    ax.set(xlabel=collected['axis'], ylabel=title)
    ax.grid(alpha=0.3)
  axes[0].legend(frameon=False, fontsize=8)
  return figure


def categories(collected: Mapping[str, Any]) -> Figure:
  """Draws the figures of every category as bars."""
  names = collected['categories']
  figure, axes = _start(collected, 2, 1.4 + 0.3 * len(names))
  places = np.arange(len(names))
  for ax, (metric, title) in zip(axes, _PAIR.items(), strict=True):
    found = collected['rows'][0]['figures'][LAST_EPOCH]
    means, stds = np.array([_percent(found[name][metric]) for name in names]).T
    ax.errorbar(means, places, xerr=stds, fmt='o', capsize=3, label='ours')
    theirs: dict[str, dict[str, float]] = {}
    for row in collected['published']:
      if row['percent'][metric] is not None:
        source = theirs.setdefault(f'{row["table"]}, {row["selection"]}', {})
        source[row['category']] = row['percent'][metric]
    for label, found in theirs.items():
      known = [place for place in places if names[place] in found]
      if not known:  # Published for the mean only.
        continue
      ax.plot([found[names[place]] for place in known], known, 'x', label=label)
    ax.set_yticks(places, names, parse_math=False)
    ax.set(xlabel=title, ylim=(len(names) - 0.5, -0.5))
    ax.grid(axis='x', alpha=0.3)
  axes[1].tick_params(labelleft=False)
  handles = axes[0].get_legend_handles_labels()
  figure.legend(*handles, loc='outside upper right', frameon=False, fontsize=8)
  return figure


def losses(collected: Mapping[str, Any]) -> Figure:
  """Draws the loss by epoch: the mean over categories, and their range."""
  figure, (ax,) = _start(collected, 1, 4)
  for row in collected['rows']:
    found = np.array(list(row['loss_by_epoch'].values()))
    epochs = np.arange(1, found.shape[1] + 1)
    (drawn,) = ax.plot(epochs, found.mean(0), label=row['label'])
    ax.fill_between(
      epochs,
      found.min(0),
      found.max(0),
      alpha=0.15,
      color=drawn.get_color(),
      lw=0,
    )
  ax.set(xlabel='epoch', ylabel='loss', ylim=(0, None))
  ax.legend(frameon=False)
  ax.grid(alpha=0.3)
  return figure


def speed(collected: Mapping[str, Any]) -> Figure:
  """Draws image AUROC over frames per second."""
  figure, (ax,) = _start(collected, 1, 4)
  for row in collected['rows']:
    x = row['frames_per_second']
    y, std = _percent(row['figures'][LAST_EPOCH]['mean']['image_auroc'])
    ax.errorbar([x], [y], yerr=[std], fmt='o', capsize=3, color='C0')
    ax.annotate(row['label'], (x, y), xytext=(6, 4), textcoords='offset points')
  theirs = published.SPEED
  ax.plot(theirs.frames_per_second, theirs.image_auroc, 'x', color='0.45')
  ax.annotate(
    f'paper, {theirs.device},\nbest on test',
    (theirs.frames_per_second, theirs.image_auroc),
    xytext=(6, -16),
    textcoords='offset points',
    color='0.45',
    fontsize=8,
  )
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


def deviations(collected: Mapping[str, Any]) -> Figure:
  """Draws histograms of the dimensions' deviations, per category."""
  spreads = collected['rows'][0]['deviations']
  figure, axes = _start(collected, len(spreads), 3.2)
  for ax, (name, found) in zip(axes, spreads.items(), strict=True):
    most = max(max(found['features']), max(found['adapted']))
    bins = np.linspace(0, most, 60)
    for key, label in (('features', 'before'), ('adapted', 'after')):
      ax.hist(found[key], bins, alpha=0.6, label=f'{label} the adaptor')
    ax.set_title(name, fontsize=10, parse_math=False)
  for ax in axes[-_COLUMNS:]:
    ax.set_xlabel('standard deviation')
  for ax in axes[::_COLUMNS]:
    ax.set_ylabel('dimensions')
  axes[0].legend(frameon=False, fontsize=8)
  return figure


def gap(collected: Mapping[str, Any]) -> Figure:
  """Draws every variant's course over what it costs, and the bar."""
  names, first = collected['categories'], collected['rows'][0]
  figure, axes = _start(collected, 2 * len(names), 3.4, columns=2)
  # As many colours as variants, evenly apart; the first one is black.
  colours = matplotlib.colormaps['turbo'](
    np.linspace(0.05, 0.95, max(1, len(collected['rows']) - 1))
  )
  for place, ax in enumerate(axes):
    ax.set_prop_cycle(color=['black', *colours])
    name, metric = names[place // 2], list(_PAIR)[place % 2]
    for row in collected['rows']:
      course = row['gap'][name]['course']
      ends = 100 * np.array(course['share']), 100 * np.array(course[metric])
      (drawn,) = ax.plot(*ends, label=row['label'], linewidth=1.2)
      ax.plot(*(end[-1:] for end in ends), 'o', color=drawn.get_color())
    bar, _ = _percent(first['figures'][SELECTED_ON_TEST][name][metric])
    label = f'{first["label"]}, {SELECTED_ON_TEST}'
    ax.axhline(bar, color='0.3', linestyle='--', linewidth=1, label=label)
    ax.set_xscale('log')
    ax.xaxis.set_major_formatter('{x:g}')
    ax.set_title(name, fontsize=10, parse_math=False)
    ax.set(xlabel=f"operations, % of {first['label']}'s", ylabel=_PAIR[metric])
    ax.grid(alpha=0.3)
  handles = axes[0].get_legend_handles_labels()
  figure.legend(*handles, loc='outside right', frameon=False, fontsize=8)
  return figure


# How each view is drawn, of what `numbers.collect` returns; pictures have their
# own sheets, see `extras`.
DRAWN: dict[str, Callable[[Mapping[str, Any]], Figure]] = {
  'table': table,
  'line': line,
  'categories': categories,
  'losses': losses,
  'speed': speed,
  'deviations': deviations,
  'gap': gap,
}
