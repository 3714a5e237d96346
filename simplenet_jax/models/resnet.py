"""ResNet backbones, from the stem to the last level in use.

The networks are torchvision's (v1.5: the stride of a bottleneck sits on its 3x3
convolution). A backbone is frozen, so its BatchNorms are folded into its
convolutions; weights are a flat dictionary, `<torchvision's layer>.kernel` and
`.bias`.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LEVELS = (1, 2, 3)
# 'zeros' is what the networks were trained with; 'reflect' mirrors the image at
# its outermost pixels, as the released code does.
PADDINGS = ('zeros', 'reflect')
EPSILON = 1e-5  # Of BatchNorm.
NORM_LEAVES = ('weight', 'bias', 'running_mean', 'running_var')


@dataclasses.dataclass(frozen=True)
class Architecture:
  """What tells one ResNet from another."""

  bottleneck: bool
  depths: tuple[int, int, int]  # Blocks of layer1 to layer3.
  width: int = 64  # Channels of the stem.
  inner_factor: int = 1  # Widens the 3x3 convolutions of bottlenecks.

  def channels(self, level: int) -> int:
    """Returns how many channels level 1, 2 or 3 puts out."""
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


def layers(
  architecture: str, levels: Sequence[int]
) -> Iterator[tuple[str, int, tuple[int, int, int, int]]]:
  """Yields each convolution's name, stride and shape of its kernel."""
  spec = ARCHITECTURES[architecture]
  yield 'conv1', 2, (7, 7, 3, spec.width)
  inputs = spec.width
  for level in range(1, max(levels) + 1):
    outputs = spec.channels(level)
    inner = outputs // 4 * spec.inner_factor if spec.bottleneck else outputs
    for index in range(spec.depths[level - 1]):
      name = f'layer{level}.{index}'
      stride = 2 if level > 1 and index == 0 else 1
      if spec.bottleneck:
        yield f'{name}.conv1', 1, (1, 1, inputs, inner)
        yield f'{name}.conv2', stride, (3, 3, inner, inner)
        yield f'{name}.conv3', 1, (1, 1, inner, outputs)
      else:
        yield f'{name}.conv1', stride, (3, 3, inputs, outputs)
        yield f'{name}.conv2', 1, (3, 3, outputs, outputs)
      if stride > 1 or inputs != outputs:
        yield f'{name}.downsample', stride, (1, 1, inputs, outputs)
      inputs = outputs


def torch_names(layer: str) -> tuple[str, str]:
  """Returns torchvision's names of a layer's kernel and of its BatchNorm."""
  block, _, name = layer.rpartition('.')
  if name == 'downsample':
    return f'{layer}.0.weight', f'{layer}.1'
  return f'{layer}.weight', f'{block}.bn{name[-1]}'.lstrip('.')


def apply(
  architecture: str,
  levels: Sequence[int],
  convolve: Callable[[str, Any, int], Any],
  max_pool: Callable[[Any], Any],
  images: Any,
  relu: Callable[[Any], Any] = lambda x: jax.lax.max(x, jnp.zeros_like(x)),
) -> tuple[Any, ...]:
  """Computes the feature maps of the chosen levels of normalised images.

  `convolve` maps a layer's name, its input and stride to its output.
  """
  found, every = {}, layers(architecture, levels)
  x = max_pool(relu(convolve(next(every)[0], images, 2)))
  for block, parts in itertools.groupby(
    every, lambda layer: layer[0].rpartition('.')[0]
  ):
    strides = {name: stride for name, stride, _ in parts}
    residual, shortcut = x, f'{block}.downsample'
    if stride := strides.pop(shortcut, None):
      residual = convolve(shortcut, x, stride)
    *first, last = strides
    for name in first:
      x = relu(convolve(name, x, strides[name]))
    x = relu(convolve(last, x, strides[last]) + residual)
    found[int(block[5])] = x  # After the last block, the level's.
  return tuple(found[level] for level in sorted(levels))


def fold(
  tensors: Mapping[str, np.ndarray],
  architecture: str,
  levels: Sequence[int],
  probe: bool = False,
) -> dict[str, np.ndarray]:
  """Folds every BatchNorm into the convolution before it, in float64.

  With `probe` the statistics are those of the released code after its start.
  """
  moved = _probed(tensors, architecture, levels) if probe else {}
  weights = {}
  for name, _, _ in layers(architecture, levels):
    kernel, scale, bias, mean, var = _layer(tensors, name)
    mean, var = moved.get(name, (mean, var))
    factor = scale / np.sqrt(var + EPSILON)
    weights[f'{name}.kernel'] = (kernel * factor).astype(np.float32)
    weights[f'{name}.bias'] = (bias - mean * factor).astype(np.float32)
  return weights


def _layer(tensors: Mapping[str, np.ndarray], name: str) -> list[np.ndarray]:
  """Returns kernel, scale, bias, mean and variance of a layer, float64."""
  kernel, norm = torch_names(name)
  names = [kernel, *(f'{norm}.{leaf}' for leaf in NORM_LEAVES)]
  found = [np.asarray(tensors[each], np.float64) for each in names]
  # torch has [outputs, inputs, height, width].
  return [found[0].transpose(2, 3, 1, 0), *found[1:]]


def _probed(
  tensors: Mapping[str, np.ndarray], architecture: str, levels: Sequence[int]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Returns BatchNorms' statistics after the released code's start."""
  # The released code (`common.py`, `feature_dimensions`) passes one image of
  # ones through the network in train mode, so every running statistic takes one
  # step of torch's momentum, .1, towards that image's. With padding `reflect`
  # each feature map is constant: its variance is 0 and its normalised value the
  # bias. That is computed here exactly; the pass itself amplifies rounding.
  moved = {}

  def convolve(name, x, stride):
    del stride
    kernel, _, bias, mean, var = _layer(tensors, name)
    moved[name] = 0.9 * mean + 0.1 * (x @ kernel.sum((0, 1))), 0.9 * var
    return bias

  relu = functools.partial(np.maximum, 0)
  apply(architecture, levels, convolve, lambda x: x, np.ones(3), relu)
  return moved
