"""The networks that backbones can be, from the stem to stride 16.

Each says, beside its methods, the `epsilon` of its BatchNorms; the `ceiling` of
its activations; whether blocks end without one and no maximum pool is behind
the stem (`is_linear`); whether borders are TensorFlow's `SAME` (`is_same`, see
`backbone.borders`); the `table` of `images.normalize`; what tensors of files
are not built (`unbuilt`, a pattern). A shortcut's layer is a `downsample`.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from simplenet_jax.data import images

# A convolution's name, stride, and shape of its kernel.
Layer = tuple[str, int, tuple[int, int, int, int]]


@dataclasses.dataclass(frozen=True)
class ResNet:
  """A ResNet as torchvision's 1.5: strides sit on bottlenecks' 3x3 kernels."""

  bottleneck: bool
  depths: tuple[int, int, int]  # Blocks of layer1 to layer3.
  width: int = 64  # Channels of the stem.
  inner_factor: int = 1  # Widens the 3x3 convolutions of bottlenecks.

  epsilon: ClassVar[float] = 1e-5
  ceiling: ClassVar[float] = math.inf
  is_same: ClassVar[bool] = False
  is_linear: ClassVar[bool] = False
  table: ClassVar[np.ndarray] = images.NORMALIZED
  unbuilt: ClassVar[str] = r'layer4\.|fc\.'

  def channels(self, level: int) -> int:
    """Returns how many channels level 1, 2 or 3 puts out."""
    return self.width * 2 ** (level - 1) * (4 if self.bottleneck else 1)

  def end(self, level: int) -> str:
    """Returns the last block of a level."""
    return f'layer{level}.{self.depths[level - 1] - 1}'

  def reached(self, names: Iterable[str]) -> set[int]:
    """Returns the levels in a file, which can end with any of them."""
    return {int(name[5]) for name in names if re.match('layer[123]', name)}

  def layers(self, levels: Iterable[int]) -> Iterator[Layer]:
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


_STEM = 32  # Channels.
# Kernel, stride, channels, blocks and widening of each stage, up to stride 16.
_STAGES = (
  *((3, 1, 16, 1, 1), (3, 2, 24, 2, 6), (5, 2, 40, 2, 6)),
  *((3, 2, 80, 3, 6), (5, 1, 112, 3, 6)),
)
_BLOCKS = [
  (size, 1 if index else stride, channels, widening)
  for size, stride, channels, depth, widening in _STAGES
  for index in range(depth)
]
_LAST = {1: 2, 2: 4, 3: 10}  # Blocks after which levels are taken.
# A block's layers in the file: the kernel, and the BatchNorm behind it.
_NAMES = {
  'expand': ('_expand_conv', '_bn0'),
  'depthwise': ('_depthwise_conv', '_bn1'),
  'project': ('_project_conv', '_bn2'),
}


class EfficientNetLite0:
  """EfficientNet-Lite0 by TensorFlow's authors, without its last stages.

  A block widens its input, convolves each channel by itself and projects the
  result (Tan and Le, "EfficientNet", ICML 2019). The Lite networks have ReLU6
  and no squeeze-excitation, so that they run, and quantise, everywhere.
  """

  epsilon = 1e-3
  ceiling = 6.0
  is_same = is_linear = True
  table = np.tile((np.arange(256, dtype=np.float32)[:, None] - 127) / 128, 3)
  unbuilt = r'_blocks\.1[1-5]\.|_conv_head\.|_bn1\.|_fc\.'

  def channels(self, level: int) -> int:
    """Returns how many channels level 1, 2 or 3 puts out."""
    return _BLOCKS[_LAST[level]][2]

  def end(self, level: int) -> str:
    """Returns the last block of a level."""
    return str(_LAST[level])

  def reached(self, names: Iterable[str]) -> set[int]:
    """Returns the levels in a file, which has them all."""
    return set(_LAST)

  def layers(self, levels: Iterable[int]) -> Iterator[Layer]:
    """Yields each convolution's name, stride and shape of its kernel.

    A kernel that convolves each channel by itself has one input.
    """
    yield 'stem', 2, (3, 3, 3, _STEM)
    inputs, blocks = _STEM, _BLOCKS[: _LAST[max(levels)] + 1]
    for block, (size, stride, outputs, widening) in enumerate(blocks):
      inner = inputs * widening
      if widening > 1:
        yield f'{block}.expand', 1, (1, 1, inputs, inner)
      yield f'{block}.depthwise', stride, (size, size, 1, inner)
      yield f'{block}.project', 1, (1, 1, inner, outputs)
      inputs = outputs

  def torch_names(self, layer: str) -> tuple[str, str]:
    """Returns the file's names of a layer's kernel and of its BatchNorm."""
    if layer == 'stem':
      return '_conv_stem.weight', '_bn0'
    block, _, part = layer.partition('.')
    kernel, norm = _NAMES[part]
    return f'_blocks.{block}.{kernel}.weight', f'_blocks.{block}.{norm}'


RESNETS = {
  'resnet18': ResNet(bottleneck=False, depths=(2, 2, 2)),
  'resnet50': ResNet(bottleneck=True, depths=(3, 4, 6)),
  'resnet101': ResNet(bottleneck=True, depths=(3, 4, 23)),
  'wide_resnet50_2': ResNet(bottleneck=True, depths=(3, 4, 6), inner_factor=2),
}
Architecture = ResNet | EfficientNetLite0
ARCHITECTURES: dict[str, Architecture] = {
  **RESNETS,
  'efficientnet_lite0': EfficientNetLite0(),
}
