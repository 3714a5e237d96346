"""EfficientNet-Lite0 as TensorFlow's authors built it, without its last stages.

A block widens its input, convolves each channel by itself and projects the
result (Tan and Le, "EfficientNet", ICML 2019). The Lite networks have ReLU6 and
no squeeze-excitation, so that they run, and quantise, everywhere.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

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
  """The network, an architecture as `backbone` describes it."""

  epsilon = 1e-3
  is_same = True
  table = np.tile((np.arange(256, dtype=np.float32)[:, None] - 127) / 128, 3)
  unbuilt = r'_blocks\.1[1-5]\.|_conv_head\.|_bn1\.|_fc\.'

  def channels(self, level: int) -> int:
    """Returns how many channels level 1, 2 or 3 puts out."""
    return _BLOCKS[_LAST[level]][2]

  def reached(self, names: Iterable[str]) -> set[int]:
    """Returns the levels in a file, which has them all."""
    del names
    return set(_LAST)

  def layers(
    self, levels: Iterable[int]
  ) -> Iterator[tuple[str, int, tuple[int, int, int, int]]]:
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

  def run(
    self,
    levels: Iterable[int],
    x: Any,
    convolve: Callable[[str, Any, int], Any],
    max_pool: Callable[[Any], Any],
    clip: Callable[[Any, float], Any],
  ) -> dict[int, Any]:
    """Returns each level's feature maps of normalised images."""
    del max_pool
    found, every = {}, self.layers(levels)
    x = clip(convolve(next(every)[0], x, 2), 6.0)
    for block, parts in itertools.groupby(
      every, lambda layer: layer[0].partition('.')[0]
    ):
      before, (*inner, (last, stride, _)) = x, list(parts)
      for name, its_stride, _ in inner:
        x = clip(convolve(name, x, its_stride), 6.0)
      x = convolve(last, x, stride)
      if x.shape == before.shape:
        x = x + before
      found[int(block)] = x
    return {level: found[_LAST[level]] for level in levels}


ARCHITECTURES = {'efficientnet_lite0': EfficientNetLite0()}
