"""Renders the pool of training images once, before training."""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import pathlib
import time

import numpy as np

from simplenet_jax import files
from simplenet_jax.pretraining import disturbances, recipes, scenes

SIZE = 128  # Side of a pool image, in pixels.
FAMILY = 4  # Classes that differ from each other in one trait.


@dataclasses.dataclass(frozen=True)
class Pool:
  """Images in pairs: the same scene, undisturbed and disturbed.

  Attributes:
    images: `[pairs, 2, SIZE, SIZE, 3]`, uint8, memory-mapped.
    kinds: What disturbs the second of each pair,
      `[pairs, SIZE / BLOCK, SIZE / BLOCK]`, uint8.
    classes: The recipe of each pair, `[pairs]`, int32.
    seconds: How long the rendering took.
  """

  images: np.ndarray
  kinds: np.ndarray
  classes: np.ndarray
  seconds: float


def recipe(seed: int, index: int) -> recipes.Recipe:
  """Returns the recipe of a class: every `FAMILY` of them are relatives."""
  base = recipes.draw(np.random.default_rng([seed, 1, index // FAMILY]))
  if index % FAMILY == 0:
    return base
  return recipes.vary(base, np.random.default_rng([seed, 2, index]))


def render_class(
  seed: int, index: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
  """Renders pairs of images of one class.

  Args:
    seed: Seed of the recipe and the images.
    index: The class.
    count: How many pairs.

  Returns:
    Images `[count, 2, SIZE, SIZE, 3]`, uint8, undisturbed and disturbed, and
    what disturbs the second of each pair, `[count, blocks, blocks]`, uint8.
  """
  images = np.empty((count, 2, SIZE, SIZE, 3), np.uint8)
  blocks = SIZE // disturbances.BLOCK
  kinds = np.empty((count, blocks, blocks), np.uint8)
  scene = recipe(seed, index)
  for k in range(count):
    key = [seed, 3, index, k]
    clean, covered = scenes.render(scene, key, SIZE)
    disturbed, kinds[k] = disturbances.apply(scene, key, SIZE, clean, covered)
    rng = np.random.default_rng([*key, 100])
    images[k, 0] = scenes.expose(clean, scene, rng)
    images[k, 1] = scenes.expose(disturbed, scene, rng)
  return images, kinds


def _render_range(args) -> None:
  folder, seed, classes, pairs = args
  images = np.load(folder / 'images.npy', mmap_mode='r+')
  kinds = np.load(folder / 'kinds.npy', mmap_mode='r+')
  for index in classes:
    here = slice(index * pairs, (index + 1) * pairs)
    images[here], kinds[here] = render_class(seed, index, pairs)


def make(
  folder: pathlib.Path,
  seed: int,
  classes: int,
  pairs: int,
  processes: int | None = None,
) -> Pool:
  """Renders a pool of images, or opens one rendered before.

  Args:
    folder: Where the pool lies. The folder's name is for the caller to choose:
      an existing, finished pool must have the same seed and sizes.
    seed: Seed of all recipes and images.
    classes: How many recipes.
    pairs: How many pairs of images of each.
    processes: How many work side by side; by default one for each core.

  Returns:
    The pool, memory-mapped.

  Raises:
    ValueError: If `folder` holds another pool.
  """
  made = folder / 'pool.json'
  wanted = {'seed': seed, 'classes': classes, 'pairs': pairs, 'size': SIZE}
  if made.exists():
    found = json.loads(made.read_text())
    if {**found, **wanted} != found:
      raise ValueError(
        f'{folder} holds a pool with {found}, wanted {wanted}: remove it or '
        'give another --output'
      )
  if not made.exists():
    start_time = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    blocks, count = SIZE // disturbances.BLOCK, classes * pairs
    for name, shape in (
      ('images', (count, 2, SIZE, SIZE, 3)),
      ('kinds', (count, blocks, blocks)),
    ):
      np.lib.format.open_memmap(
        folder / f'{name}.npy', 'w+', dtype=np.uint8, shape=shape
      ).flush()
    work = [
      (folder, seed, range(start, min(start + 8, classes)), pairs)
      for start in range(0, classes, 8)
    ]
    # Fresh processes: forking one that runs JAX is unsafe.
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(processes, context) as executor:
      list(executor.map(_render_range, work))
    wanted['seconds'] = round(time.monotonic() - start_time)
    with files.atomic_write(made) as aside:
      aside.write_text(json.dumps(wanted))
  return Pool(
    images=np.load(folder / 'images.npy', mmap_mode='r'),
    kinds=np.load(folder / 'kinds.npy', mmap_mode='r'),
    classes=np.repeat(np.arange(classes, dtype=np.int32), pairs),
    seconds=json.loads(made.read_text())['seconds'],
  )
