"""Training from a pool of rendered images to a file of weights."""

import dataclasses
import json
import os
import pathlib
import platform
import time
from collections.abc import Iterator

import jax
import numpy as np
import safetensors.numpy
from absl import logging
from flax import nnx

from simplenet_jax import files
from simplenet_jax.pretraining import learner, network, pool

_STATISTICS_BATCHES = 48


@dataclasses.dataclass(frozen=True)
class Options:
  """How the backbone is trained.

  Attributes:
    architecture: A key of `resnet.ARCHITECTURES`.
    seed: Seed of images, weights and batches.
    classes: How many recipes.
    pairs: How many pairs of images of each recipe.
    steps: How many training steps.
    batch: Images in a step.
    learning_rate: The highest.
  """

  architecture: str
  seed: int
  classes: int
  pairs: int
  steps: int
  batch: int
  learning_rate: float


def _batches(
  images: pool.Pool, size: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Yields images, classes and kinds without end, a shuffled pass at a time.

  Each pair gives its disturbed image in two of three passes.
  """
  rng = np.random.default_rng([seed, 4])
  pairs = len(images.classes)
  order = np.empty(0, np.int64)
  while True:
    while len(order) < size:
      order = np.concatenate([order, rng.permutation(pairs)])
    chosen, order = np.sort(order[:size]), order[size:]
    member = (rng.random(size) < 2 / 3).astype(np.int64)
    kinds = images.kinds[chosen] * member[:, None, None].astype(np.uint8)
    yield images.images[chosen, member], images.classes[chosen], kinds


def _statistics(graph, state, images, seed, batch) -> nnx.State:
  """Estimates BatchNorm's statistics for the averaged weights."""
  total = None
  stream = _batches(images, batch, seed + 1)
  for _ in range(_STATISTICS_BATCHES):
    seen, _, _ = next(stream)
    part = learner.batch_statistics(graph, state.average, state.stats, seen)
    total = part if total is None else jax.tree.map(np.add, total, part)
  return jax.tree.map(lambda x: x / _STATISTICS_BATCHES, total)


def save(
  path: pathlib.Path,
  params: nnx.State,
  stats: nnx.State,
  metadata: dict[str, str],
) -> None:
  """Writes weights as float16 safetensors under torchvision's names.

  Args:
    path: The file.
    params: The weights.
    stats: BatchNorm's statistics.
    metadata: What to note in the file's header.
  """
  tensors = network.to_torch_names(nnx.merge_state(params, stats))
  halves = {name: value.astype(np.float16) for name, value in tensors.items()}
  with files.atomic_write(path) as aside:
    safetensors.numpy.save_file(halves, aside, metadata)


def _machine() -> str:
  device = jax.devices()[0]
  return f'{os.cpu_count()} cores ({platform.machine()}), {device.device_kind}'


def run(output: pathlib.Path, options: Options, every: int) -> pathlib.Path:
  """Renders the images, trains, and writes the weights.

  Args:
    output: Folder for the images and the weights.
    options: What to train.
    every: Steps between two saved states of the weights.

  Returns:
    The file of weights.
  """
  images = pool.make(
    output / 'pool', options.seed, options.classes, options.pairs
  )
  logging.info('%d pairs of images', len(images.classes))
  tx = learner.optimizer(options.learning_rate, options.steps)
  graph, state = learner.initialise(
    options.architecture, options.classes, options.seed, tx
  )
  key = jax.random.key(options.seed)
  path = output / f'{options.architecture}.safetensors'
  stream = _batches(images, options.batch, options.seed)
  start, sums = time.monotonic(), {}
  for step in range(1, options.steps + 1):
    seen, classes, kinds = next(stream)
    state, parts = learner.train_step(
      graph, state, tx, key, seen, classes, kinds
    )
    sums = {k: sums.get(k, 0.0) + float(v) for k, v in parts.items()}
    if step % 50 == 0:
      shown = ' '.join(f'{k} {v / 50:.3f}' for k, v in sums.items())
      logging.info('step %d, %.0f s: %s', step, time.monotonic() - start, shown)
      sums = {}
    if step % every == 0 or step == options.steps:
      stats = _statistics(graph, state, images, options.seed, options.batch)
      metadata = {
        **{k: str(v) for k, v in dataclasses.asdict(options).items()},
        'images': str(2 * len(images.classes)),
        'steps_done': str(step),
        'rendering_seconds': str(images.seconds),
        'training_seconds': str(round(time.monotonic() - start)),
        'machine': _machine(),
        'licence': 'Apache-2.0',
      }
      save(path, state.average, stats, metadata)
      logging.info('%s: %s', path, json.dumps(metadata))
  return path
