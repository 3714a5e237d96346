"""The page of the study: every row, the worse ones too."""

import collections
import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.study.rows import BASELINE, DEFAULT, FEW, ROWS

Result = Mapping[str, Any]
_METRICS = 'image_auroc', 'pixel_auroc', 'aupro_30'

_HEAD = """\
# Distances, heads, and both

`python -m benchmarks.study` writes this page and
[study.jsonl](../benchmarks/results/study.jsonl), which has every single figure.

Real parts, their shorter side resized to 224 pixels, and a generated one (demo)
at 192; ImageNet's ResNet18 and EfficientNet-Lite0, levels 2 and 3. No epoch is
selected: heads count as they end. Figures are I-AUROC / P-AUROC in percent,
means over seeds and parts; where there are three, the last is AUPRO up to .3.
Rows were invented while looking at transistor and toothbrush, too, if less: the
tables by part are no proof for parts that nobody has seen. Rows have up to five
seeds; a cell is empty where a row was not tried on all of its parts.

"""


def render(results: Sequence[Result]) -> str:
  """Returns the page in Markdown."""
  found, few = collections.defaultdict(list), collections.defaultdict(list)
  for one in results:
    key = one['row'], one['backbone'], one['part']
    if 'images' in one:
      few[*key[:2], one['images']].append(one)
    else:
      found[key].append(one)
  for name, backbone in itertools.product(FEW, {key[1] for key in few}):
    tried = {x['part'] for x in results if 'images' in x}
    cells = [found.get((name, backbone, part), []) for part in tried]
    if all(cells):
      whole = [x for cell in cells for x in cell if x['seed'] == 0]
      few[name, backbone, 'all'] = whole
  first = {key: [x for x in of if x['seed'] == 0] for key, of in found.items()}
  parts = list(dict.fromkeys(key[2] for key in found))
  backbones = list(dict.fromkeys(key[1] for key in found))
  kept = [name for name, row in ROWS.items() if row.confirmed]
  return _HEAD + '\n'.join(
    [
      '## Every row, with one seed',
      '',
      *_table(backbones, parts, first),
      '',
      '## What the heads bring',
      '',
      *_gains(backbones, parts, found),
      '',
      '## The last rows, part by part',
      '',
      *_by_column(kept, backbones, parts, found, 'part'),
      '',
      '## Few good images, the mean over parts',
      '',
      *_by_column(
        *(FEW, list(dict.fromkeys(key[1] for key in few))),
        *(list(dict.fromkeys(key[2] for key in few)), few, 'good images'),
      ),
      '',
    ]
  )


def _mean(results: Sequence[Result], metric: str) -> float:
  return 100 * statistics.fmean(one[metric] for one in results)


def _table(
  backbones: Sequence[str], parts: Sequence[str], found: Mapping
) -> list[str]:
  """Returns all rows, each beside the first on what it was tried on."""
  first = {key[1:]: of for key, of in found.items() if key[0] == BASELINE}
  columns = [x for x in itertools.product(backbones, parts) if x in first]
  heads = ' | '.join(map(', '.join, columns))
  lines = [
    f'| row | what it is | {heads} | beside the first |',
    f'| --- | --- |{" ---: |" * (len(columns) + 1)}',
  ]

  def means(results: Sequence[Result]) -> list[float]:
    return [_mean(results, metric) for metric in _METRICS[:2]]

  for name, row in ROWS.items():
    tried = {x: found[name, *x] for x in columns if found.get((name, *x))}
    cells = [
      _pair(means(tried[x]), '.1f') if x in tried else '-' for x in columns
    ]
    gains = [
      [a - b for a, b in zip(means(of), means(first[x]), strict=True)]
      for x, of in tried.items()
    ]
    gain = [statistics.fmean(column) for column in zip(*gains, strict=True)]
    lines.append(
      f'| {name} | {row.told} | {" | ".join(cells)} | {_pair(gain, "+.1f")} |'
    )
  return lines


def _gains(
  backbones: Sequence[str], parts: Sequence[str], found: Mapping
) -> list[str]:
  """Returns how the default differs from distances alone, part by part."""
  others = BASELINE, 'coreset 4,000', 'map 6', 'map 6, 8,000 of 100,000'
  titles = ' | '.join(f'beside {name}' for name in others)
  lines = [
    f'`{DEFAULT}` is the recipe of',
    'configs/folder.py, but that its heads see all images here; `map 6` is its',
    'distances alone, configs/folder.py:nearest. Differences, equal seeds:',
    '',
    f'| backbone | part | seeds | {titles} |',
    f'| --- | --- | ---: |{" ---: |" * len(others)}',
  ]
  real = [one for one in parts if not one.startswith('demo')]
  gains = collections.defaultdict(list)
  for backbone, part in itertools.product(backbones, real):
    by_row = [
      {one['seed']: one for one in found.get((name, backbone, part), [])}
      for name in (DEFAULT, *others)
    ]
    seeds = sorted(set.intersection(*map(set, by_row)))
    if not seeds:
      continue
    own, *theirs = [
      [_mean([row[seed] for seed in seeds], metric) for metric in _METRICS[:2]]
      for row in by_row
    ]
    cells = []
    for name, other in zip(others, theirs, strict=True):
      gains[name].append([a - b for a, b in zip(own, other, strict=True)])
      cells.append(_pair(gains[name][-1], '+.1f'))
    lines.append(
      f'| {backbone} | {part} | {len(seeds)} | {" | ".join(cells)} |'
    )
  for told, of in (('mean', statistics.fmean), ('lowest', min)):
    cells = [
      _pair(map(of, zip(*gains[name], strict=True)), '+.1f') for name in others
    ]
    lines.append(f'| {told} | | | {" | ".join(cells)} |')
  return lines


def _by_column(
  names: Sequence[str],
  backbones: Sequence[str],
  parts: Sequence[str | int],
  found: Mapping,
  of: str,
) -> list[str]:
  lines = [
    f'| backbone | {of} | {" | ".join(names)} |',
    f'| --- | --- |{" ---: |" * len(names)}',
  ]

  def show(cell: Sequence[Result]) -> str:
    means = [_mean(cell, metric) for metric in _METRICS] if cell else []
    return _pair(means, '.1f') or '-'

  for backbone in backbones:
    for part in parts:
      cells = [show(found.get((name, backbone, part), [])) for name in names]
      lines.append(f'| {backbone} | {part} | {" | ".join(cells)} |')
  return lines


def _pair(values: Iterable[float], form: str) -> str:
  return ' / '.join(format(value, form) for value in values)
