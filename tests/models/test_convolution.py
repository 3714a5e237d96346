"""Both kinds of convolution against torch's."""

import jax
import numpy as np
import pytest
import torch

from simplenet_jax.models import convolution

OUTPUTS = 5
RNG = np.random.default_rng(0)


def make(size, inputs, sides):
  """Returns two images, a kernel and a bias, float32."""
  shapes = ((2, *sides, inputs), (size, size, inputs, OUTPUTS), (OUTPUTS,))
  return [RNG.normal(size=shape).astype(np.float32) for shape in shapes]


def judge(x, kernel, bias, stride, padding):
  """torch's convolution, in float64."""
  x = torch.from_numpy(x).double().movedim(-1, 1)
  weight = torch.from_numpy(kernel).double().permute(3, 2, 0, 1)
  mode = 'constant' if padding == 'zeros' else 'reflect'
  x = torch.nn.functional.pad(x, [kernel.shape[0] // 2] * 4, mode)
  bias = torch.from_numpy(bias).double()
  found = torch.nn.functional.conv2d(x, weight, bias, stride)
  return found.movedim(1, -1).numpy()


compiled = jax.jit(convolution.convolve, static_argnums=(3, 4, 5))


def assert_close(found, expected):
  assert found.shape == expected.shape
  assert found.dtype == np.float32
  assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


# Every side is odd once and even once. Of the deepest level of a small input,
# one row or one column is left.
CASES = [
  (1, 'zeros', 3, (8, 7)),
  (1, 'reflect', 21, (7, 8)),
  (3, 'zeros', 3, (8, 7)),
  (3, 'zeros', 16, (7, 8)),
  (3, 'reflect', 21, (8, 7)),
  (3, 'zeros', 16, (1, 2)),
  (3, 'zeros', 16, (3, 1)),
  (7, 'reflect', 3, (7, 8)),
]


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize(('size', 'padding', 'inputs', 'sides'), CASES)
def test_both_equal_torch(size, stride, padding, inputs, sides):
  x, kernel, bias = make(size, inputs, sides)
  expected = judge(x, kernel, bias, stride, padding)
  how = stride, padding, 'float32'
  assert_close(compiled(x, kernel, bias, *how), expected)
  tiles = convolution.to_winograd(kernel, stride)
  if (size, stride) == (3, 1) and inputs >= 16:
    assert tiles.shape == (16, inputs, OUTPUTS)
    assert_close(compiled(x, tiles, bias, *how), expected)
  else:
    assert tiles is kernel


@pytest.mark.parametrize(
  ('padding', 'mode'), [('zeros', 'constant'), ('reflect', 'reflect')]
)
def test_padding_equals_numpys(padding, mode):
  x, _, _ = make(1, 2, (4, 5))
  widths = ((0, 0), (3, 3), (3, 3), (0, 0))
  found = convolution.pad(x, 3, padding)
  np.testing.assert_array_equal(found, np.pad(x, widths, mode=mode))


@pytest.mark.parametrize('sides', [(8, 7), (7, 8), (1, 2)])
def test_max_pool_equals_torchs(sides):
  x = np.maximum(make(1, 4, sides)[0], 0)
  expected = torch.nn.functional.max_pool2d(
    torch.from_numpy(x).movedim(-1, 1), kernel_size=3, stride=2, padding=1
  )
  found = convolution.max_pool(x)
  np.testing.assert_array_equal(found, expected.movedim(1, -1).numpy())
