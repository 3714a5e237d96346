"""ResNet backbones in Flax NNX, from the stem to the last level in use.

The networks are torchvision's (v1.5: the stride of a bottleneck sits on its 3x3
convolution), so its weights fit. `layer4` and the classifier are never built:
SimpleNet reads levels 1 to 3 at most (paper, section 3.1).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

LEVELS = (1, 2, 3)
# 'zeros' is what the networks were trained with; 'reflect' mirrors the image at
# its outermost pixels, as the released code does.
PADDINGS = ('zeros', 'reflect')
EPSILON = 1e-5  # Of BatchNorm.


@dataclasses.dataclass(frozen=True)
class Architecture:
  """What tells one ResNet from another.

  Attributes:
    bottleneck: Whether blocks are 1x1-3x3-1x1 bottlenecks or two 3x3.
    depths: The number of blocks of layer1, layer2 and layer3.
    width: Channels of the stem and of layer1's first convolution.
    inner_factor: Width of a bottleneck's 3x3 convolution, relative to the plain
      ResNet (2 for the "wide" networks).
  """

  bottleneck: bool
  depths: tuple[int, int, int]
  width: int = 64
  inner_factor: int = 1

  def channels(self, level: int) -> int:
    """Returns the number of channels that `level` (1, 2 or 3) puts out."""
    return self.width * 2 ** (level - 1) * (4 if self.bottleneck else 1)


ARCHITECTURES = {
  'resnet18': Architecture(bottleneck=False, depths=(2, 2, 2)),
  'resnet50': Architecture(bottleneck=True, depths=(3, 4, 6)),
  'resnet101': Architecture(bottleneck=True, depths=(3, 4, 23)),
  'wide_resnet50_2': Architecture(
    bottleneck=True, depths=(3, 4, 6), inner_factor=2
  ),
  # Half of a ResNet18's channels; see assets/demo_resnet.md.
  'demo_resnet': Architecture(bottleneck=False, depths=(2, 2, 2), width=32),
}


def _conv(
  inputs: int,
  outputs: int,
  size: int,
  stride: int,
  padding: str,
  rngs: nnx.Rngs,
) -> nnx.Conv:
  # torch pads by size // 2 on both sides, and so does 'REFLECT'; 'SAME' pads an
  # even input on the right only when the stride is 2.
  return nnx.Conv(
    inputs,
    outputs,
    (size, size),
    strides=stride,
    padding='REFLECT' if padding == 'reflect' else size // 2,
    use_bias=False,
    kernel_init=nnx.initializers.he_normal(),
    rngs=rngs,
  )


def _norm(features: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
  return nnx.BatchNorm(
    features,
    momentum=0.9,
    epsilon=EPSILON,
    use_fast_variance=False,
    rngs=rngs,
  )


class Shortcut(nnx.Module):
  """A 1x1 convolution and its norm, where a block changes the shape."""

  def __init__(self, inputs: int, outputs: int, stride: int, rngs: nnx.Rngs):
    self.conv = _conv(inputs, outputs, 1, stride, 'zeros', rngs)
    self.bn = _norm(outputs, rngs)

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps `[batch, h, w, inputs]` to `[batch, h', w', outputs]`."""
    return self.bn(self.conv(x), use_running_average=not train)


class Block(nnx.Module):
  """A residual block: two 3x3 convolutions, or a 1x1-3x3-1x1 bottleneck."""

  def __init__(
    self,
    architecture: Architecture,
    inputs: int,
    level: int,
    stride: int,
    padding: str,
    rngs: nnx.Rngs,
  ):
    outputs = architecture.channels(level)
    if architecture.bottleneck:
      inner = outputs // 4 * architecture.inner_factor
      shapes = [(inputs, inner, 1, 1), (inner, inner, 3, stride)]
      shapes.append((inner, outputs, 1, 1))
    else:
      shapes = [(inputs, outputs, 3, stride), (outputs, outputs, 3, 1)]
    self.convs = nnx.List([_conv(*shape, padding, rngs) for shape in shapes])
    self.bns = nnx.List([_norm(shape[1], rngs) for shape in shapes])
    reshapes = stride != 1 or inputs != outputs
    self.downsample = (
      Shortcut(inputs, outputs, stride, rngs) if reshapes else None
    )

  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps `[batch, h, w, inputs]` to `[batch, h', w', outputs]`."""
    residual = x if self.downsample is None else self.downsample(x, train)
    last = len(self.convs) - 1
    for i, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
      x = bn(conv(x), use_running_average=not train)
      x = nnx.relu(x if i < last else x + residual)
    return x


def _max_pool(x: jax.Array) -> jax.Array:
  # The annotation knows 'SAME' and 'VALID' only.
  padding: Any = ((1, 1), (1, 1))
  return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=padding)


class ResNet(nnx.Module):
  """A ResNet that returns the feature maps of the chosen levels.

  Attributes:
    levels: The levels returned, ascending.
  """

  def __init__(
    self,
    architecture: str,
    levels: Sequence[int] = (2, 3),
    *,
    padding: str = 'zeros',
    rngs: nnx.Rngs,
  ):
    """Builds the network, randomly initialised.

    Args:
      architecture: A key of `ARCHITECTURES`.
      levels: Any of 1, 2 and 3; nothing above the highest is built.
      padding: What convolutions see beyond the border, one of `PADDINGS`.
      rngs: Randomness for the initial weights.

    Raises:
      ValueError: For an unknown architecture, level or padding.
    """
    if architecture not in ARCHITECTURES:
      raise ValueError(
        f'--config.backbone.name is {architecture!r}; choose one of '
        f'{", ".join(ARCHITECTURES)}'
      )
    if not levels or list(levels) != sorted(set(levels) & set(LEVELS)):
      raise ValueError(
        f'--config.backbone.levels is {tuple(levels)}; give ascending levels '
        f'out of {LEVELS}'
      )
    if padding not in PADDINGS:
      raise ValueError(
        f'--config.backbone.padding is {padding!r}; choose one of '
        f'{", ".join(PADDINGS)}'
      )
    spec = ARCHITECTURES[architecture]
    self.levels = tuple(levels)
    self.conv1 = _conv(3, spec.width, 7, 2, padding, rngs)
    self.bn1 = _norm(spec.width, rngs)
    inputs = spec.width
    layers = []
    for level in range(1, levels[-1] + 1):
      blocks = []
      for index in range(spec.depths[level - 1]):
        stride = 2 if index == 0 and level > 1 else 1
        blocks.append(Block(spec, inputs, level, stride, padding, rngs))
        inputs = spec.channels(level)
      layers.append(nnx.List(blocks))
    self.layers = nnx.List(layers)

  def __call__(
    self, images: jax.Array, train: bool = False
  ) -> tuple[jax.Array, ...]:
    """Computes the feature maps.

    Args:
      images: Normalised images `[batch, height, width, 3]`, float.
      train: Whether BatchNorm uses and updates the batch's statistics; always
        False for a frozen backbone.

    Returns:
      One `[batch, ceil(height / s), ceil(width / s), channels]` per level, with
      strides `s` of 4, 8 and 16.
    """
    x = self.bn1(self.conv1(images), use_running_average=not train)
    x = _max_pool(nnx.relu(x))
    features = []
    for level, blocks in enumerate(self.layers, start=1):
      for block in blocks:
        x = block(x, train)
      if level in self.levels:
        features.append(x)
    return tuple(features)


def parameter_count(model: nnx.Module) -> int:
  """Returns the number of trainable parameters (no running statistics)."""
  return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def abstract(
  architecture: str, levels: Sequence[int] = (2, 3), padding: str = 'zeros'
) -> tuple[nnx.GraphDef, nnx.State]:
  """Returns a network's structure and the shapes of its state.

  Nothing is computed or allocated; weights are put in by `weights.load`.

  Args:
    architecture: A key of `ARCHITECTURES`.
    levels: The levels to return.
    padding: One of `PADDINGS`; the state does not depend on it.

  Returns:
    The graph definition (static, hashable) and a state of
    `jax.ShapeDtypeStruct`, not to be changed: others get the same.
  """
  spec = ARCHITECTURES.get(architecture)
  return _abstract(architecture, spec, tuple(levels), padding)


@functools.cache  # Takes a second, and is asked for again and again.
def _abstract(
  architecture: str,
  spec: Architecture | None,
  levels: tuple[int, ...],
  padding: str,
) -> tuple[nnx.GraphDef, nnx.State]:
  del spec  # Another one is another network, whatever it is called.

  def build():
    return ResNet(architecture, levels, padding=padding, rngs=nnx.Rngs(0))

  return nnx.split(nnx.eval_shape(build))


def apply(
  graph: nnx.GraphDef, state: nnx.State, images: jax.Array
) -> tuple[jax.Array, ...]:
  """Runs a frozen backbone, as a pure function of its state.

  Args:
    graph: From `abstract`.
    state: The weights, an argument and never a constant of a compiled program.
    images: Normalised images `[batch, height, width, 3]`, float.

  Returns:
    The chosen levels' feature maps, as `ResNet.__call__` returns them.
  """
  return nnx.merge(graph, state)(jnp.asarray(images))
