"""What comes out the same again, bit for bit, and what only nearly.

  python -m benchmarks.reproducibility

A short run on the demo's images is done again with one thing changed at a time,
each as a process of its own, and what it leaves is compared: weights, losses,
scores, curves, detectors and what they predict. Another seed is the yardstick.
On a GPU the rows that need one are measured too, and those that need a CPU are
left out; either are named. Writes benchmarks/results/reproducibility.json and
docs/reproducibility.md, and fails if a promise is broken; takes a quarter of an
hour on two CPU cores.
"""

import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from benchmarks import timing
from benchmarks.reproducing import page
from benchmarks.reproducing.compare import Left, compare, read
from benchmarks.reproducing.rows import CLOSE, ROWS, RUNS, SAME, Row
from benchmarks.reproducing.runs import SETTINGS, Run, Runner
from simplenet_jax import cli, demo

_TRAIN, _VALIDATION, _GOOD, _DEFECTIVE = 20, 10, 16, 24  # Of a category.

_NEARER = ('weights', 'losses', 'scores')


def possible(run: Run) -> bool:
  """Returns whether this machine can do a run."""
  backend = jax.default_backend()
  return {
    '': True,
    'cpu': backend == 'cpu',
    'gpu': backend == 'gpu',
    'devices': backend == 'cpu' or jax.device_count() > 1,
  }[run.needs]


def broken(row: Mapping[str, Any], yardstick: Mapping[str, Any]) -> list[str]:
  """Returns what a row's promise and what was measured disagree in."""
  if row['promise'] == SAME and not row['identical']:
    names = ', '.join(row['differing'])
    return [f'{row["what"]}: promised bit-identical, not so: {names}']
  if row['promise'] == CLOSE:
    return [
      f'{row["what"]}: {measure} {row[measure]:.2g} off, another seed '
      f'{yardstick[measure]:.2g}'
      for measure in _NEARER
      if not row[measure] < yardstick[measure]  # NaN is no promise kept.
    ]
  return []


def measure(folder: pathlib.Path) -> dict[str, Any]:
  """Does all runs that can be done, and compares what they leave."""
  images = folder / 'data'
  demo.generate(
    images,
    categories=('gasket', 'weave', 'wood'),
    train=_TRAIN,
    validation=_VALIDATION,
    good=_GOOD,
    defective=_DEFECTIVE,
  )
  runner, left = Runner(folder, images), dict[str, Left]()
  for name, run in RUNS.items():
    if possible(run):
      print(name, flush=True)
      left[name] = read(runner(name, run), images, run.first_seed)
  rows = [row for row in ROWS if {row.run, row.against} <= left.keys()]
  return {
    'steps': min(
      one['metrics'].shape[1] for one in left['base'].heads.values()
    ),
    'rows': [
      {
        'what': row.what,
        'promise': _promised(row),
        'run': RUNS[row.run].differs,
        **compare(left[row.against], left[row.run]),
      }
      for row in rows
    ],
    'not_measured': [row.what for row in ROWS if row not in rows],
  }


def _promised(row: Row) -> str:
  # Elsewhere additions may be made in any order.
  here = jax.default_backend() == 'cpu'
  return row.promise if here or row.promise != SAME else CLOSE


def findings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns all promises that are broken; the last row is the yardstick."""
  return [line for row in rows for line in broken(row, rows[-1])]


def main() -> None:
  """Runs, compares, writes the result and the page."""
  # The runs are processes beside this one.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  with tempfile.TemporaryDirectory() as folder:
    measured = measure(pathlib.Path(folder))
  wrong = findings(measured['rows'])
  timing.write(
    'reproducibility',
    {
      'what': 'runs that differ in one thing, and how far apart they end',
      'settings': SETTINGS,
      'images': {
        'train': _TRAIN,
        'validation': _VALIDATION,
        'test': _GOOD + _DEFECTIVE,
      },
      **measured,
      'wrong': wrong,
    },
  )
  page.write()
  if wrong:
    raise ValueError(f'{len(wrong)} findings; the first: {wrong[0]}')


if __name__ == '__main__':
  cli.run(main)
