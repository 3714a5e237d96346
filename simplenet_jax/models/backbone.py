"""Backbones, from the stem to the last level in use.

A backbone is frozen, so its BatchNorms are folded into its convolutions;
weights are a flat dictionary, `<layer>.kernel` and `.bias`.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from simplenet_jax.models.architectures import ARCHITECTURES, Architecture

LEVELS = (1, 2, 3)  # With strides of 4, 8 and 16 pixels.
# 'zeros' is what the networks were trained with; 'reflect' mirrors the image at
# its outermost pixels, as the released code does.
PADDINGS = ('zeros', 'reflect')
NORM_LEAVES = ('weight', 'bias', 'running_mean', 'running_var')


def apply(
  architecture: str,
  levels: Sequence[int],
  convolve: Callable[[str, Any, int], Any],
  max_pool: Callable[[Any], Any],
  images: Any,
  clip: Callable[[Any, float], Any] | None = None,
) -> tuple[Any, ...]:
  """Computes the feature maps of the chosen levels of normalised images.

  `convolve` maps a layer's name, its input and stride to its output, `clip`
  values to those between 0 and a ceiling, which can be infinite.
  """
  spec, clip = ARCHITECTURES[architecture], clip or _clip
  (stem, stride, _), *layers = spec.layers(levels)
  found, x = {}, clip(convolve(stem, images, stride), spec.ceiling)
  x = x if spec.is_linear else max_pool(x)
  for block, parts in itertools.groupby(
    layers, lambda layer: layer[0].rpartition('.')[0]
  ):
    strides = {name: stride for name, stride, _ in parts}
    before, shortcut = x, f'{block}.downsample'
    if stride := strides.pop(shortcut, None):
      before = convolve(shortcut, x, stride)
    *inner, last = strides
    for name in inner:
      x = clip(convolve(name, x, strides[name]), spec.ceiling)
    x = convolve(last, x, strides[last])
    x = x + before if x.shape == before.shape else x
    found[block] = x = x if spec.is_linear else clip(x, spec.ceiling)
  return tuple(found[spec.end(level)] for level in sorted(levels))


def _clip(x: Any, ceiling: float) -> Any:
  x = lax.max(x, jnp.zeros_like(x))
  return x if ceiling == math.inf else lax.min(x, jnp.full_like(x, ceiling))


def borders(
  sides: Sequence[int], size: int, stride: int, is_same: bool
) -> list[tuple[int, int]]:
  """Returns what a convolution adds before and after each side of its input.

  That is half a kernel, as in torch, or TensorFlow's `SAME`: as little as there
  are outputs for, the larger half of it after the side.
  """
  if not is_same:
    return [(size // 2, size // 2)] * 2
  reached = ((-(-side // stride) - 1) * stride + size for side in sides)
  added = [max(n - m, 0) for n, m in zip(reached, sides, strict=True)]
  return [(amount // 2, amount - amount // 2) for amount in added]


def fold(
  tensors: Mapping[str, np.ndarray],
  architecture: str,
  levels: Sequence[int],
  probe: bool = False,
) -> dict[str, np.ndarray]:
  """Folds every BatchNorm into the convolution before it, in float64.

  With `probe` the statistics are those of the released code after its start.
  """
  spec, weights = ARCHITECTURES[architecture], {}
  moved = _probed(tensors, architecture, levels) if probe else {}
  for name, _, _ in spec.layers(levels):
    kernel, scale, bias, mean, var = _layer(tensors, spec, name)
    mean, var = moved.get(name, (mean, var))
    factor = scale / np.sqrt(var + spec.epsilon)
    weights[f'{name}.kernel'] = (kernel * factor).astype(np.float32)
    weights[f'{name}.bias'] = (bias - mean * factor).astype(np.float32)
  return weights


def _layer(
  tensors: Mapping[str, np.ndarray], spec: Architecture, name: str
) -> list[np.ndarray]:
  """Returns kernel, scale, bias, mean and variance of a layer, float64."""
  kernel, norm = spec.torch_names(name)
  names = [kernel, *(f'{norm}.{leaf}' for leaf in NORM_LEAVES)]
  found = [np.asarray(tensors[each], np.float64) for each in names]
  # torch has [outputs, inputs, height, width].
  return [found[0].transpose(2, 3, 1, 0), *found[1:]]


def _probed(
  tensors: Mapping[str, np.ndarray], architecture: str, levels: Sequence[int]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  # The released code (`common.py`, `feature_dimensions`) passes one image of
  # ones through the network in train mode, so every running statistic takes one
  # step of torch's momentum, .1, towards that image's. With padding `reflect`
  # each feature map is constant: its variance is 0 and its normalised value the
  # bias. That is computed here exactly; the pass itself amplifies rounding.
  spec, moved = ARCHITECTURES[architecture], {}

  def convolve(name, x, stride):
    kernel, _, bias, mean, var = _layer(tensors, spec, name)
    total = kernel.sum((0, 1))
    now = x * total[0] if len(total) < len(x) else x @ total
    moved[name] = 0.9 * mean + 0.1 * now, 0.9 * var
    return bias

  apply(
    *(architecture, levels, convolve, lambda x: x, np.ones(3)),
    clip=lambda x, ceiling: np.clip(x, 0, ceiling),
  )
  return moved
