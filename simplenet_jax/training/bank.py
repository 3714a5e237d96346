"""The feature bank: every image passes the frozen backbone once.

Images are not augmented, so features never change. They are kept on the device,
coarse levels at their own resolution, and every head, epoch and evaluation
reads them. A bank has a fixed number of rows, one per image, that categories
take and give back: programs that read it are compiled once.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from simplenet_jax.config import Config
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.models import simplenet, weights

# Images that are written at a time: one program serves all, and larger blocks
# would pad more.
BLOCK = 32
_ROUNDING = 1e-6  # Relative; features that vary less do not vary.


@dataclasses.dataclass(frozen=True)
class Extractor:
  """The way from pixels to a bank's features; static, without the weights."""

  network: simplenet.FeatureNetwork
  dtype: str = 'float32'  # Of the features.

  @property
  def level_offsets(self) -> tuple[int, ...]:
    """The first patch dimension of each level."""
    return self.network.level_offsets

  def __call__(self, weights: Any, pixels: jax.Array) -> tuple[jax.Array, ...]:
    """Returns each level's `[batch, h, w, channels]`, see `features`."""
    levels = simplenet.features(self.network, weights, pixels)
    return tuple(level.astype(self.dtype) for level in levels)

  def shapes(
    self, weights: Any, size: Sequence[int]
  ) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Returns each level's `[h, w, channels]` of an image of `size` pixels."""
    pixels = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
    return tuple(
      jax.ShapeDtypeStruct(level.shape[1:], level.dtype)
      for level in jax.eval_shape(self, weights, pixels)
    )


extract = jax.jit(Extractor.__call__, static_argnums=0)


def make_extractor(config: Config) -> Extractor:
  """Returns the way from pixels to pooled features."""
  backbone, patch = config.backbone, config.patch
  network = simplenet.FeatureNetwork(
    architecture=backbone.name,
    levels=tuple(backbone.levels),
    padding=backbone.padding,
    patch_size=patch.size,
    pretrain_dim=patch.pretrain_dim,
    target_dim=patch.target_dim,
  )
  return Extractor(network, config.bank.dtype)


def load_backbone(config: Config) -> weights.Weights:
  """Loads the backbone's weights by a config; see `weights.load`."""
  backbone = config.backbone
  source = backbone.weights or weights.DEFAULT_WEIGHTS[backbone.name]
  levels = tuple(backbone.levels)
  return weights.load(source, backbone.name, levels, backbone.probe)


def check_noise(
  config: Config, extractor: Extractor, loaded: weights.Weights, one: Inputs
) -> weights.Weights:
  """Returns the weights, with a warning if the noise does not fit features."""
  backbone, train = config.backbone, config.train
  levels = tuple(backbone.levels)

  def features():
    count = min(2, len(one.train), backbone.batch_size)
    pixels = np.stack([one.pixels(i) for i in range(count)])
    # As training does it, so that the first device has its program already.
    with computing(jax.local_devices()[0]) as device:
      state = jax.device_put(loaded.state, device)
      found = extract(extractor, state, padded(pixels, backbone.batch_size))
    return [np.asarray(level[:count], np.float32) for level in found]

  sigma = train.sigma if train.noise == 'absolute' else None
  if line := weights.misfit(loaded, backbone.name, levels, sigma, features):
    logging.warning('%s: %s', loaded.name, line)
    return dataclasses.replace(loaded, warnings=(line,))
  return loaded


@contextlib.contextmanager
def computing(device: Any) -> Iterator[Any]:
  """Computes on a device, in float32 but for the heads' products."""
  with jax.default_device(device), jax.default_matmul_precision('float32'):
    yield device


def row_type(shapes: Sequence[jax.ShapeDtypeStruct]) -> np.dtype:
  """Returns the type of one image's features on the host, a field per level."""
  return np.dtype(
    [(f'level{i}', one.dtype, one.shape) for i, one in enumerate(shapes)]
  )


@functools.partial(jax.jit, donate_argnames='levels')
def _put(levels, values, rows):
  # Rows beyond the end pad a short batch and are dropped.
  return tuple(
    level.at[rows].set(value, mode='drop')
    for level, value in zip(levels, values, strict=True)
  )


class Bank:
  """Rows of features on one device."""

  def __init__(
    self, shapes: Sequence[jax.ShapeDtypeStruct], rows: int, device: Any = None
  ):
    """Allocates `rows` rows of `shapes`, which come from `Extractor.shapes`."""
    self.device = device or jax.devices()[0]
    self.rows, self.row_type = rows, row_type(shapes)
    # [rows, h, w, channels] each. Every write replaces them (the old ones are
    # donated), so they must be read anew each time.
    self.levels = tuple(
      jnp.zeros((rows, *shape.shape), shape.dtype, device=self.device)
      for shape in shapes
    )
    self.free = list(range(rows))

  def take(self, count: int) -> np.ndarray:
    """Returns `count` of the free rows, int32, and marks them as taken."""
    taken, self.free = self.free[:count], self.free[count:]
    return np.array(taken, np.int32)

  def give(self, rows: np.ndarray) -> None:
    """Marks rows as free."""
    self.free = sorted([*self.free, *rows.tolist()])

  def put(self, values: Sequence[Any], rows: np.ndarray) -> None:
    """Writes a batch's features to rows; beyond these it is padding."""
    missing = len(values[0]) - len(rows)
    rows = np.pad(rows, (0, missing), constant_values=self.rows)
    self.levels = _put(self.levels, tuple(values), rows)

  def write(self, levels: Sequence[np.ndarray], rows: np.ndarray) -> None:
    """Copies features of images from the host to rows."""
    for start in range(0, len(rows), BLOCK):
      part = slice(start, start + BLOCK)
      self.put([padded(level[part], BLOCK) for level in levels], rows[part])


@jax.jit
def _moments(levels, rows):
  """Returns each image's mean and variance over its positions, `[rows, c]`."""
  found = []
  for level in levels:
    values = jnp.take(level, rows, axis=0, mode='clip').astype(jnp.float32)
    found.append((values.mean((1, 2)), values.var((1, 2))))
  return [jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True)]


def spread(home: Bank, parts: Iterable[np.ndarray]) -> float:
  """Measures how wide some images' features spread.

  It is the root mean square, over the dimensions of all levels, of the standard
  deviation over all positions of all images. In units of it, noise is as strong
  for weights of any scale, as with the released code's `auto_noise`. The
  images' rows come in parts, of which one is read before the next is asked for.

  Raises:
    ValueError: If features are not finite, or do not vary.
  """
  moments = []
  for rows in parts:
    for start in range(0, len(rows), BLOCK):
      some = rows[start : start + BLOCK]
      found = _moments(home.levels, padded(some, BLOCK))
      moments.append([np.asarray(one)[: len(some)] for one in found])
  means, inner = (
    np.concatenate(one).astype(np.float64) for one in zip(*moments, strict=True)
  )
  if not (np.isfinite(means).all() and np.isfinite(inner).all()):
    raise ValueError(
      'its features are not finite; use --config.bank.dtype=float32'
    )
  variance = float((inner.mean(0) + means.var(0)).mean())
  if variance <= _ROUNDING**2 * float(np.square(means).mean()):
    raise ValueError(
      'its features do not vary; give other images, or '
      '--config.train.noise=absolute'
    )
  return math.sqrt(variance)


def padded(values: np.ndarray, size: int) -> np.ndarray:
  """Pads the first axis with zeros."""
  missing = size - len(values)
  return np.pad(values, [(0, missing), *[(0, 0)] * (values.ndim - 1)])
