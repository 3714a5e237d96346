"""The feature bank: every image passes the frozen backbone once.

The backbone is frozen and images are not augmented, so features never change.
They are aggregated and kept on the device, coarse levels at their own
resolution, and every head, epoch and evaluation reads them. A bank has a fixed
number of rows, one per image, that categories take and give back: programs that
read it are compiled once, however many images a category has.
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
from simplenet_jax.models import resnet, simplenet, weights

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
    """Returns features of pixels, RGB `[batch, height, width, 3]`, uint8.

    They are `[batch, h, w, channels]` of each level; the weights are folded.
    """
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


def make_extractor(config: Config) -> Extractor:
  """Returns the way from pixels to pooled features.

  Raises:
    ValueError: For an unknown backbone or level, or sizes out of range.
  """
  backbone, patch = config.backbone, config.patch
  levels = tuple(backbone.levels)
  resnet.check(backbone.name, levels, backbone.padding)
  network = simplenet.FeatureNetwork(
    architecture=backbone.name,
    levels=levels,
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

  def features():
    count = min(2, len(one.train), backbone.batch_size)
    pixels = np.stack([one.train_pixels(i) for i in range(count)])
    batch = padded(pixels, backbone.batch_size)
    # As training does it, so that the first device has its program already.
    with computing(jax.local_devices()[0]) as device:
      state = jax.device_put(loaded.state, device)
      levels = extract(extractor, state, batch)
    return [np.asarray(level[:count], np.float32) for level in levels]

  backbone, train = config.backbone, config.train
  sigma = train.sigma if train.noise == 'absolute' else None
  levels = tuple(backbone.levels)
  if line := weights.misfit(loaded, backbone.name, levels, sigma, features):
    logging.warning('%s: %s', loaded.name, line)
    return dataclasses.replace(loaded, warnings=(line,))
  return loaded


@contextlib.contextmanager
def computing(device: Any) -> Iterator[Any]:
  """Computes on a device; the backbone and resizes do so in float32.

  The heads' products have a precision of their own.
  """
  with jax.default_device(device), jax.default_matmul_precision('float32'):
    yield device


def row_bytes(shapes: Sequence[jax.ShapeDtypeStruct]) -> int:
  """Returns the size of one image's features."""
  return sum(shape.size * shape.dtype.itemsize for shape in shapes)


@functools.partial(jax.jit, static_argnames='extractor')
def extract(
  extractor: Extractor, weights: Any, pixels: jax.Array
) -> tuple[jax.Array, ...]:
  """Computes pooled features, compiled; see `Extractor`."""
  return extractor(weights, pixels)


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
    self,
    shapes: Sequence[jax.ShapeDtypeStruct],
    rows: int,
    device: Any = None,
  ):
    """Allocates `rows` rows of `shapes`, which come from `Extractor.shapes`."""
    self.device = device or jax.devices()[0]
    # [rows, h, w, channels] each. Every write replaces them (the old ones are
    # donated), so they must be read anew each time.
    self.levels = tuple(
      jnp.zeros((rows, *shape.shape), shape.dtype, device=self.device)
      for shape in shapes
    )
    self.rows = rows
    self._free = list(range(rows))

  @property
  def free(self) -> int:
    """How many rows can be taken."""
    return len(self._free)

  def take(self, count: int) -> np.ndarray:
    """Returns `count` rows that are free, int32, and marks them as taken."""
    if count > self.free:
      raise ValueError(f'{count} rows asked for, {self.free} are free')
    taken, self._free = self._free[:count], self._free[count:]
    return np.array(taken, np.int32)

  def give(self, rows: np.ndarray) -> None:
    """Marks rows as free."""
    self._free = sorted([*self._free, *rows.tolist()])

  def put(self, values: Sequence[Any], rows: np.ndarray) -> None:
    """Writes features `[batch, h, w, channels]` of each level to rows.

    Where rows are fewer, the end of the batch is padding.
    """
    missing = len(values[0]) - len(rows)
    rows = np.pad(rows, (0, missing), constant_values=self.rows)
    self.levels = _put(self.levels, tuple(values), rows)

  def write(self, values: Sequence[np.ndarray], rows: np.ndarray) -> None:
    """Copies features `[images, h, w, channels]` of each level to rows."""
    for start in range(0, len(rows), BLOCK):
      part = slice(start, start + BLOCK)
      self.put([padded(value[part], BLOCK) for value in values], rows[part])


@jax.jit
def _moments(levels, rows):
  """Returns each image's mean and variance over its positions, by level."""
  found = []
  for level in levels:
    values = jnp.take(level, rows, axis=0, mode='clip').astype(jnp.float32)
    found.append((values.mean((1, 2)), values.var((1, 2))))
  return found


def spread(home: Bank, parts: Iterable[np.ndarray]) -> float:
  """Measures how wide some images' features spread.

  It is the root mean square, over the dimensions of all levels, of the standard
  deviation over all positions of all images. In units of it, noise is as strong
  for weights of any scale, as with the released code's `auto_noise`.

  Args:
    home: Where the features are.
    parts: Their rows, int32 `[images]` each, read before the next are asked
      for. How images are divided among them changes nothing.

  Raises:
    ValueError: If features are not finite, or do not vary.
  """
  moments = []
  for rows in parts:
    for start in range(0, len(rows), BLOCK):
      some = rows[start : start + BLOCK]
      found = jax.device_get(_moments(home.levels, padded(some, BLOCK)))
      if not all(np.isfinite(one).all() for pair in found for one in pair):
        raise ValueError(
          'its features are not finite; use --config.bank.dtype=float32'
        )
      moments.append([[one[: len(some)] for one in pair] for pair in found])
  variances, squares = [], []
  for level in zip(*moments, strict=True):
    means, inner = (
      np.concatenate([pair[place] for pair in level]).astype(np.float64)
      for place in (0, 1)
    )
    variances.append(inner.mean(0) + means.var(0))
    squares.append(np.square(means).mean(0))
  variance = float(np.concatenate(variances).mean())
  if variance <= _ROUNDING**2 * float(np.concatenate(squares).mean()):
    raise ValueError(
      'its features do not vary; give other images, or '
      '--config.train.noise=absolute'
    )
  return math.sqrt(variance)


def padded(values: np.ndarray, size: int) -> np.ndarray:
  """Pads the first axis with zeros."""
  missing = size - len(values)
  return np.pad(values, [(0, missing), *[(0, 0)] * (values.ndim - 1)])
