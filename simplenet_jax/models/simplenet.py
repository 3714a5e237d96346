"""Everything from pixels to anomaly map and score, in one compiled function."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simplenet_jax.data import images
from simplenet_jax.models import (
  convolution,
  folded_head,
  folded_resnet,
  patches,
  resnet,
  scoring,
)

Weights = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
  """A detector's structure; static, without the weights.

  Attributes:
    architecture: A key of `resnet.ARCHITECTURES`.
    levels: In use, ascending.
    padding: One of `resnet.PADDINGS`.
    patch_size: Side of the neighbourhood, in positions.
    pretrain_dim: Dimensions of each level after the first pooling.
    target_dim: Dimensions of a patch.
    size: Height and width of the input, in pixels.
    smoothing: Sigma of the maps' Gaussian, in pixels of the input.
  """

  architecture: str
  levels: tuple[int, ...]
  padding: str
  patch_size: int
  pretrain_dim: int
  target_dim: int
  size: tuple[int, int]
  smoothing: float

  @property
  def pooling(self) -> tuple[patches.LevelPooling, ...]:
    """How each level becomes patch features."""
    spec = resnet.ARCHITECTURES[self.architecture]
    channels = tuple(spec.channels(level) for level in self.levels)
    return patches.pooling_for(
      channels, self.patch_size, self.pretrain_dim, self.target_dim
    )


@dataclasses.dataclass(frozen=True)
class ComputeMode:
  """How a network is computed.

  Attributes:
    precision: One of `precision.PRECISIONS`. Scores and maps are float32.
    conv_as_matmul: Whether convolutions become matrix products: for CPUs, and
      there for one image at a time.
  """

  precision: str = 'float32'
  conv_as_matmul: bool = False


def prepare(
  network: Network, mode: ComputeMode, weights: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  """Returns weights as a mode wants them.

  Args:
    network: Theirs.
    mode: Of computation.
    weights: Folded, float32.
  """
  dtype = jnp.bfloat16 if mode.precision == 'bfloat16' else jnp.float32
  prepared: dict[str, Any] = dict(weights)
  for name, stride, _ in folded_resnet.layers(
    network.architecture, network.levels
  ):
    kernel = weights[f'{name}.kernel']
    if mode.conv_as_matmul:
      kernel = convolution.prepare(kernel, stride)
    prepared[f'{name}.kernel'] = kernel.astype(dtype)
    prepared[f'{name}.bias'] = weights[f'{name}.bias'].astype(dtype)
  return prepared


def detect(
  network: Network, mode: ComputeMode, weights: Weights, pixels: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Computes anomaly maps and image scores.

  Args:
    network: What to compute.
    mode: How.
    weights: From `prepare`.
    pixels: RGB `[batch, *size, 3]`, uint8.

  Returns:
    Anomaly maps `[batch, *size]` and image scores `[batch]`, float32,
    unbounded; higher is more anomalous.
  """
  dtype = weights['conv1.kernel'].dtype
  table = jnp.asarray(images.NORMALIZED)
  normalised = images.normalize(pixels, table).astype(dtype)
  function = (
    convolution.convolve_as_matmul
    if mode.conv_as_matmul
    else convolution.convolve
  )
  features = folded_resnet.apply(
    network.architecture,
    network.levels,
    functools.partial(
      function, padding=network.padding, precision=mode.precision
    ),
    convolution.max_pool,
    weights,
    normalised,
  )
  pooled = [
    jax.vmap(functools.partial(patches.pool_level, pooling=level))(maps)
    for maps, level in zip(features, network.pooling, strict=True)
  ]
  level_offsets = [level.start for level in network.pooling]
  scores = folded_head.apply(weights, pooled, level_offsets, mode.precision)
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

  In float32 and with convolutions, as it is exported.

  Args:
    network: What to compute.
    weights: Folded, float32.
  """
  mode = ComputeMode()
  # Traced functions do not take NumPy's arrays everywhere.
  prepared = jax.tree.map(jnp.asarray, prepare(network, mode, weights))
  return functools.partial(detect, network, mode, prepared)
