"""The page that `benchmarks.last_epoch` writes."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.capacity_page import table
from simplenet_jax.config import flatten, from_protocol
from simplenet_jax.files import written_aside
from simplenet_jax.sweeps import gap

PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'last_epoch.md'

_TEXT = """# The last epoch

*Written by
`python -m benchmarks.last_epoch --root=FOLDER --weights=FOLDER{flag}`
([all figures](../benchmarks/results/last_epoch)); the sweeps are
`configs/study/last_epoch.py` and `ablation.py`.*

SimpleNet's published figures are of the epoch that is best on the test images,
which nobody has who does not know the defects. The recipe `fast`
(`configs/folder.py`, `configs/mvtec_fast.py`, `configs/visa.py:fast`) is
trained so that its last epoch can be taken. The question is whether that one is
as good as the **best test epoch** of `reference`.

{how}

{summary}

Percent and points; the bar is the reference's best test epoch, selected on
test. In brackets the 95 % interval of the mean over seeds, paired; no worse:
both intervals lie above -{i} (I-AUROC) and -{p} (P-AUROC) points. Operations:
of the heads' training, in percent of the reference's. The parts that are called
confirmed had no say in the choice of the recipe. A "no" beside a mean above the
margin says that so few seeds do not show it, as they differ too much.

How much figures still change, as the standard deviation over the last
{latest} scorings, mean over seeds, in points:

{spreads}

**What is in it.** Patches drawn from many images in place of whole images;
cross-entropy in place of the truncated loss, whose gradient ends when the
patches are separated while the figures still move; learning rates, ten times
those of the reference for the discriminator and three times for the adaptor,
that rise for a twentieth of the steps and fall to zero along a cosine; and a
sigma in units of the features' own spread, so that other weights need no other
number. {sampling}

{parts}

## How it was found

A first form of the recipe, with a sigma of {sigma}, and what one change makes
of it, on {chosen}. `fast` has a sigma between it and its double. What
did not help when it was found (at reduced size) is left in: averages of the
weights change little but the spread; the non-linear adaptor is worse; stopping
where the patches are separated (column `stopped`), which needs no label, stops
too soon.

{ablation}

![The variants](../benchmarks/results/last_epoch/ablation-{name}.png)
"""
_PART = """## {network}, {category}{role}

{table}

![The course](../benchmarks/results/last_epoch/last_epoch-{name}.png)"""

_OF_METRIC = ('bar', 'fast, last', 'fast minus bar')
_SUMMARY = ['part', 'operations']
_SUMMARY += [
  f'{m}: {what}' for m in ('I-AUROC', 'P-AUROC') for what in _OF_METRIC
]
_SUMMARY += ['no worse']


def _metric(row: Mapping[str, Any], selection: str, name: str, metric: str):
  found = row['figures'][selection][name][metric]
  return f'{100 * found["mean"]:.1f}±{100 * found["std"]:.1f}'


def _difference(found: Mapping[str, Any]) -> str:
  ends = (f'{100 * found[end]:+.2f}' for end in ('low', 'high'))
  return f'{100 * found["mean"]:+.2f} ({" to ".join(ends)})'


def _how(parts: Sequence[Mapping[str, Any]], about: str) -> str:
  first = parts[0]
  for part in parts:
    for field in ('device', 'seeds'):
      if part[field] != first[field]:
        raise ValueError(
          f'parts have different {field}: {first[field]} and {part[field]}; '
          'run all of them again'
        )
  device = first['device']
  here = (
    f'{device["host"]}, {device["cores"]} cores'
    if device['platform'] == 'cpu'
    else f'{device["count"]} x {device["kind"]}'
  )
  text = f'{len(first["seeds"])} seeds on {here}; protocol {first["protocol"]}.'
  if 'data.crop' in first['protocol']:
    text = f'**At reduced size, which need not hold at the full one.** {text}'
  fast = next(row for row in first['rows'] if row['label'] == 'fast')
  whole = flatten(from_protocol('fast'))
  if changed := [
    f'{field} {value}'
    for field, value in fast['changes'].items()
    if value != whole[field]
  ]:
    text += f' Of `fast` this size changes {", ".join(changed)}.'
  return f'{text} {about}'.strip()


def _sampling(found: Mapping[str, Any]) -> str:
  whole, drawn = (
    found['steps'][name] for name in ('reference', 'fast, as many patches')
  )
  gathering = drawn['seconds_of_gathering_alone']
  return (
    f'A step of {drawn["patches"]:,} patches drawn from {drawn["images"]} '
    f'images takes {drawn["seconds"] / whole["seconds"]:.2f} times one of as '
    f'many from {whole["images"]} whole images, '
    f'{gathering / drawn["seconds"]:.0%} of it gathering them '
    '([file](../benchmarks/results/sampling.json), `python -m '
    'benchmarks.sampling`): coarse features are multiplied after the '
    'resize, at four positions gathered for each.'
  )


def _table(part: Mapping[str, Any]) -> str:
  """Returns the table of a part's only category, without its heading."""
  return gap.tables(part).split('\n\n', 1)[1]


def render(
  parts: Mapping[str, Mapping[str, Any]],
  ablation: Mapping[str, Any],
  sampling: Mapping[str, Any],
  about: str,
) -> str:
  """Returns the page.

  Args:
    parts: What the sweep left of each, by `<network>-<category>`, the one that
      the recipe was chosen on first.
    ablation: What the sweep of variants left, of the first part.
    sampling: What `benchmarks.sampling` found.
    about: What is to be known of images and weights.
  """
  summary, spreads, texts = [], [], []
  for number, (name, part) in enumerate(parts.items()):
    network, category = name.split('-', 1)
    rows = {row['label']: row for row in part['rows']}
    bar, fast = rows['reference'], rows['fast']
    to_bar = fast['gap'][category]['to_bar']
    first = next(iter(parts)).split('-', 1)[1]
    role = '' if category == first else ', confirmed'
    cells = [f'{network}, {category}{role}']
    cells.append(f'{fast["gap"][category]["share"]:.1%}')
    for metric in gap.MARGINS:
      cells += [
        _metric(bar, 'selected on test', category, metric),
        _metric(fast, 'last epoch', category, metric),
        _difference(to_bar[metric]),
      ]
    no_worse = all(one['not_inferior'] for one in to_bar.values())
    cells.append('yes' if no_worse else 'no')
    summary.append(cells)
    spreads.append(
      [cells[0]]
      + [
        f'{100 * row["gap"][category]["spread"][metric]:.2f}'
        for metric in gap.MARGINS
        for row in (bar, fast)
      ]
    )
    texts.append(
      _PART.format(
        network=network,
        category=category,
        role=role if number else ', on which the recipe was chosen',
        table=_table(part),
        name=name,
      )
    )
  i, p = (f'{100 * margin:g}' for margin in gap.MARGINS.values())
  head = ['part', 'I-AUROC: reference', 'fast']
  chosen = next(iter(parts))
  changes = ablation['rows'][1]['changes']
  reduced = 'data.crop' in parts[chosen]['protocol']
  return _TEXT.format(
    flag=' --reduced' if reduced else '',
    sigma=changes['train.sigma'],
    chosen=chosen.replace('-', ', ', 1),
    ablation=_table(ablation),
    name=chosen,
    sampling=_sampling(sampling),
    how=_how(list(parts.values()), about),
    summary=table(_SUMMARY, summary),
    i=i,
    p=p,
    latest=gap.LATEST,
    spreads=table([*head, 'P-AUROC: reference', 'fast'], spreads),
    parts='\n\n'.join(texts),
  )


def write(folder: pathlib.Path, names: Sequence[str], about: str) -> None:
  """Writes the page.

  Args:
    folder: Where the sweeps' JSON is, `<sweep>-<network>-<category>.json`.
    names: The parts, the one that the recipe was chosen on first.
    about: What is to be known of images and weights.
  """

  def read(name: str) -> dict[str, Any]:
    return json.loads((folder / f'{name}.json').read_text())

  parts = {name: read(f'last_epoch-{name}') for name in names}
  sampling = json.loads((folder.parent / 'sampling.json').read_text())
  page = render(parts, read(f'ablation-{names[0]}'), sampling, about)
  with written_aside(PAGE) as aside:
    aside.write_text(page, encoding='utf-8')
