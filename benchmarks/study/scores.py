"""What rows are worth on a part: features, distances, heads and figures."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.study import heads
from benchmarks.study.rows import Distance, Heads, Row
from simplenet_jax.config import Config, load_config
from simplenet_jax.data import dataset
from simplenet_jax.evaluation import metrics
from simplenet_jax.evaluation.testset import TestSet
from simplenet_jax.models import nearest
from simplenet_jax.training import bank, pasted

_ROOT = flags.DEFINE_string('root', 'data', 'Holds a folder for every part.')
_WEIGHTS = flags.DEFINE_string('weights', '', "ImageNet's ResNet18.")
_CACHE = flags.DEFINE_string('cache', 'data/study', 'Keeps what is computed.')
_SIDE = flags.DEFINE_integer('side', 224, 'The shorter side of images.', 32)

_BATCH = 8
_CHUNK = 2048  # Patches whose distances to a bank are held at a time.
DEMO = 'demo-'  # What names of generated parts begin with.


@dataclasses.dataclass(frozen=True)
class Part:
  """Patches of a part's images with a spread of 1, and its truth."""

  train: np.ndarray  # float16 [images, H, W, dim]
  test: np.ndarray
  truth: TestSet
  offsets: tuple[int, ...]  # The first dimension of each level.
  # From a number of defects, and the training images that they are pasted on,
  # to their patches.
  make: Callable[[int, tuple[int, ...]], np.ndarray]
  images: tuple[int, ...]  # Which training images these are.


def _config(backbone: str, part: str, dims: tuple[int, int]) -> Config:
  config = load_config('demo' if part.startswith(DEMO) else 'folder')
  config.backbone.name, config.backbone.weights = backbone, ''
  config.backbone.padding, config.backbone.probe = 'reflect', True
  if backbone == 'resnet18':
    config.backbone.weights = _WEIGHTS.value
  config.patch.pretrain_dim, config.patch.target_dim = dims
  config.data.held_out = 0.0
  if part.startswith(DEMO):
    config.data.root = str(pathlib.Path(_CACHE.value) / 'demo')
    config.data.categories = (part.removeprefix(DEMO),)
  else:
    config.data.root = str(pathlib.Path(_ROOT.value) / part)
    config.data.resize = _SIDE.value
  return config


@functools.lru_cache(maxsize=2)
def load(backbone: str, part: str, dims: tuple[int, int]) -> Part:
  """Returns the patches of a part's images."""
  config = _config(backbone, part, dims)
  (one,) = dataset.open_categories(config.data).categories
  network = bank.Extraction.of(config)
  weights = bank.load_backbone(config).state
  weights = bank.on_device(network, weights, jax.local_devices()[0])
  merge, found = jax.jit(network.merge), []

  def patches(pixels: np.ndarray) -> jax.Array:
    return merge(bank.extract(network, weights, pixels))

  for start in range(0, one.images, _BATCH):
    images = range(start, min(start + _BATCH, one.images))
    pixels = np.stack([one.pixels(index) for index in images])
    batch = bank.padded(pixels, _BATCH)
    found.append(np.asarray(patches(batch))[: len(images)])
  every = np.concatenate(found)
  known = every[: len(one.train)]
  mean = known.mean((0, 1, 2), np.float64)
  spread = np.sqrt(known.var((0, 1, 2), np.float64).mean())
  every = ((every - mean) / spread).astype(np.float16)
  truth = TestSet.read(one, 4.0)
  train, test = every[: len(one.train)], every[len(one.train) :]

  @functools.cache
  def make(count: int, images: tuple[int, ...]) -> np.ndarray:
    files = tuple(one.category.train[image] for image in images)
    category = one.category._replace(train=files)
    frames = tuple(one.train[image] for image in images)
    some = dataclasses.replace(one, category=category, train=frames)
    made = pasted.make(some, count, _BATCH, patches)['patches']
    return ((made - mean) / spread).astype(np.float16)

  images = tuple(range(len(train)))
  return Part(train, test, truth, network.level_offsets, make, images)


@dataclasses.dataclass(frozen=True)
class Scores:
  """Scores of the test images' patches, and what units they have."""

  test: np.ndarray  # float32 [images, H, W]
  units: nearest.Units


def _kept(name: str, make) -> Scores:
  """Returns scores out of the cache, or makes them."""
  path = pathlib.Path(_CACHE.value) / f'{name}.npz'
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    made = make()
    np.savez(path, test=made.test, units=made.units)
  with np.load(path) as found:
    mean, deviation = found['units']
    return Scores(found['test'], (float(mean), float(deviation)))


def _name(kind: Any, *others: Any) -> str:
  values = [str(x) for x in (*others, *dataclasses.astuple(kind))]
  return '-'.join(values).replace(' ', '')


def _drawn(
  train: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns patches of training images, and which image each is of."""
  flat = train.reshape(-1, train.shape[-1])
  rng = np.random.default_rng(seed)
  rows = rng.permutation(len(flat))[:count]
  return flat[rows].astype(np.float32), rows // np.prod(train.shape[1:3])


def _parts(kind: Distance, part: Part, seed: int) -> Scores:
  """Returns the mean of distances to several banks, each in its units."""
  alone, found = dataclasses.replace(kind, draws=1, apart=False), []
  stops = (*part.offsets[1:], part.train.shape[-1])
  levels = [slice(*ends) for ends in zip(part.offsets, stops, strict=True)]
  for number in range(kind.draws):
    for level in levels if kind.apart else [slice(None)]:
      train, test = part.train[..., level], part.test[..., level]
      own = dataclasses.replace(part, train=train, test=test)
      one = _distances(alone, own, seed + 100 * number)
      found.append(nearest.combine(one.test, one.units))
  return Scores(np.mean(found, axis=0), (0.0, 1.0))


def _distances(kind: Distance, part: Part, seed: int) -> Scores:
  if kind.draws > 1 or kind.apart:
    return _parts(kind, part, seed)
  drawn, images = _drawn(part.train, max(kind.pool, kind.size), seed)
  matrix = np.eye(drawn.shape[1], dtype=np.float32)
  if kind.whitened is not None or kind.components:
    values, vectors = np.linalg.eigh(np.cov(drawn.T))
    kept = kind.components or len(values)
    values, matrix = values[::-1][:kept], vectors[:, ::-1][:, :kept]
    if kind.whitened is not None:
      matrix = matrix / np.sqrt(values + kind.whitened * values.mean())
    matrix = matrix.astype(np.float32)
  drawn = drawn @ matrix
  rows = np.arange(min(kind.size, len(drawn)))
  if kind.coreset:
    rows = np.asarray(nearest.choose(jnp.asarray(drawn), len(rows)))
  held = jnp.asarray(drawn[rows])
  prepared, whose, found = nearest.prepare(held), images[rows], []
  usual = np.zeros(len(held))
  if kind.local:
    usual = kind.local * _usual(drawn, images, held, whose)
  for image in part.test:
    shown = (image.astype(np.float32) @ matrix)[None]
    if kind.local:
      flat = shown.reshape(-1, shown.shape[-1])
      distance, near = _closest(flat, np.full(len(flat), -1), held, whose)
      found.append((distance - usual[near]).reshape(shown.shape[1:3]))
    elif kind.neighbours == 1:
      found.append(np.asarray(nearest.distances(shown, prepared))[0])
    else:
      found.append(np.asarray(_several(shown[0], held, kind.neighbours)))
  return Scores(np.stack(found), nearest.distance_units(held, whose))


@jax.jit
def _closest(rows, images, held, whose) -> tuple[jax.Array, jax.Array]:
  """Returns distances to the nearest patch of other images, and which it is."""
  squares = jnp.square(rows).sum(1)[:, None] - 2 * rows @ held.T
  squares += jnp.square(held).sum(1)
  squares = jnp.where(images[:, None] == whose, jnp.inf, squares)
  return jnp.sqrt(jnp.maximum(squares.min(1), 0)), squares.argmin(1)


def _usual(drawn, images, held, whose) -> np.ndarray:
  """Returns how far good patches are from each of a bank, whose they are."""
  blocks = [slice(at, at + _CHUNK) for at in range(0, len(drawn), _CHUNK)]
  each = [_closest(drawn[at], images[at], held, whose) for at in blocks]
  far, near = map(np.concatenate, zip(*each, strict=True))
  sums, counts = (np.bincount(near, x, len(held)) for x in (far, None))
  # Where few are, the mean of all counts as ten more.
  return (sums + 10 * far.mean()) / (counts + 10)


@functools.partial(jax.jit, static_argnums=2)
def _several(shown: jax.Array, held: jax.Array, count: int) -> jax.Array:
  rows = shown.reshape(-1, shown.shape[-1])
  squares = jnp.square(rows).sum(1)[:, None] - 2 * rows @ held.T
  squares += jnp.square(held).sum(1)
  nearest_few = -jax.lax.top_k(-squares, count)[0]
  means = jnp.sqrt(jnp.maximum(nearest_few, 0)).mean(1)
  return means.reshape(shown.shape[:2])


def _heads(kind: Heads, part: Part, seed: int) -> Scores:
  flat = part.train.reshape(-1, part.train.shape[-1])
  made = flat[:0]
  if kind.pasted:
    made = part.make(kind.pasted, part.images)
    rows = np.random.default_rng(seed).permutation(len(made))
    made = made[rows[: pasted.KEPT]]
  score = heads.trained(kind, flat, seed, made)
  shape = part.test.shape
  test = score(part.test.reshape(-1, shape[-1])).reshape(shape[:3])
  usual = score(_drawn(part.train, 4000, seed)[0])
  return Scores(test, (float(usual.mean()), float(usual.std())))


def evaluate(
  row: Row, backbone: str, name: str, seed: int, images: int = 0
) -> dict[str, float]:
  """Returns the figures of a row on a part, or with few training images."""
  dims = row.distance.dims if row.distance else (0, 0)
  part = load(backbone, name, dims)
  if images:
    order = np.random.default_rng(seed).permutation(len(part.train))[:images]
    some = tuple(map(int, order))
    part = dataclasses.replace(part, train=part.train[order], images=some)
    name += f'-{images}'
  total = np.zeros(part.test.shape[:3], np.float32)
  if asked := row.distance:
    label = _name(asked, backbone, name, seed)
    found = _kept(label, lambda: _distances(asked, part, seed))
    total += nearest.combine(found.test, found.units)
  if row.heads:
    weight = row.weight if row.distance else 1.0
    kind = dataclasses.replace(row.heads, count=1)
    for number in range(row.heads.count):
      own = seed + 100 * number
      label = _name(kind, backbone, name, own)
      found = _kept(label, lambda own=own: _heads(kind, part, own))
      total += (
        weight / row.heads.count * nearest.combine(found.test, found.units)
      )
  if part.truth.masks is None:
    raise ValueError(f'{name}: no image has a mask')
  truth = dataclasses.replace(part.truth, smoothing=row.smoothing)
  maps = truth.maps(total)
  highest = (total if row.score == 'patch' else maps).max((1, 2))
  ranked = metrics.rank(part.truth.masks, maps[truth.has_truth])
  return {
    'image_auroc': metrics.auroc(truth.labels, highest),
    'pixel_auroc': ranked.auroc(),
    'aupro_30': ranked.aupro(0.3),
  }
