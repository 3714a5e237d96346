"""Measures how soon a change of the line is noticed, and how often wrongly.

  python -m benchmarks.drift --root=FOLDER --parts=screw,transistor

FOLDER holds parts in MVTec AD's layout. A detector of each is trained on 100
good photographs; the other good ones, those to test with among them, are scored
as they are and changed. Then images to calibrate with are drawn, again and
again, and streams of other ones. Streams of 2,000 are longer than what there
is: they are a smoothed bootstrap, images drawn with replacement whose values
get a fifth of their spread as noise. Writes benchmarks/results/drift.json.
"""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from absl import flags
from PIL import Image

from benchmarks import timing
from simplenet_jax import cli, environment
from simplenet_jax.evaluation import results

_ROOT = flags.DEFINE_string('root', None, 'Where the parts are.')
_PARTS = flags.DEFINE_list('parts', ['screw', 'transistor'], 'Folders in it.')
_KEPT = flags.DEFINE_string('kept', '', 'Keeps detectors and scores, a folder.')
_DRAWS = flags.DEFINE_integer('draws', 200, 'Draws of calibration and stream.')
cli.require('root')

_TRAINED, _SIDE, _COUNTS = 100, 160, (20, 50, 100)
_WITHIN, _QUIET, _AFTER = 50, 2000, 500  # Images.

Pixels = np.ndarray  # uint8 `[height, width, 3]`.


def _brighter(pixels: Pixels, factor: float) -> Pixels:
  return (pixels * factor).clip(0, 255).astype(np.uint8)


def _shifted(pixels: Pixels, axis: int) -> Pixels:
  """Moves the camera by 4 % of a side; the edge is repeated."""
  by = round(0.04 * pixels.shape[axis])
  padding = [(by, 0) if one == axis else (0, 0) for one in range(3)]
  whole = np.pad(pixels, padding, mode='edge')
  return whole[: pixels.shape[0], : pixels.shape[1]]


_CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
  'none': lambda pixels: pixels,
  'brightness x 1.2': lambda pixels: _brighter(pixels, 1.2),
  'brightness x 0.9': lambda pixels: _brighter(pixels, 0.9),
  'shift 4 % right': lambda pixels: _shifted(pixels, 1),
  'shift 4 % down': lambda pixels: _shifted(pixels, 0),
}


def scores(root: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
  """Returns score, peak and look of each held-out image, by change."""
  from simplenet_jax.detector import Detector

  good = sorted((root / 'train/good').glob('*.png'))
  trained = good[:: len(good) // _TRAINED][:_TRAINED]
  other = [path for path in good if path not in trained]
  other += sorted((root / 'test/good').glob('*.png'))
  parts, work = folder / root.name, folder / f'run-{root.name}'
  if not parts.exists():
    parts.mkdir()
    for path in trained:
      shutil.copy(path, parts)
  command = [sys.executable, '-m', 'simplenet_jax', 'train', '--config=folder']
  command += [f'--config.data.root={parts}', f'--config.data.resize={_SIDE}']
  command += ['--config.backbone.name=efficientnet_lite0']
  subprocess.run([*command, f'--workdir={work}'], check=True)  # noqa: S603
  detector = Detector.load(work / 'detectors' / root.name)
  found: dict[str, Any] = {}
  for name, change in _CHANGES.items():
    images = (change(np.asarray(Image.open(x).convert('RGB'))) for x in other)
    found[name] = [one[1:] for one in detector.score_good(images)]
  return found


def measure(found: dict[str, Any], draws: int) -> dict[str, Any]:
  """Returns what became of streams, by the number of calibration images."""
  from simplenet_jax.detection import calibration
  from simplenet_jax.detection.drift import Drift
  from simplenet_jax.detection.inputs import Look
  from simplenet_jax.detection.thresholds import GoodImage

  table = {
    name: np.array([[one[0], *one[2]] for one in rows])
    for name, rows in found.items()
  }
  spread = table['none'].std(0) / 5
  count = len(table['none'])

  def told(drift: Drift, rows: np.ndarray) -> int | None:
    """Returns after how many images there is an alarm."""
    for number, (score, *look) in enumerate(rows.tolist(), 1):
      if drift.update(cast(Any, _Found(score, Look(*look)))):
        return number
    return None

  def drawn(rng: np.random.Generator, rows: np.ndarray, many: int):
    picked = rows[rng.integers(len(rows), size=many)]
    return picked + rng.normal(size=picked.shape) * spread

  made: dict[str, Any] = {'held_out': count}
  for known in [n for n in _COUNTS if n <= count - _WITHIN]:
    rng, of = np.random.default_rng(known), {}
    for _ in range(draws):
      order = rng.permutation(count)
      own, other = order[:known], order[known:]
      good = [
        GoodImage(str(i), row[0], row[0], Look(*row[1:]))
        for i, row in enumerate(table['none'][own].tolist())
      ]
      limits = calibration.calibrate(good, 0.01)
      for name, rows in table.items():
        for before in (0, _AFTER) if name != 'none' else (_QUIET,):
          drift = Drift(limits, seed=int(rng.integers(2**31)))
          after = told(drift, drawn(rng, table['none'][other], before))
          key = f'{name}, after {before} images'
          if name == 'none':
            of.setdefault(name, []).append((after, drift.changed))
          elif after is None:
            after = told(drift, rows[rng.permutation(other)[:_WITHIN]])
            of.setdefault(key, []).append((after, drift.changed))
    made[str(known)] = {name: _summary(x) for name, x in of.items()}
  return made


@dataclasses.dataclass
class _Found:
  """What `Drift` looks at of a prediction."""

  score: float
  look: Any


def _summary(ended: list[Any]) -> dict[str, Any]:
  """Returns how many streams ended in an alarm, after what and by what."""
  after = [one for one, _ in ended if one is not None]
  by = [changed for _, changed in ended if changed]
  return {
    'streams': len(ended),
    'alarms': len(after),
    'median': float(np.median(after)) if after else None,
    '95 %': float(np.quantile(after, 0.95)) if after else None,
    'by': {name: by.count(name) for name in dict.fromkeys(by)},
  }


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  found: dict[str, Any] = {}
  with tempfile.TemporaryDirectory() as place:
    folder = pathlib.Path(_KEPT.value or place)
    folder.mkdir(parents=True, exist_ok=True)
    for part in _PARTS.value:
      path = folder / f'{part}.json'
      if not path.exists():
        rows = scores(pathlib.Path(str(_ROOT.value)) / part, folder)
        path.write_text(json.dumps(rows))
      found[part] = measure(json.loads(path.read_text()), _DRAWS.value)
  result = {
    'what': 'alarms of Drift on streams of held-out good images; streams '
    f'without a change are a smoothed bootstrap of {_QUIET} images',
    'trained_on': _TRAINED,
    'side': _SIDE,
    'within': _WITHIN,
    'parts': found,
    'versions': environment.versions(),
    'device': environment.device(),
  }
  results.write_json(timing.RESULTS / 'drift.json', result)
  print(json.dumps(found, indent=1))


if __name__ == '__main__':
  cli.run(main)
