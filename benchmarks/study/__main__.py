"""Runs the study; see `benchmarks.study`."""

import itertools
import json
import pathlib
import time

from absl import flags

from benchmarks import timing
from benchmarks.study import page, rows, scores
from simplenet_jax import cli
from simplenet_jax.console import console

_BACKBONES = flags.DEFINE_multi_string(
  'backbones', ['efficientnet_lite0', 'resnet18'], 'The networks.'
)
_CHOOSING = flags.DEFINE_multi_string(
  'choosing', ['screw', 'glassfiber', 'demo-connector'], 'Parts for all rows.'
)
_KEPT = flags.DEFINE_multi_string(
  'kept', ['transistor', 'toothbrush'], 'Parts that confirm.'
)
_SEEDS = flags.DEFINE_integer('seeds', 2, 'Seeds of every row.', 1)
_MORE = flags.DEFINE_integer('more_seeds', 5, 'Seeds of confirmed rows.', 1)
_ONLY = flags.DEFINE_multi_string('only', [], 'Some rows alone.')

_IMAGES = flags.DEFINE_multi_integer(
  'images', [], 'Tries some rows with so few good images, and nothing else.'
)

RESULTS = timing.RESULTS / 'study.jsonl'


def _known() -> set[tuple]:
  if not RESULTS.exists():
    return set()
  lines = RESULTS.read_text().splitlines()
  return {_key(json.loads(line)) for line in lines}


def _key(result) -> tuple:
  named = 'row', 'backbone', 'part', 'seed'
  return *(result[name] for name in named), result.get('images', 0)


def _planned():
  """Yields what is to be tried, part by part: features are loaded once."""
  first, last = _SEEDS.value, _MORE.value
  if _IMAGES.value:
    yield from itertools.product(
      rows.FEW,
      _BACKBONES.value,
      _CHOOSING.value + _KEPT.value,
      range(first),
      _IMAGES.value,
    )
    return
  for confirms in (False, True):
    for backbone in _BACKBONES.value:
      for part in _CHOOSING.value + (_KEPT.value if confirms else []):
        for name, row in rows.ROWS.items():
          if (confirms and not row.confirmed) or name not in (
            _ONLY.value or rows.ROWS
          ):
            continue
          for seed in range(last if confirms else first):
            yield name, backbone, part, seed, 0


def main() -> None:
  """Tries what was not tried yet, and writes the page."""
  known = _known()
  todo = [one for one in dict.fromkeys(_planned()) if one not in known]
  for number, one in enumerate(todo):
    name, backbone, part, seed, images = one
    start = time.perf_counter()
    found = scores.evaluate(rows.ROWS[name], *one[1:])
    seconds = time.perf_counter() - start
    result = {'row': name, 'backbone': backbone, 'part': part, 'seed': seed}
    result |= {'images': images} if images else {}
    result |= {metric: round(value, 5) for metric, value in found.items()}
    with RESULTS.open('a') as file:
      file.write(json.dumps(result) + '\n')
    console.print(
      f'{number + 1} of {len(todo)}: {name}, {backbone}, {part}, seed {seed}: '
      f'{100 * found["image_auroc"]:.1f} / {100 * found["pixel_auroc"]:.1f}, '
      f'{seconds:.0f} s'
    )
  text = page.render([json.loads(x) for x in RESULTS.read_text().splitlines()])
  pathlib.Path('docs/study.md').write_text(text)


if __name__ == '__main__':
  cli.run(main)
