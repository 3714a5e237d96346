"""SimpleNet: from pixels to features, scores and anomaly maps.

Training and evaluation take `features` from here, detectors and their exports
`detect`, which is the same features, a head and a map.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simplenet_jax.data import images
from simplenet_jax.models import convolution, head, patches, resnet, scoring

Weights = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ComputeMode:
  """How a network is computed.

  Attributes:
    precision: One of `precision.PRECISIONS`. Scores and maps are float32.
    winograd: Whether 3x3 convolutions become matrix products, which suits CPUs
      and single images.
  """

  precision: str = 'float32'
  winograd: bool = False


@dataclasses.dataclass(frozen=True)
class FeatureNetwork:
  """The way from pixels to pooled features; static, without the weights.

  Attributes:
    architecture: A key of `resnet.ARCHITECTURES`.
    levels: In use, ascending.
    padding: One of `resnet.PADDINGS`.
    patch_size: Side of the neighbourhood, in positions.
    pretrain_dim: Dimensions of each level after the first pooling.
    target_dim: Dimensions of a patch.
  """

  architecture: str
  levels: tuple[int, ...]
  padding: str
  patch_size: int
  pretrain_dim: int
  target_dim: int

  @property
  def pooling(self) -> tuple[patches.LevelPooling, ...]:
    """How each level becomes patch features."""
    spec = resnet.ARCHITECTURES[self.architecture]
    channels = tuple(spec.channels(level) for level in self.levels)
    return patches.pooling_for(
      channels, self.patch_size, self.pretrain_dim, self.target_dim
    )

  @property
  def level_offsets(self) -> tuple[int, ...]:
    """The first patch dimension of each level."""
    return tuple(level.start for level in self.pooling)


@dataclasses.dataclass(frozen=True)
class Network(FeatureNetwork):
  """A detector's structure; static, without the weights.

  Attributes:
    size: Height and width of the input, in pixels.
    smoothing: Sigma of the maps' Gaussian, in pixels of the input.
  """

  size: tuple[int, int]
  smoothing: float


def prepare(
  network: FeatureNetwork, mode: ComputeMode, weights: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  """Returns folded float32 weights as a mode takes them."""
  dtype = jnp.bfloat16 if mode.precision == 'bfloat16' else jnp.float32
  prepared: dict[str, Any] = dict(weights)
  layers = resnet.layers(network.architecture, network.levels)
  for name, stride, _ in layers:
    kernel = weights[f'{name}.kernel']
    if mode.winograd:
      kernel = convolution.to_winograd(kernel, stride)
    prepared[f'{name}.kernel'] = kernel.astype(dtype)
    prepared[f'{name}.bias'] = weights[f'{name}.bias'].astype(dtype)
  return prepared


def features(
  network: FeatureNetwork,
  weights: Weights,
  pixels: jax.Array,
  precision: str = 'tensorfloat32',
) -> tuple[jax.Array, ...]:
  """Computes pooled features.

  Args:
    network: What to compute.
    weights: The backbone's, from `resnet.fold` or `prepare`.
    pixels: RGB `[batch, height, width, 3]`, uint8.
    precision: Of convolutions, one of `precision.PRECISIONS`.

  Returns:
    `[batch, h, w, channels]` of each level at its own resolution, in the dtype
    of the weights.
  """
  table = jnp.asarray(images.NORMALIZED)
  normalised = images.normalize(pixels, table)

  def convolve(name, x, stride):
    kernel, bias = weights[f'{name}.kernel'], weights[f'{name}.bias']
    return convolution.convolve(
      x, kernel, bias, stride, network.padding, precision
    )

  levels = resnet.apply(
    network.architecture,
    network.levels,
    convolve,
    convolution.max_pool,
    normalised.astype(weights['conv1.kernel'].dtype),
  )
  return tuple(
    jax.vmap(functools.partial(patches.pool_level, pooling=pooling))(level)
    for level, pooling in zip(levels, network.pooling, strict=True)
  )


def detect(
  network: Network, mode: ComputeMode, weights: Weights, pixels: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Computes anomaly maps and image scores.

  Args:
    network: What to compute.
    mode: How to compute it.
    weights: From `prepare`.
    pixels: RGB `[batch, *size, 3]`, uint8.

  Returns:
    Maps `[batch, *size]` and scores `[batch]`, float32, unbounded; higher is
    more anomalous.
  """
  levels = features(network, weights, pixels, mode.precision)
  scores = head.apply(weights, levels, network.level_offsets, mode.precision)
  maps = jax.vmap(
    lambda grid: scoring.anomaly_map(grid, network.size, network.smoothing)
  )(scores)
  return maps, scoring.image_scores(scores)


@functools.partial(jax.jit, static_argnames=('network', 'mode'))
def run(
  network: Network, mode: ComputeMode, weights: Weights, pixels: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Runs `detect`, compiled for each size of a batch."""
  return detect(network, mode, weights, pixels)


def plain(network: Network, weights: Mapping[str, np.ndarray]) -> Callable:
  """Returns the function from pixels to maps and scores, with its weights.

  Computes in float32 and with convolutions, as detectors are exported.
  """
  mode = ComputeMode()
  # Traced functions do not take NumPy's arrays everywhere.
  prepared = jax.tree.map(jnp.asarray, prepare(network, mode, weights))
  return functools.partial(detect, network, mode, prepared)
