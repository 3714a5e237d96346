"""Detectors at work for long and in threads, runs larger than their memory.

  python -m benchmarks.load
  python -m benchmarks.load --only=threads,spill
  # In a few minutes:
  python -m benchmarks.load --predictions=2000 --files=200 --rounds=5 \
    --category=2000 --images=12

One part each: `predictions`, many in a row through one detector, from memory
and from files; `threads`, eight of which use one detector at once, its first
use included; `category`, of thousands of images, within a budget of memory;
`spill`, features of a WideResNet50-2 that are kept in a file. Each is checked:
memory and time per image must not grow, scores must be the same to the bit.
Writes benchmarks/results/load.json and fails in the end if anything did not
hold; takes about half an hour on two CPU cores.
"""

import itertools
import pathlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks import timing
from benchmarks.loading import large_runs, watched
from benchmarks.loading.findings import Findings
from simplenet_jax import cli, demo
from simplenet_jax.data import images
from simplenet_jax.detector import Detector

_PREDICTIONS = flags.DEFINE_integer('predictions', 100_000, 'In a row.', 100)
_FILES = flags.DEFINE_integer('files', 2000, 'Of them, more from files.', 100)
_ROUNDS = flags.DEFINE_integer('rounds', 50, 'Of all threads.', 1)
_CATEGORY = flags.DEFINE_integer('category', 10_000, 'Its images.', 101)
_IMAGES = flags.DEFINE_integer('images', 24, 'Of the WideResNet50-2.', 8)
_ONLY = flags.DEFINE_list('only', [], 'Which parts; all if not given.')

_PARTS = ('predictions', 'threads', 'category', 'spill')
_SIDE = 128  # Of the detector's input, in pixels.
_DISTINCT = 300  # Images that are shown again and again.
_THREADS = 8
_COLD = 10  # Of so many rounds, one compiles anew.

# From the second tenth on, memory may grow by this much, and the time of an
# image by this factor: other work on the machine comes and goes.
_GROWTH_BYTES = 20e6
_SLOWER = 1.5


def make_detector(folder: pathlib.Path) -> tuple[Detector, list[pathlib.Path]]:
  """Trains for an epoch; returns the detector and images to show it."""
  root, category = folder / 'data', 'gasket'
  demo.generate(
    root,
    categories=[category],
    train=24,
    validation=20,
    good=_DISTINCT // 2,
    defective=_DISTINCT - _DISTINCT // 2,
  )
  settings = {
    'data.source': 'folder',
    'data.root': root,
    'data.resize': _SIDE,
    'train.epochs': 1,
  }
  watched.train('demo', settings, folder / 'run')
  paths = sorted((root / category / 'test').rglob('*.png'))
  return Detector.load(folder / 'run/detectors' / category), paths


def _in_a_row(
  detector: Detector, given: Iterable[Any], count: int, scores: np.ndarray
) -> dict[str, Any]:
  """Predicts, one image after the other.

  Args:
    detector: Which.
    given: Images, without end; every `len(scores)`-th is the same.
    count: How many to take.
    scores: Of each image, NaN where it was not seen yet; set by the first pass.

  Returns:
    Memory and time by tenths of the way, and how many scores differed.
  """
  here, ends = pathlib.Path('/proc/self'), np.empty(count + 1)
  tenth, others, sizes = count // 10, 0, []
  predictions = detector.predict(itertools.islice(given, count))
  ends[0] = time.perf_counter()
  for index, found in enumerate(predictions):
    place = index % len(scores)
    if np.isnan(scores[place]):
      scores[place] = found.score
    others += found.score != scores[place]
    ends[index + 1] = time.perf_counter()
    if (index + 1) % tenth == 0:
      sizes.append(watched.memory(here)['VmRSS'] / 1e6)
  times = 1e3 * np.median(np.diff(ends)[: 10 * tenth].reshape(10, tenth), 1)
  return {
    'images': count,
    'seconds': ends[-1] - ends[0],
    'rss_mb_after_each_tenth': sizes,
    'rss_growth_mb': sizes[-1] - sizes[0],
    'milliseconds_median_of_each_tenth': times.tolist(),
    'last_over_second_tenth': times[-1] / times[1],
    'scores_that_differ': int(others),
  }


def predictions(
  detector: Detector, paths: Sequence[pathlib.Path], findings: Findings
) -> dict[str, Any]:
  """Shows a detector the same images again and again."""
  arrays = [np.asarray(images.read_image(path)) for path in paths]
  scores = np.full(len(paths), np.nan)
  found = {
    'from memory': _in_a_row(
      detector, itertools.cycle(arrays), _PREDICTIONS.value, scores
    ),
    # Files hold the same pixels, so their scores are the same ones.
    'from files': _in_a_row(
      detector, itertools.cycle(paths), _FILES.value, scores
    ),
  }
  for name, one in found.items():
    growth, slower = one['rss_growth_mb'], one['last_over_second_tenth']
    findings.expect(
      growth <= _GROWTH_BYTES / 1e6, f'{name}: memory grows by {growth:.1f} MB'
    )
    findings.expect(
      slower <= _SLOWER, f'{name}: an image takes {slower:.2f} times as long'
    )
    differ = one['scores_that_differ']
    findings.expect(not differ, f'{name}: {differ} scores differ')
  return {
    'distinct_images': len(paths),
    'growth_allowed_mb': _GROWTH_BYTES / 1e6,
    'slower_allowed': _SLOWER,
    **found,
  }


Found = tuple[np.ndarray, np.ndarray]


def _predict(detector: Detector, pixels: np.ndarray) -> Found:
  """Does what `infer` does with `predict`; returns maps and scores."""
  found = list(detector.predict(pixels))
  scores = np.array([one.score for one in found], np.float32)
  return np.stack([one.input_map for one in found]), scores


def _at_once(
  detector: Detector, pixels: np.ndarray, expected: Found, seed: int
) -> int:
  """Has all threads use one detector; returns how many results differ."""
  barrier = threading.Barrier(_THREADS)
  ways: list[Callable[[Detector, np.ndarray], Found]] = [
    _predict,
    Detector.infer,
  ]

  def work(index: int) -> int:
    order = np.random.default_rng((seed, index)).permutation(len(pixels))
    barrier.wait()
    differ = 0
    for way in ways if index % 2 else ways[::-1]:
      maps, scores = way(detector, pixels[order])
      differ += int((scores != expected[1][order]).sum())
      differ += int((maps != expected[0][order]).any((1, 2)).sum())
    return differ

  with futures.ThreadPoolExecutor(_THREADS) as pool:
    return sum(pool.map(work, range(_THREADS)))


def threads(
  detector: Detector, paths: Sequence[pathlib.Path], findings: Findings
) -> dict[str, Any]:
  """Compares threads that share a detector with one that has its own."""
  shown = [images.read_image(path) for path in paths[::10]]
  frames = [detector.card.frame((one.height, one.width)) for one in shown]
  pixels = np.stack(
    [
      frame.image_to_input(one)
      for frame, one in zip(frames, shown, strict=True)
    ]
  )
  expected = detector.infer(pixels)
  start, differ, cold = time.perf_counter(), 0, 0
  for number in range(_ROUNDS.value):
    if number % _COLD == 0:
      jax.clear_caches()
      cold += 1
    # Its weights go to the device with the first images, of all threads.
    fresh = Detector(detector.card, detector.weights)
    differ += _at_once(fresh, pixels, expected, number)
  findings.expect(not differ, f'threads: {differ} results differ')
  return {
    'threads': _THREADS,
    'rounds_each_on_a_fresh_detector': _ROUNDS.value,
    'of_them_compiled_anew': cold,
    'predictions': 2 * len(pixels) * _THREADS * _ROUNDS.value,
    'scores_and_maps_that_differ': differ,
    'seconds': time.perf_counter() - start,
  }


def measure(folder: pathlib.Path, findings: Findings) -> dict[str, Any]:
  """Measures the parts that are asked for."""
  wanted = [part for part in _PARTS if part in (_ONLY.value or _PARTS)]
  found: dict[str, Any] = {}
  of_a_detector = {'predictions': predictions, 'threads': threads}
  of_runs = {
    'category': (large_runs.category, _CATEGORY.value),
    'spill': (large_runs.spill, _IMAGES.value),
  }
  if set(wanted) & set(of_a_detector):
    (folder / 'detector').mkdir()
    detector, paths = make_detector(folder / 'detector')
    for name in filter(of_a_detector.get, wanted):
      found[name] = of_a_detector[name](detector, paths, findings)
  for name in filter(of_runs.get, wanted):
    part, count = of_runs[name]
    (folder / name).mkdir()
    found[name] = part(folder / name, count, findings)
  return found


def main() -> None:
  """Measures, writes the result and fails if anything does not hold."""
  findings = Findings()
  with tempfile.TemporaryDirectory() as folder:
    found = measure(pathlib.Path(folder), findings)
  timing.write(
    'load',
    {
      'what': 'detectors at work for long and in threads, runs larger than '
      'their memory',
      'side': _SIDE,
      **found,
      'findings': findings,
    },
  )
  findings.conclude()


if __name__ == '__main__':
  cli.run(main)
