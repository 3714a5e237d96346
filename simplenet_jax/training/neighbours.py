"""A category's bank of good patches, and its test images' distances, on disk.

They need no epochs: they are found once, when a category's features are there,
and kept in the work directory.
"""

import contextlib
import functools
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from simplenet_jax.config import Config
from simplenet_jax.console import console, first_line
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.files import atomic_write
from simplenet_jax.models import nearest
from simplenet_jax.training import bank, checkpoint
from simplenet_jax.training.layout import DeviceTask, RunInputs
from simplenet_jax.training.store import FeatureStore

BLOCK = 8  # Images whose patches are held at a time.
# A bank is chosen of so many times its size, drawn at random: on real images
# all patches made no better ones, and take longer.
_DRAWN = 5

# The `bank`, float32 [size, dim], the `units` of distances to it, float64 [2],
# and the `distances` of test images, float32 [images, H, W]; the latter also as
# `baseline`, to the bank of that.
Arrays = dict[str, np.ndarray]
# Returns the patches [images, H, W, dim] of a few images.
Read = Callable[[np.ndarray], jax.Array]


def are_wanted(config: Config) -> bool:
  """Returns whether a run has any use for nearest neighbours."""
  return bool(config.nearest.size or config.evaluation.baseline)


def obtain(run: RunInputs, inputs: Inputs, store: FeatureStore) -> Arrays:
  """Returns a category's arrays: those of its file, or they are found now.

  Its features are open in the store, or there is room for them.
  """
  config, count = run.config, len(inputs.train)
  if (found := _load(run, inputs.name)) is None:
    features = store.open(inputs.name)
    read = functools.partial(store.patches, features)
    block = min(BLOCK, features.limit)
    found = find(config, inputs.name, count, inputs.images, block, read)
    with atomic_write(path_in(run.workdir, inputs.name)) as aside:
      checkpoint.write(aside, found, of=_key(run, inputs.name))
  return found


def obtain_alone(run: RunInputs, task: DeviceTask) -> Arrays:
  """Returns the arrays of a task's only category, where nothing is trained."""
  (inputs,) = task.categories
  if (found := _load(run, inputs.name)) is None:
    with bank.computing(task.device):
      store = FeatureStore(run, task)
      with contextlib.closing(store):
        found = obtain(run, inputs, store)
  return found


def find(
  config: Config, name: str, train: int, images: int, block: int, read: Read
) -> Arrays:
  """Finds what a config asks for in the features of a category.

  The first `train` of its `images` are good ones to train on, the others test
  images. `read` takes `block` of them at a time.
  """
  found: Arrays = {}
  sizes = {'distances': config.nearest.size}
  if images > train:
    sizes['baseline'] = config.evaluation.baseline
  known: dict[int, np.ndarray] = {}  # Distances by the size of the bank.
  for part, size in sizes.items():
    if size and size not in known:
      drawn = name, config.seeds[0], _DRAWN * size
      patches, places = _draw(*drawn, train, block, read)
      chosen = np.asarray(nearest.choose(patches, min(size, len(patches))))
      bank = jnp.asarray(patches[chosen])
      if part == 'distances':
        units = nearest.distance_units(bank, places[chosen])
        found |= {'bank': np.asarray(bank), 'units': np.array(units)}
      known[size] = _distances(bank, range(train, images), block, read)
    if size:
      found[part] = known[size]
  return found


def _draw(
  name: str, seed: int, count: int, train: int, block: int, read: Read
) -> tuple[np.ndarray, np.ndarray]:
  """Draws patches `[count, dim]` of good images; returns whose they are, too.

  They depend on the category and the seed alone, as `job.shuffled` does.
  """
  height, width, dim = read(np.zeros(block, int)).shape[1:]
  each = height * width
  bits = np.random.Philox(
    np.random.SeedSequence((seed, zlib.crc32(name.encode())))
  )
  order = np.argsort(bits.random_raw(train * each), kind='stable')
  places, parts = np.sort(order[:count]), []
  for start in range(0, train, block):
    first, last = np.searchsorted(
      places, [start * each, (start + block) * each]
    )
    some = np.asarray(
      read(np.minimum(np.arange(start, start + block), train - 1))
    )
    parts.append(some.reshape(-1, dim)[places[first:last] - start * each])
  return np.concatenate(parts), places // each


def _distances(
  bank: jax.Array, images: range, block: int, read: Read
) -> np.ndarray:
  """Returns the distances of images `[images, H, W]` to a bank."""
  parts = [np.zeros((0, *read(np.zeros(block, int)).shape[1:3]), np.float32)]
  for start in images[::block]:
    some = np.minimum(np.arange(start, start + block), images.stop - 1)
    found = np.asarray(nearest.distances(read(some), bank))
    parts.append(found[: images.stop - start])
  return np.concatenate(parts)


def path_in(workdir: Path, category: str) -> Path:
  """Returns where a run keeps the arrays of a category."""
  return workdir / 'nearest' / f'{category}.safetensors'


def _key(run: RunInputs, name: str) -> str:
  """Returns what the arrays of a category are of: settings, and images."""
  asked = run.config.nearest.size, run.config.evaluation.baseline
  images = run.images.get(name, {})
  used = run.config.seeds[0], images.get('training'), images.get('test')
  return json.dumps([*asked, *used])


def _load(run: RunInputs, name: str) -> Arrays | None:
  """Returns the arrays of a category's file, if it has one that is of them."""
  path = path_in(run.workdir, name)
  if not path.exists():
    return None
  try:
    arrays, about = checkpoint.read(path)
  except (OSError, ValueError, safetensors.SafetensorError) as error:
    console.print(f'  {path} cannot be read ({first_line(error)[:120]})')
    return None
  return arrays if about.get('of') == _key(run, name) else None


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
  bank, weight = jnp.asarray(arrays['bank']), config.nearest.head
  found = {}
  for seed, by_epoch in scores.items():
    own = nearest.head_units(heads[seed], bank)
    found[seed] = {
      epoch: nearest.combine(distance, units, one, own, weight)
      for epoch, one in by_epoch.items()
    }
  return found
