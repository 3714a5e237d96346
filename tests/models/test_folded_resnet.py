"""The folded backbone against the one that was trained on."""

import functools
import zlib

import jax
import numpy as np
import pytest
from flax import nnx

from simplenet_jax.models import convolution, folded_resnet, resnet

LEVELS = [(1,), (2, 3), (1, 2, 3)]
# Every kind of block, with and without a shortcut, in small.
SMALL = {
  'basic': resnet.Architecture(False, (2, 1, 1), width=8),
  'bottleneck': resnet.Architecture(True, (2, 1, 1), width=8, inner_factor=2),
}
IMAGES = np.random.default_rng(0).normal(size=(2, 37, 48, 3)).astype('f')


@pytest.fixture
def small(monkeypatch):
  for name, spec in SMALL.items():
    monkeypatch.setitem(resnet.ARCHITECTURES, name, spec)


def draw(path, leaf):
  """Returns random values of a parameter or a statistic, by its name."""
  rng = np.random.default_rng(zlib.crc32(str(path).encode()))
  if len(leaf.shape) == 4:
    deviation = (2 / np.prod(leaf.shape[:3])) ** 0.5
    return rng.normal(0, deviation, leaf.shape).astype('f')
  if path[-1] in ('scale', 'var'):
    return rng.uniform(0.5, 1.5, leaf.shape).astype('f')
  return rng.normal(0, 0.3, leaf.shape).astype('f')


def make(architecture, levels, padding='zeros', draw=draw):
  graph, state = resnet.abstract(architecture, levels, padding)
  leaves = nnx.to_flat_state(state)
  drawn = [(path, leaf.replace(draw(path, leaf))) for path, leaf in leaves]
  return graph, nnx.from_flat_state(drawn)


def assert_range(found, expected, share=1e-5):
  """Asserts a largest difference as a share of the expected values' range."""
  assert found.shape == expected.shape
  error = np.abs(np.asarray(found, np.float64) - expected).max()
  assert error < share * np.ptp(expected)


@pytest.mark.parametrize('padding', resnet.PADDINGS)
@pytest.mark.parametrize('architecture', SMALL)
@pytest.mark.usefixtures('small')
def test_folded_equals_the_network_with_norms(architecture, padding):
  convolve = functools.partial(
    convolution.convolve, padding=padding, precision='float32'
  )
  for levels in LEVELS:
    graph, state = make(architecture, levels, padding)
    before = jax.tree.map(np.copy, state)
    weights = folded_resnet.fold(graph, state)
    with jax.default_matmul_precision('highest'):
      expected = resnet.apply(graph, state, IMAGES)
    found = folded_resnet.apply(
      architecture, levels, convolve, convolution.max_pool, weights, IMAGES
    )
    assert len(found) == len(levels)
    for one, other in zip(found, expected, strict=True):
      assert_range(one, np.asarray(other))
    assert all(value.dtype == np.float32 for value in weights.values())
    jax.tree.map(np.testing.assert_array_equal, before, state)


@pytest.mark.usefixtures('small')
def test_folding_rounds_once():
  graph, state = make('basic', (1,))
  model = nnx.merge(graph, state)
  conv, bn = model.conv1.kernel[...], model.bn1
  conv, scale, bias, mean, var = (
    np.asarray(value, np.float64)
    for value in (conv, bn.scale[...], bn.bias[...], bn.mean[...], bn.var[...])
  )
  factor = scale / (var + 1e-5) ** 0.5
  weights = folded_resnet.fold(graph, state)
  np.testing.assert_allclose(
    weights['conv1.kernel'], conv * factor, rtol=2**-23, atol=0
  )
  np.testing.assert_allclose(
    weights['conv1.bias'], bias - mean * factor, rtol=2**-23, atol=0
  )


@pytest.mark.parametrize('architecture', resnet.ARCHITECTURES)
def test_layers_are_those_of_the_folded_weights(architecture):
  ones = functools.cache(lambda shape: np.broadcast_to(np.float32(1), shape))
  graph, state = make(
    architecture, (2, 3), draw=lambda _, leaf: ones(leaf.shape)
  )
  listed = list(folded_resnet.layers(architecture, (2, 3)))
  expected = {}
  for name, _, shape in listed:
    expected[f'{name}.kernel'], expected[f'{name}.bias'] = shape, shape[-1:]
  shapes = {k: v.shape for k, v in folded_resnet.fold(graph, state).items()}
  assert shapes == expected
  for levels in ((1,), (1, 2), (2,)):
    above = f'layer{max(levels) + 1}'
    count = [name.split('.')[0] for name, _, _ in listed].index(above)
    assert list(folded_resnet.layers(architecture, levels)) == listed[:count]


@pytest.mark.parametrize('architecture', resnet.ARCHITECTURES)
def test_layers_are_those_that_are_computed(architecture):
  listed = list(folded_resnet.layers(architecture, (2, 3)))
  # Names instead of numbers; layers are counted, nothing is computed.
  weights = {
    f'{name}.{part}': name
    for name, _, _ in listed
    for part in ('kernel', 'bias')
  }
  shapes, called = {name: shape for name, _, shape in listed}, []

  def convolve(x, kernel, bias, stride):
    assert kernel == bias
    assert x.shape[-1] == shapes[kernel][2]
    called.append((kernel, stride, shapes[kernel]))
    sides = (-(-side // stride) for side in x.shape[1:3])
    return np.zeros((1, *sides, shapes[kernel][3]), np.float32)

  features = folded_resnet.apply(
    architecture,
    (2, 3),
    convolve,
    lambda x: x[:, ::2, ::2],
    weights,
    np.zeros((1, 16, 16, 3), np.float32),
  )
  assert sorted(called) == sorted(listed)
  spec = resnet.ARCHITECTURES[architecture]
  assert [level.shape for level in features] == [
    (1, 2, 2, spec.channels(2)),
    (1, 1, 1, spec.channels(3)),
  ]
