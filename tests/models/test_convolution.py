"""Both kinds of convolution against torch's."""

import functools

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


@functools.cache
def compiled(function):
  return jax.jit(function, static_argnums=(3, 4, 5))


def assert_close(found, expected):
  assert found.shape == expected.shape
  assert found.dtype == np.float32
  assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


# Fewer than 16 inputs take another way; every side is odd once and even once.
CASES = [
  (1, 'zeros', 3, (8, 7)),
  (1, 'reflect', 21, (7, 8)),
  (3, 'zeros', 3, (8, 7)),
  (3, 'reflect', 3, (7, 8)),
  (3, 'zeros', 16, (7, 8)),
  (3, 'reflect', 21, (8, 7)),
  (7, 'zeros', 3, (8, 7)),
  (7, 'reflect', 3, (7, 8)),
]


@pytest.mark.parametrize(
  ('size', 'padding', 'inputs', 'sides', 'stride'),
  [(*case, stride) for case in CASES for stride in (1, 2)]
  # One of 49 products takes seconds to compile.
  + [(7, 'reflect', 16, (4, 5), 2)],
)
def test_both_equal_torch(size, stride, padding, inputs, sides):
  x, kernel, bias = make(size, inputs, sides)
  expected = judge(x, kernel, bias, stride, padding)
  how = stride, padding, 'float32'
  found = compiled(convolution.convolve)(x, kernel, bias, *how)
  assert_close(found, expected)
  prepared = convolution.prepare(kernel, stride)
  conv_as_matmul = compiled(convolution.convolve_as_matmul)
  assert_close(conv_as_matmul(x, prepared, bias, *how), np.asarray(found))
  if prepared is not kernel:
    assert (size, stride) == (3, 1)
    assert prepared.shape == (16, inputs, OUTPUTS)
    assert prepared.dtype == kernel.dtype
  else:
    assert (size, stride) != (3, 1)


def test_products_take_a_kernel_as_it_is_too():
  x, kernel, bias = make(3, 16, (4, 5))
  found = compiled(convolution.convolve_as_matmul)(
    x, kernel, bias, 1, 'reflect', 'float32'
  )
  assert_close(found, judge(x, kernel, bias, 1, 'reflect'))


# At the deepest level of a small input: one row or one column is left.
@pytest.mark.parametrize('sides', [(1, 2), (3, 1)])
def test_tiles_are_cut_to_the_smallest_grids(sides):
  x, kernel, bias = make(3, 16, sides)
  found = compiled(convolution.convolve_as_matmul)(
    x, convolution.prepare(kernel, 1), bias, 1, 'zeros', 'float32'
  )
  assert_close(found, judge(x, kernel, bias, 1, 'zeros'))


@pytest.mark.parametrize(
  ('padding', 'mode'), [('zeros', 'constant'), ('reflect', 'reflect')]
)
def test_padding_equals_numpys(padding, mode):
  x, _, _ = make(1, 2, (4, 5))
  widths = ((0, 0), (3, 3), (3, 3), (0, 0))
  found = convolution.pad(x, 3, padding)
  np.testing.assert_array_equal(found, np.pad(x, widths, mode=mode))
  assert convolution.pad(x, 0, padding) is x


@pytest.mark.parametrize('sides', [(8, 7), (7, 8), (1, 2)])
def test_max_pool_equals_torchs(sides):
  x = np.maximum(make(1, 4, sides)[0], 0)
  expected = torch.nn.functional.max_pool2d(
    torch.from_numpy(x).movedim(-1, 1), kernel_size=3, stride=2, padding=1
  )
  np.testing.assert_array_equal(
    convolution.max_pool(x), expected.movedim(1, -1).numpy()
  )
