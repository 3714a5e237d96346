"""A category's bank of good patches, and its test images' distances, on disk.

They need no epochs: they are found once, when a category's features are there,
and kept in the work directory.
"""

import contextlib
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from simplenet_jax.config import Config
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.files import atomic_write
from simplenet_jax.models import nearest, simplenet
from simplenet_jax.training import bank, checkpoint, layout
from simplenet_jax.training.layout import RunInputs, Shapes
from simplenet_jax.training.store import FeatureStore

BLOCK = 8  # Images whose patches are held at a time.
# A bank is chosen of so many patches, drawn at random: of fewer it misses good
# ones that are rare, see docs/study.md. Larger banks are chosen from twice as
# many.
_DRAWN, _LARGE = 50_000, 4000

# The `distances` of test images to a bank of good patches, float32
# [images, H, W]. Where they count, the `bank`, float32 [size, dim], the
# `places` of its images, int [size], and the `units` of distances, float64 [2].
Arrays = dict[str, np.ndarray]
# Yields the first of some images, and patches [images, H, W, dim] of these.
Blocks = Callable[[range], Iterable[tuple[int, jax.Array]]]


def are_wanted(config: Config, inputs: Inputs) -> bool:
  """Returns whether a category has any use for nearest neighbours."""
  compared = config.evaluation.baseline and inputs.test
  return bool(config.nearest.size or compared)


def obtain(run: RunInputs, inputs: Inputs, store: FeatureStore) -> Arrays:
  """Returns a category's arrays: those of its file, or they are found now.

  Its features are open in the store, or there is room for them.
  """
  path, key = path_in(run.workdir, inputs.name), _key(run, inputs.name)
  if (found := checkpoint.read_if_of(path, key)) is None:
    features = store.open(inputs.name)
    block, grid = min(BLOCK, features.limit), store.levels.grids[0]

    def blocks(images: range) -> Iterator[tuple[int, jax.Array]]:
      for start in images[::block]:  # The last one is padded.
        some = np.minimum(np.arange(start, start + block), images.stop - 1)
        yield start, store.patches(features, some)

    found = find(run.config, inputs, grid, blocks)
    with atomic_write(path) as aside:
      checkpoint.write(aside, found, of=key)
  return found


def obtain_alone(run: RunInputs, inputs: Inputs, shapes: Shapes) -> Arrays:
  """Returns a category's arrays where it is not in training, if any."""
  if not are_wanted(run.config, inputs):
    return {}
  path, key = path_in(run.workdir, inputs.name), _key(run, inputs.name)
  if (found := checkpoint.read_if_of(path, key)) is None:
    task = layout.lay_out_one(run, inputs, shapes)
    with (
      bank.computing(task.device),
      contextlib.closing(FeatureStore(run, task)) as store,
    ):
      found = obtain(run, inputs, store)
  return found


def find(
  config: Config, inputs: Inputs, grid: tuple[int, ...], blocks: Blocks
) -> Arrays:
  """Finds what a config asks for in the patches of a category."""
  drawn, size = _counts(config)
  patches, images = _draw(config, inputs, drawn, grid, blocks)
  chosen = np.asarray(nearest.choose(patches, min(size, len(patches))))
  good, tested = patches[chosen], range(len(inputs.train), inputs.images)
  rows, prepared = [np.zeros((0, *grid), np.float32)], nearest.prepare(good)
  for start, some in blocks(tested):
    distance = np.asarray(nearest.distances(some, prepared))
    rows.append(distance[: tested.stop - start])
  found = {'distances': np.concatenate(rows)}
  if config.nearest.size:
    units = nearest.distance_units(good, images[chosen])
    places = images[chosen]
    found |= {'bank': good, 'places': places, 'units': np.array(units)}
  return found


def _counts(config: Config) -> tuple[int, int]:
  """Returns how many patches are drawn, and how many of these are kept."""
  size = config.nearest.size or config.evaluation.baseline
  return max(size, _DRAWN if size <= _LARGE else 2 * _DRAWN), size


def _draw(
  config: Config,
  inputs: Inputs,
  count: int,
  grid: tuple[int, ...],
  blocks: Blocks,
) -> tuple[np.ndarray, np.ndarray]:
  """Draws patches `[count, dim]` of good images; returns whose they are, too.

  They depend on the category and the seed alone, as `job.shuffled` does.
  """
  train, parts = len(inputs.train), []
  shown = np.flatnonzero(simplenet.seen(inputs.roi, grid))
  each = len(shown)
  entropy = config.seeds[0], zlib.crc32(inputs.name.encode())
  bits = np.random.Philox(np.random.SeedSequence(entropy))
  order = np.argsort(bits.random_raw(train * each), kind='stable')
  images, places = np.divmod(np.sort(order[:count]), each)
  for start, some in blocks(range(train)):
    rows = np.asarray(some).reshape(len(some), math.prod(grid), -1)
    here = slice(*np.searchsorted(images, [start, start + len(some)]))
    parts.append(rows[images[here] - start, shown[places[here]]])
  return np.concatenate(parts), images


def path_in(workdir: Path, category: str) -> Path:
  """Returns where a run keeps the arrays of a category."""
  return workdir / 'nearest' / f'{category}.safetensors'


def _key(run: RunInputs, name: str) -> str:
  """Returns what the arrays of a category are of: settings, and images."""
  images = run.images.get(name, {})
  used = [images.get(use) for use in ('training', 'test', 'region')]
  return json.dumps([*_counts(run.config), run.config.seeds[0], *used])


def patch_scores(
  config: Config,
  arrays: Arrays,
  heads: Mapping[int, Mapping[str, np.ndarray]],
  scores: Mapping[int, Mapping[int, np.ndarray]],
) -> dict[int, dict[int, np.ndarray]]:
  """Returns patch scores `[images, H, W]` by seed and epoch, of all parts.

  `heads` are finished ones by seed, as they are saved, `scores` their own by
  seed and epoch. Where none is trained, the distances alone count, as epoch 0.
  """
  distance, units = arrays['distances'], tuple(arrays['units'])
  if not heads:
    return {config.seeds[0]: {0: nearest.combine(distance, units)}}
  good, weight = arrays['bank'], config.nearest.head
  found = {}
  for seed, by_epoch in scores.items():
    own = nearest.head_units(heads[seed], good)
    found[seed] = {
      epoch: nearest.combine(distance, units, one, own, weight)
      for epoch, one in by_epoch.items()
    }
  return found
