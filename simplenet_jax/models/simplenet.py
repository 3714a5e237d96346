"""SimpleNet: from pixels to features, scores and anomaly maps.

Training and evaluation take `features` from here, detectors and their exports
`detect`, which is the same features, a head and a map.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from simplenet_jax.config import Config
from simplenet_jax.data import images
from simplenet_jax.models import (
  FeatureStructure,
  Structure,
  backbone,
  head,
  layers,
  nearest,
  patches,
  resampling,
)

Weights = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class FeatureNetwork(FeatureStructure):
  """The way from pixels to pooled features; static, without the weights."""

  @classmethod
  def of(cls, config: Config, **others: Any) -> Self:
    """Returns the network of a config; `others` are a subclass's fields."""
    return cls(
      architecture=config.backbone.name,
      levels=tuple(config.backbone.levels),
      padding=config.backbone.padding,
      patch_size=config.patch.size,
      pretrain_dim=config.patch.pretrain_dim,
      target_dim=config.patch.target_dim,
      **others,
    )

  @property
  def spec(self) -> backbone.Architecture:
    """What tells its backbone from others."""
    return backbone.ARCHITECTURES[self.architecture]

  @property
  def _channels(self) -> tuple[int, ...]:
    return tuple(self.spec.channels(level) for level in self.levels)

  @property
  def pooling(self) -> tuple[patches.LevelPooling, ...]:
    """How each level becomes patch features."""
    return patches.pooling_for(
      self._channels, self.patch_size, self.pretrain_dim, self.target_dim
    )

  @property
  def level_offsets(self) -> tuple[int, ...]:
    """The first patch dimension of each level."""
    return tuple(level.start for level in self.pooling)

  @property
  def dim(self) -> int:
    """The dimensions of a patch."""
    widths = (self.pretrain_dim or one for one in self._channels)
    return self.target_dim or sum(widths)

  def merge(self, levels: Sequence[jax.Array]) -> jax.Array:
    """Joins the levels of images, float32 `[batch, H, W, dim]`."""
    joined = [level.astype(jnp.float32) for level in levels]
    return jax.vmap(
      lambda *one: patches.merge(one, self.level_offsets, self.dim)
    )(*joined)


@dataclasses.dataclass(frozen=True)
class Network(FeatureNetwork, Structure):
  """The whole way from pixels to maps and scores."""


def layout_for(platform: str, precision: str = 'float32') -> str:
  """Returns the layout of kernels that suits a device; results are alike."""
  if platform == 'cpu':
    return 'plain' if precision == 'bfloat16' else 'winograd'
  return 'rows' if platform == 'gpu' else 'plain'


def prepare(
  network: FeatureNetwork,
  weights: Mapping[str, np.ndarray],
  precision: str = 'float32',
  layout: str = 'plain',
) -> dict[str, Any]:
  """Returns folded weights as `detect` takes them; see `layout_for`."""
  dtype = jnp.bfloat16 if precision == 'bfloat16' else jnp.float32
  prepared: dict[str, Any] = dict(weights)
  for name, stride, _ in network.spec.layers(network.levels):
    kernel = layers.LAYOUTS[layout](weights[f'{name}.kernel'], stride)
    prepared[f'{name}.kernel'] = kernel.astype(dtype)
    prepared[f'{name}.bias'] = weights[f'{name}.bias'].astype(dtype)
  if 'nearest.bank' in weights:
    prepared |= nearest.prepare(prepared.pop('nearest.bank'))
  return prepared


def normalized(pixels: jax.Array, table: np.ndarray) -> jax.Array:
  """Returns `images.normalize` of pixels, on TPUs `by_arithmetic`."""
  # TPUs take half a second to look up the pixels of eight images.
  return jax.lax.platform_dependent(
    pixels,
    tpu=functools.partial(by_arithmetic, table=table),
    default=lambda pixels: images.normalize(pixels, jnp.asarray(table)),
  )


def by_arithmetic(pixels: jax.Array, table: np.ndarray) -> jax.Array:
  """Returns the same but for rounding: a table's values lie on a line."""
  slope = (table[-1] - table[0]) / np.float32(len(table) - 1)
  return pixels.astype(jnp.float32) * slope + table[0]


def features(
  network: FeatureNetwork,
  weights: Weights,
  pixels: jax.Array,
  precision: str = 'tensorfloat32',
) -> tuple[jax.Array, ...]:
  """Returns pooled features `[batch, h, w, channels]` of each level.

  Pixels are RGB `[batch, height, width, 3]`, uint8; weights give the dtype.
  """
  spec = network.spec
  first, *_ = spec.layers(network.levels)
  given = normalized(pixels, spec.table)
  given = given.astype(weights[f'{first[0]}.kernel'].dtype)

  def convolve(name, x, stride):
    kernel, bias = weights[f'{name}.kernel'], weights[f'{name}.bias']
    how = stride, network.padding, precision, spec.is_same
    return layers.convolve(x, kernel, bias, *how)

  levels = backbone.apply(
    network.architecture, network.levels, convolve, layers.max_pool, given
  )
  return tuple(
    jax.vmap(functools.partial(patches.pool_level, pooling=pooling))(level)
    for level, pooling in zip(levels, network.pooling, strict=True)
  )


def seen(roi: Any, grid: tuple[int, ...]) -> Any:
  """Returns which cells of a grid lie in a region by their centres, `[H, W]`.

  The region of interest, `[*size]` of the input, is bool, or 1 and 0; None is
  the whole image.
  """
  if roi is None:
    return np.ones(grid, bool)
  rows, columns = (
    ((np.arange(cells) + 0.5) * side / cells).astype(int)
    for cells, side in zip(grid, roi.shape, strict=True)
  )
  return roi[rows][:, columns] > 0.5


def inside(values: ArrayLike, roi: ArrayLike | None) -> Any:
  """Returns scores or maps `[..., H, W]`, low outside a region.

  There they are the lowest of inside, if not lower: what lies outside raises
  nothing, and no value is higher than without a region. `roi` is as in `seen`.
  """
  if roi is None:
    return values
  here = seen(roi, np.shape(values)[-2:])
  lowest = jnp.min(
    jnp.where(here, values, jnp.inf), axis=(-2, -1), keepdims=True
  )
  return jnp.where(here, values, jnp.minimum(values, lowest))


def image_scores(scores: ArrayLike) -> jax.Array:
  """Returns the highest `[...]` of patches (equation 11), or of maps."""
  return jnp.max(jnp.asarray(scores), axis=(-2, -1))


def patch_scores(
  network: FeatureNetwork,
  weights: Weights,
  levels: Sequence[jax.Array],
  precision: str,
) -> jax.Array:
  """Returns scores `[batch, H, W]`, float32: heads, distances, or their sum."""
  parts = []
  if 'head.tail' in weights:
    offsets = network.level_offsets
    parts.append(head.apply(weights, levels, offsets, precision))
  if 'nearest.columns' in weights:
    parts.append(nearest.apply(weights, network.merge(levels)))
  return functools.reduce(jnp.add, parts)


@functools.partial(jax.jit, static_argnums=(1, 2))
def anomaly_maps(
  patch_scores: ArrayLike, size: tuple[int, int], sigma: float = 4.0
) -> jax.Array:
  """Upsamples and smooths scores of images, as released `RescaleSegmentor`."""
  rows, cols = (
    resampling.upsampling_matrix(old, new, sigma)
    for old, new in zip(np.shape(patch_scores)[1:], size, strict=True)
  )
  separable = resampling.separable
  return jax.vmap(lambda one: separable(one, rows, cols))(patch_scores)


def detect(
  network: Network,
  weights: Weights,
  pixels: jax.Array,
  precision: str = 'float32',
) -> tuple[jax.Array, jax.Array]:
  """Computes anomaly maps `[batch, *size]` and image scores `[batch]`.

  Both are float32, unbounded, and higher is more anomalous. Weights come from
  `prepare`, for the same precision; pixels are RGB `[batch, *size, 3]`, uint8.
  """
  levels = features(network, weights, pixels, precision)
  scores = patch_scores(network, weights, levels, precision)
  scores = inside(scores, weights.get('roi'))
  maps = anomaly_maps(scores, network.size, network.smoothing)
  maps = inside(maps, weights.get('roi'))
  return maps, image_scores(maps if network.score == 'map' else scores)


# Compiled for each size of a batch.
run = jax.jit(detect, static_argnames=('network', 'precision'))
