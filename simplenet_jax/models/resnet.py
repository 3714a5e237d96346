"""ResNets as torchvision builds them.

They are of version 1.5: the stride of a bottleneck sits on its 3x3 convolution.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import numpy as np

from simplenet_jax.data import images


@dataclasses.dataclass(frozen=True)
class ResNet:
  """One ResNet, an architecture as `backbone` describes it."""

  bottleneck: bool
  depths: tuple[int, int, int]  # Blocks of layer1 to layer3.
  width: int = 64  # Channels of the stem.
  inner_factor: int = 1  # Widens the 3x3 convolutions of bottlenecks.

  epsilon: ClassVar[float] = 1e-5
  is_same: ClassVar[bool] = False
  table: ClassVar[np.ndarray] = images.NORMALIZED
  unbuilt: ClassVar[str] = r'layer4\.|fc\.'

  def channels(self, level: int) -> int:
    """Returns how many channels level 1, 2 or 3 puts out."""
    return self.width * 2 ** (level - 1) * (4 if self.bottleneck else 1)

  def reached(self, names: Iterable[str]) -> set[int]:
    """Returns the levels in a file, which can end with any of them."""
    return {int(name[5]) for name in names if re.match('layer[123]', name)}

  def layers(
    self, levels: Iterable[int]
  ) -> Iterator[tuple[str, int, tuple[int, int, int, int]]]:
    """Yields each convolution's name, stride and shape of its kernel."""
    yield 'conv1', 2, (7, 7, 3, self.width)
    inputs = self.width
    for level in range(1, max(levels) + 1):
      outputs = self.channels(level)
      inner = outputs // 4 * self.inner_factor if self.bottleneck else outputs
      for index in range(self.depths[level - 1]):
        name = f'layer{level}.{index}'
        stride = 2 if level > 1 and index == 0 else 1
        if self.bottleneck:
          yield f'{name}.conv1', 1, (1, 1, inputs, inner)
          yield f'{name}.conv2', stride, (3, 3, inner, inner)
          yield f'{name}.conv3', 1, (1, 1, inner, outputs)
        else:
          yield f'{name}.conv1', stride, (3, 3, inputs, outputs)
          yield f'{name}.conv2', 1, (3, 3, outputs, outputs)
        if stride > 1 or inputs != outputs:
          yield f'{name}.downsample', stride, (1, 1, inputs, outputs)
        inputs = outputs

  def torch_names(self, layer: str) -> tuple[str, str]:
    """Returns torchvision's names of a layer's kernel and of its BatchNorm."""
    block, _, name = layer.rpartition('.')
    if name == 'downsample':
      return f'{layer}.0.weight', f'{layer}.1'
    return f'{layer}.weight', f'{block}.bn{name[-1]}'.lstrip('.')

  def run(
    self,
    levels: Iterable[int],
    x: Any,
    convolve: Callable[[str, Any, int], Any],
    max_pool: Callable[[Any], Any],
    clip: Callable[[Any, float], Any],
  ) -> dict[int, Any]:
    """Returns each level's feature maps of normalised images."""
    found, every = {}, self.layers(levels)
    x = max_pool(clip(convolve(next(every)[0], x, 2), math.inf))
    for block, parts in itertools.groupby(
      every, lambda layer: layer[0].rpartition('.')[0]
    ):
      strides = {name: stride for name, stride, _ in parts}
      residual, shortcut = x, f'{block}.downsample'
      if stride := strides.pop(shortcut, None):
        residual = convolve(shortcut, x, stride)
      *first, last = strides
      for name in first:
        x = clip(convolve(name, x, strides[name]), math.inf)
      x = clip(convolve(last, x, strides[last]) + residual, math.inf)
      found[int(block[5])] = x  # After the last block, the level's.
    return found


ARCHITECTURES = {
  'resnet18': ResNet(bottleneck=False, depths=(2, 2, 2)),
  'resnet50': ResNet(bottleneck=True, depths=(3, 4, 6)),
  'resnet101': ResNet(bottleneck=True, depths=(3, 4, 23)),
  'wide_resnet50_2': ResNet(bottleneck=True, depths=(3, 4, 6), inner_factor=2),
}
