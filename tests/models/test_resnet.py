"""The Flax backbone against torch, block by block, and its golden sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from simplenet_jax.models import resnet, weights
from tests.models import torch_resnet

# From the stem to layer3; the first four equal torchvision's own networks.
GOLDEN_COUNTS = {
  'resnet18': 2_782_784,
  'resnet50': 8_543_296,
  'resnet101': 27_535_424,
  'wide_resnet50_2': 24_862_528,
  'demo_resnet': 699_168,
}
COMBINATIONS = [(1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)]
# Odd and even before every stride: 'SAME' padding shifts the even ones.
SIZE = (65, 64)


@functools.cache
def judge(architecture):
  return torch_resnet.fabricate(architecture)


def images(count=1):
  shape = (count, *SIZE, 3)
  return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


def activations(monkeypatch, graph, state, inputs):
  """Returns the stem's, all blocks' and the levels' maps of one real pass."""
  taken = []
  call = resnet.Block.__call__

  def recorded(block, x, train=False):
    if not taken:
      taken.append(x)
    taken.append(call(block, x, train))
    return taken[-1]

  monkeypatch.setattr(resnet.Block, '__call__', recorded)
  with jax.default_matmul_precision('highest'):
    features = resnet.apply(graph, state, inputs)
  return taken, features


def torch_activations(model, inputs):
  with torch.no_grad():
    outputs = list(
      model.activations(torch.tensor(np.asarray(inputs)).movedim(-1, 1))
    )
  return [output.movedim(1, -1).numpy() for output in outputs]


def error(actual, expected):
  """The relative error in the Euclidean norm."""
  assert actual.shape == expected.shape
  return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def check_parity(monkeypatch, model, architecture, inputs, padding='zeros'):
  tensors = torch_resnet.tensors(model)
  state = weights.from_torch_names(tensors, architecture, (1, 2, 3))
  graph, _ = resnet.abstract(architecture, (1, 2, 3), padding)
  blocks, levels = activations(monkeypatch, graph, state, inputs)
  expected = torch_activations(model, inputs)
  errors = [error(a, e) for a, e in zip(blocks, expected, strict=True)]
  assert max(errors) < 1e-5, errors

  ends = np.cumsum(resnet.ARCHITECTURES[architecture].depths)
  for level, end in zip(levels, ends, strict=True):
    assert error(level, expected[end]) < 1e-5


@pytest.mark.parametrize('architecture', resnet.ARCHITECTURES)
def test_every_block_agrees_with_torch(monkeypatch, architecture):
  check_parity(monkeypatch, judge(architecture), architecture, images())


@pytest.mark.parametrize('size', [(70, 50), (33, 97)])
def test_agrees_with_torch_at_other_sizes(monkeypatch, size):
  inputs = np.random.default_rng(2).normal(size=(2, *size, 3))
  check_parity(
    monkeypatch, judge('demo_resnet'), 'demo_resnet', inputs.astype('float32')
  )


@pytest.mark.parametrize('architecture', ['demo_resnet', 'resnet50'])
def test_reflected_borders_agree_with_torch(monkeypatch, architecture):
  model = torch_resnet.pad(torch_resnet.fabricate(architecture), 'reflect')
  check_parity(monkeypatch, model, architecture, images(), 'reflect')


@pytest.mark.parametrize('released', [False, True])
@pytest.mark.parametrize('architecture', ['resnet18', 'resnet50'])
def test_real_weights_agree_with_torch(
  monkeypatch, shared, architecture, released
):
  file = shared(f'weights/{architecture}.safetensors')
  state = weights.load(str(file), architecture, (1, 2, 3)).state
  model = torch_resnet.TorchResNet(architecture).eval()
  tensors = weights.to_torch_names(state)
  found = model.load_state_dict(
    {name: torch.tensor(value) for name, value in tensors.items()},
    strict=False,
  )
  assert not found.unexpected_keys
  assert all(key.endswith('num_batches_tracked') for key in found.missing_keys)
  if released:  # Its statistics, with the rounding of torch's own pass.
    model = torch_resnet.pad(model, 'reflect')
    torch_activations(model.train(), jnp.ones((1, 288, 288, 3)))
    model.eval()
  padding = 'reflect' if released else 'zeros'
  check_parity(monkeypatch, model, architecture, images(), padding)


def test_jitted_and_eager_agree():
  graph, _ = resnet.abstract('demo_resnet')
  state = weights.from_torch_names(
    torch_resnet.tensors(judge('demo_resnet')), 'demo_resnet', (2, 3)
  )
  eager = resnet.apply(graph, state, images())
  jitted = jax.jit(resnet.apply, static_argnums=0)(graph, state, images())
  for a, b in zip(eager, jitted, strict=True):
    assert error(a, b) < 1e-5


@pytest.mark.parametrize('architecture', GOLDEN_COUNTS)
def test_parameter_count(architecture):
  model = nnx.eval_shape(
    lambda: resnet.ResNet(architecture, (1, 2, 3), rngs=nnx.Rngs(0))
  )
  assert resnet.parameter_count(model) == GOLDEN_COUNTS[architecture]


def test_every_architecture_has_a_golden_count_and_a_judge():
  assert set(GOLDEN_COUNTS) == set(resnet.ARCHITECTURES)
  assert set(torch_resnet.SPECS) == set(resnet.ARCHITECTURES)


@pytest.mark.parametrize('levels', COMBINATIONS)
@pytest.mark.parametrize('architecture', ['resnet18', 'wide_resnet50_2'])
def test_levels_give_their_shapes(architecture, levels):
  graph, state = resnet.abstract(architecture, levels)
  features = jax.eval_shape(
    functools.partial(resnet.apply, graph), state, images(2)
  )
  first = 64 if architecture == 'resnet18' else 256
  shapes = {
    1: (2, 17, 16, first),
    2: (2, 9, 8, first * 2),
    3: (2, 5, 4, first * 4),
  }
  assert [f.shape for f in features] == [shapes[level] for level in levels]
  assert all(f.dtype == np.float32 for f in features)


@pytest.mark.parametrize('levels', COMBINATIONS)
def test_nothing_above_the_last_level_is_built(levels):
  _, state = resnet.abstract('resnet50', levels)
  built = {path[1] for path, _ in nnx.to_flat_state(state) if len(path) > 2}
  assert built == set(range(levels[-1]))


@pytest.mark.parametrize(
  'levels', [(), (0,), (0, 1), (-1, 2), (4,), (2, 4), (3, 2), (2, 2)]
)
def test_wrong_levels_are_refused(levels):
  with pytest.raises(ValueError, match=r'backbone\.levels is'):
    resnet.abstract('resnet18', levels)


def test_unknown_padding_is_refused():
  with pytest.raises(ValueError, match=r"'same'; choose one of zeros, reflect"):
    resnet.abstract('resnet18', padding='same')


def test_unknown_architecture_is_refused():
  with pytest.raises(ValueError, match=r"'resnet19'; choose one of resnet18"):
    resnet.abstract('resnet19')
