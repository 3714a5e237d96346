"""The backbone by a config, and the features that it makes of images."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from simplenet_jax.config import Config
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.models import simplenet, weights

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


@jax.jit
def moments(levels: Sequence[jax.Array], rows: jax.Array) -> list[jax.Array]:
  """Returns means and variances over images' positions, `[rows, dims]`."""
  found = []
  for level in levels:
    values = jnp.take(level, rows, axis=0, mode='clip').astype(jnp.float32)
    found.append((values.mean((1, 2)), values.var((1, 2))))
  return [jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True)]


def spread(parts: Sequence[Sequence[np.ndarray]]) -> float:
  """Returns how wide the features of images spread, by parts of `moments`.

  It is the root mean square, over the dimensions of all levels, of the standard
  deviation over all positions of all images. In units of it, noise is as strong
  for weights of any scale, as with the released code's `auto_noise`.

  Raises:
    ValueError: If features are not finite, or do not vary.
  """
  means, inner = (
    np.concatenate(one).astype(np.float64) for one in zip(*parts, strict=True)
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
