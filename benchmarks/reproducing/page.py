"""The page that `benchmarks.reproducibility` writes."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from benchmarks import timing
from benchmarks.capacity_page import table
from simplenet_jax.files import written_aside

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'reproducibility.md'

_TEXT = """# What comes out the same again

*Written by `python -m benchmarks.reproducibility`, which fails if a promise is
broken ([all figures](../benchmarks/results/reproducibility.json)).*

A short run ({categories} of the demo, seeds {seeds}, {steps} steps a head) was
done again on {device}
with one thing changed at a time, and all that both runs have was compared. What
is **bit-identical** is so in everything: weights, the loss of every step,
curves, scores, figures, detectors and what they predict. What is **close** has
weights, losses and scores nearer than those of other seeds, which are the last
row; its figures can still differ, as rounding grows from step to step.

The largest differences: of weights and statistics, relative to the largest of
their array; of an epoch's loss, relative; of test images' scores, in ranges of
a head's scores; of a head's I-AUROC, in points ({test} test images).

{rows}
{imitated}
**Not measured here:**

{left_out}
"""
_IMITATED = """
TensorFloat-32 is imitated on the CPU: factors are rounded to its 10 bits, then
multiplied in float32.
"""
# Of what no machine can tell alone.
_ELSEWHERE = ('another kind of processor', 'other versions of JAX')


def number(value: float) -> str:
  """Returns two digits, 0 where there is no difference."""
  return f'{value:.1e}'.replace('e-0', 'e-') if value else '0'


def rows(result: Mapping[str, Any]) -> str:
  """Returns the table."""
  return table(
    (
      'changed',
      'promised',
      'bit-identical',
      'weights',
      'losses',
      'scores',
      'I-AUROC',
    ),
    [
      (
        row['what'],
        row['promise'],
        'yes' if row['identical'] else 'no',
        *(number(row[name]) for name in ('weights', 'losses', 'scores')),
        f'{row["auroc"]:.2f}' if row['auroc'] else '0',
      )
      for row in result['rows']
    ],
  )


def render(result: Mapping[str, Any]) -> str:
  """Returns the page.

  Args:
    result: What `benchmarks/results/reproducibility.json` holds.
  """
  settings, device = result['settings'], result['device']
  on_cpu = device['platform'] == 'cpu'
  here = (
    f'{device["host"]}, {device["cores"]} cores,' if on_cpu else device['kind']
  )
  return _TEXT.format(
    categories=settings['data.categories'].replace(',', ' and '),
    seeds=settings['seeds'].replace(',', ' and '),
    steps=result['steps'],
    device=here,
    test=result['images']['test'],
    rows=rows(result),
    imitated=_IMITATED if on_cpu else '',
    left_out='\n'.join(
      f'- {what}' for what in (*result['not_measured'], *_ELSEWHERE)
    ),
  )


def write() -> None:
  """Writes the page of the results as they are on disk."""
  path = timing.RESULTS / 'reproducibility.json'
  result = json.loads(path.read_text(encoding='utf-8'))
  with written_aside(PAGE) as aside:
    aside.write_text(render(result), encoding='utf-8')
