"""Patches of defects that are pasted on a category's good images, on disk.

They are made once, when a category's features are there, and kept in the work
directory. Heads draw a share of their counterfeits from them.
"""

import contextlib
import itertools
import json
import time
import zlib
from collections.abc import Callable

import jax
import numpy as np

from simplenet_jax.console import console, counted
from simplenet_jax.data import loading, pasting
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.files import atomic_write
from simplenet_jax.models import simplenet
from simplenet_jax.training import bank, checkpoint
from simplenet_jax.training.job import Job, parts_of
from simplenet_jax.training.layout import RunInputs
from simplenet_jax.training.neighbours import Arrays
from simplenet_jax.training.store import FeatureStore

KEPT = 2048  # Patches that one head draws from.
_COVERED = 0.25  # How much of a patch's cell a defect covers, at least.
_VERSION = 1  # Of what is pasted, in the files.
_AHEAD = 4  # Batches that are pasted ahead.


def obtain(run: RunInputs, inputs: Inputs, store: FeatureStore) -> Arrays:
  """Returns a category's pasted patches: those of its file, or new ones.

  They are `patches`, float32 [count, dim], and `images`, int [count], which
  good image each is of.
  """
  path = run.workdir / 'pasted' / f'{inputs.name}.safetensors'
  images = run.images.get(inputs.name, {})
  used = [images.get(use) for use in ('training', 'region')]
  config = run.config
  key = json.dumps([_VERSION, config.train.pasted, *used])
  found = checkpoint.read_if_of(path, key)
  if found is None:
    begun = time.monotonic()
    count, size = config.train.pasted, config.backbone.batch_size
    found = make(inputs, count, size, store.patches_of)
    console.print(
      f'  {inputs.name}: {counted(count, "defect")} pasted on good images, '
      f'{len(found["images"]):,} patches of them, in '
      f'{time.monotonic() - begun:.0f} s'
    )
    with atomic_write(path) as aside:
      checkpoint.write(aside, found, of=key)
  return found


def of_head(found: Arrays, job: Job) -> np.ndarray:
  """Returns the patches that a head draws from, float32 `[KEPT, dim]`.

  None is of an image that the head does not see. Raises ValueError where there
  are none.
  """
  parts = parts_of(job.category, job.images, job.fold[1])
  kept = (parts != job.fold[0]) | (job.fold[1] == 1)
  own = np.flatnonzero(kept[found['images']])
  if not len(own):
    raise ValueError(
      'no defect that is pasted on its good images can be seen; raise '
      '--config.train.pasted, or take 0 to do without'
    )
  rng = _generator(job.seed, job.category, job.images)
  return found['patches'][rng.choice(own, KEPT, replace=len(own) < KEPT)]


def _generator(seed: int, category: str, number: int) -> np.random.Generator:
  """Returns draws that depend on these alone."""
  entropy = seed, zlib.crc32(category.encode()), number
  return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def make(
  inputs: Inputs,
  count: int,
  size: int,
  patches_of: Callable[[np.ndarray], jax.Array],
) -> Arrays:
  """Pastes defects on good images, in turns, and takes their patches.

  They depend on the category alone. `patches_of` takes batches of `size` images
  to patches `[size, H, W, dim]`.
  """
  images_of = parts_of(inputs.name, len(inputs.train), len(inputs.train))
  whose = np.resize(np.argsort(images_of), count)  # In an order of chance.
  patches, images = [], []

  def one(number: int) -> tuple[np.ndarray, np.ndarray]:
    rng = _generator(0, inputs.name, number)
    return pasting.paste(rng, inputs.pixels(int(whose[number])), inputs.roi)

  pasting_ahead = loading.in_order(one, range(count), _AHEAD * size)
  with contextlib.closing(pasting_ahead) as made:
    for start in range(0, count, size):
      some = list(itertools.islice(made, size))
      pixels, places = map(np.stack, zip(*some, strict=True))
      found = np.asarray(patches_of(bank.padded(pixels, size)))
      grid = found.shape[1:3]
      of, row, column = np.nonzero(
        (_covered(places, grid) > _COVERED) & simplenet.seen(inputs.roi, grid)
      )
      patches.append(found[of, row, column])
      images.append(whose[start + of])
  return {'patches': np.concatenate(patches), 'images': np.concatenate(images)}


def _covered(places: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
  """Returns the share of each cell that lies in a place, `[images, *grid]`.

  Places are bool `[images, height, width]`, at least as fine as the grid.
  """
  found = places.astype(np.float32)
  for axis, cells in enumerate(grid, 1):
    starts = np.arange(cells) * places.shape[axis] // cells
    counts = np.diff(starts, append=places.shape[axis])
    sums = np.add.reduceat(found, starts, axis)
    found = sums / np.expand_dims(counts, [a for a in range(3) if a != axis])
  return found
