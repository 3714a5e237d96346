"""EfficientNet-Lite0 with its own weights, folded, against torch with norms."""

import functools

import jax
import numpy as np
import pytest
import torch
from torch.nn import functional

from simplenet_jax.models import backbone, layers, weights
from simplenet_jax.models.architectures import EfficientNetLite0
from simplenet_jax.models.weights import files

NAME, LEVELS = 'efficientnet_lite0', (1, 2, 3)
# Kernel, stride and blocks of each stage, of which the first does not widen.
STAGES = ((3, 1, 1), (3, 2, 2), (5, 2, 2), (3, 2, 3), (5, 1, 3))


@pytest.fixture(scope='module')
def tensors():
  return files.read(files.locate(NAME))[0]


def judge(tensors, images):
  """Yields the output of each block, by a network in torch's own operations."""
  get = {name: torch.from_numpy(np.array(one)) for name, one in tensors.items()}

  def convolve(x, kernel, norm, stride, ceiling=6.0):
    kernel = get[f'{kernel}.weight']
    for axis, side in ((0, x.shape[3]), (2, x.shape[2])):
      more = (-(-side // stride) - 1) * stride + len(kernel[0, 0]) - side
      added = [0, 0, 0, 0]
      added[axis : axis + 2] = (
        max(more, 0) // 2,
        max(more, 0) - max(more, 0) // 2,
      )
      x = functional.pad(x, added)
    groups = x.shape[1] // kernel.shape[1]
    x = functional.conv2d(x, kernel, stride=stride, groups=groups)
    names = ('running_mean', 'running_var', 'weight', 'bias')
    norm = [get[f'{norm}.{name}'] for name in names]
    x = functional.batch_norm(x, *norm, eps=1e-3)
    return x.clamp(0, ceiling) if ceiling else x

  x = convolve(images, '_conv_stem', '_bn0', 2)
  block = 0
  for _, stride, depth in STAGES:
    for index in range(depth):
      before, name = x, f'_blocks.{block}.'
      if block:
        x = convolve(x, f'{name}_expand_conv', f'{name}_bn0', 1)
      step = 1 if index else stride
      x = convolve(x, f'{name}_depthwise_conv', f'{name}_bn1', step)
      x = convolve(x, f'{name}_project_conv', f'{name}_bn2', 1, None)
      x = x + before if x.shape == before.shape else x
      yield x
      block += 1


@functools.partial(jax.jit, static_argnums=2)
def compute(folded, images, padding='zeros'):
  """Returns the output of every block."""

  def convolve(name, x, stride):
    kernel, bias = folded[f'{name}.kernel'], folded[f'{name}.bias']
    how = stride, padding, 'float32', EfficientNetLite0.is_same
    x = layers.convolve(x, kernel, bias, *how)
    ends.append(x)
    return x

  ends = []
  found = backbone.apply(NAME, LEVELS, convolve, layers.max_pool, images)
  return found, ends


@pytest.mark.parametrize('size', [(64, 96), (65, 63), (33, 50)])
def test_every_block_agrees_with_torch(tensors, size):
  images = np.random.default_rng(0).uniform(-1, 1, (2, *size, 3)).astype('f')
  folded = backbone.fold(tensors, NAME, LEVELS)
  found, _ = compute(folded, images)
  with torch.no_grad():
    every = list(judge(tensors, torch.tensor(images).movedim(-1, 1)))
  for level, block in zip(found, (2, 4, 10), strict=True):
    expected = every[block].movedim(1, -1).numpy()
    assert level.shape == expected.shape
    error = np.linalg.norm(level - expected) / np.linalg.norm(expected)
    assert error < 1e-5


def test_its_own_weights_load_for_any_levels(tensors):
  for levels in ((1,), (2, 3), LEVELS):
    found = weights.load(NAME, NAME, levels)
    assert found.sha256 == files._SHA256[found.path.name]
    expected = backbone.fold(tensors, NAME, levels)
    assert found.state.keys() == expected.keys()


def test_a_file_of_that_name_must_be_that_file(tmp_path):
  path = tmp_path / 'efficientnet-lite0-57934424.pth'
  content = bytearray(files.locate(NAME).read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r'sha256 begins with .* expected 5793'):
    files.read(path)
