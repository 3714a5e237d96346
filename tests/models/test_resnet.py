"""The folded backbone against torch's, with its norms."""

import functools
import re

import jax
import numpy as np
import pytest
import torch

from simplenet_jax.config import check_config, from_protocol
from simplenet_jax.models import architectures, backbone, layers
from simplenet_jax.models.head import ADAPTORS, LOSSES
from tests.models import torch_resnet

LEVELS = (1, 2, 3)
# Odd and even before every stride: 'SAME' padding would shift the even ones.
IMAGES = np.random.default_rng(1).normal(size=(1, 65, 64, 3)).astype('f')


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def compute(folded, architecture, levels, padding, images):
  def convolve(name, x, stride):
    kernel, bias = folded[f'{name}.kernel'], folded[f'{name}.bias']
    return layers.convolve(x, kernel, bias, stride, padding, 'float32')

  return backbone.apply(architecture, levels, convolve, layers.max_pool, images)


def judge(model, images):
  """Returns the feature maps of torch's network, after each level."""
  with torch.no_grad():
    found = list(model.activations(torch.tensor(images).movedim(-1, 1)))
  blocks = [len(getattr(model, f'layer{level}')) for level in LEVELS]
  return [found[end].movedim(1, -1).numpy() for end in np.cumsum(blocks)]


@pytest.mark.parametrize(
  ('architecture', 'padding'),
  [
    *((name, 'zeros') for name in architectures.RESNETS),
    ('resnet18', 'reflect'),
    ('resnet50', 'reflect'),
  ],
)
def test_every_level_agrees_with_torch(architecture, padding):
  model = torch_resnet.fabricate(architecture)
  if padding == 'reflect':
    torch_resnet.pad(model, padding)
  folded = backbone.fold(torch_resnet.tensors(model), architecture, LEVELS)
  found = compute(folded, architecture, LEVELS, padding, IMAGES)
  for level, expected in zip(found, judge(model, IMAGES), strict=True):
    assert level.shape == expected.shape
    assert level.dtype == np.float32
    error = np.linalg.norm(level - expected) / np.linalg.norm(expected)
    assert error < 1e-5


# Parameters from the stem to layer3, torchvision's own.
COUNTS = (2_782_784, 8_543_296, 27_535_424, 24_862_528)


def test_networks_have_as_many_parameters_as_torchvisions():
  for spec, count in zip(architectures.RESNETS.values(), COUNTS, strict=True):
    shapes = [shape for _, _, shape in spec.layers(LEVELS)]
    assert sum(np.prod(one) + 2 * one[-1] for one in shapes) == count


@pytest.mark.parametrize('architecture', ['resnet18', 'resnet50'])
def test_probe_moves_statistics_as_torch_does_in_train_mode(architecture):
  model = torch_resnet.pad(torch_resnet.fabricate(architecture), 'reflect')
  before = {n: v.copy() for n, v in torch_resnet.tensors(model).items()}
  found = backbone.fold(before, architecture, LEVELS, probe=True)
  with torch.no_grad():
    list(model.train().activations(torch.ones(1, 3, 65, 64)))
  expected = backbone.fold(torch_resnet.tensors(model), architecture, LEVELS)
  plain = backbone.fold(before, architecture, LEVELS)
  for name, value in found.items():
    # torch divides rounding errors by the square root of epsilon, layer by
    # layer; the statistics themselves move by tenths.
    np.testing.assert_allclose(value, expected[name], atol=2e-3)
    assert (value != plain[name]).any()


@pytest.mark.parametrize(
  ('field', 'known'),
  [
    ('backbone.name', ['auto', *backbone.ARCHITECTURES]),
    ('backbone.padding', backbone.PADDINGS),
    ('head.adaptor', ADAPTORS),
    ('train.loss', LOSSES),
  ],
)
def test_settings_take_the_names_of_what_there_is(field, known):
  config = from_protocol()
  config.update_from_flattened_dict({field: 'other'})
  said = f"{field} is 'other', expected one of {', '.join(known)}"
  with pytest.raises(ValueError, match=re.escape(said)):
    check_config(config)
