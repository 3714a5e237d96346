"""The spread of features: of V1, of others, on made images and on real ones."""

import itertools

import jax
import numpy as np
import pytest
from PIL import Image

from simplenet_jax.data import images
from simplenet_jax.models import patches, resnet, weights
from simplenet_jax.models.weights import forward, scale
from tests.models.weights import fabricated

LEVELS = [
  levels
  for count in (1, 2, 3)
  for levels in itertools.combinations((1, 2, 3), count)
]


@pytest.mark.parametrize('architecture', ['demo_resnet', 'resnet50'])
def test_features_are_those_of_the_backbone(architecture):
  tensors = fabricated.tensors(architecture)
  state = weights.from_torch_names(tensors, architecture, (1, 2))
  graph, _ = resnet.abstract(architecture, (1, 2))
  pixels = np.random.default_rng(0).normal(size=(2, 37, 42, 3)).astype('f')
  found = forward.features(state, (1, 2), pixels)
  expected = jax.jit(resnet.apply, static_argnums=0)(graph, state, pixels)
  for one, other in zip(found, expected, strict=True):
    assert one.dtype == np.float32
    np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize('channels', [(6, 12), (5, 7)])
def test_pooling_is_that_of_the_method(channels):
  rng = np.random.default_rng(0)
  for level, count in zip(
    patches.pooling_for(channels, 3, 24, 24), channels, strict=True
  ):
    features = rng.normal(size=(2, 5, 4, count)).astype('f')
    expected = [patches.pool_level(image, level) for image in features]
    found = forward.pool(features, level)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope='module')
def real(shared):
  """Real weights: V1, and others whose features spread further."""
  names = ('resnet18', 'resnet50')
  paths = [shared(f'weights/{name}.safetensors') for name in names]
  return [
    weights.load(str(path), name, (1, 2, 3)).state
    for path, name in zip(paths, names, strict=True)
  ]


@pytest.mark.parametrize('levels', LEVELS)
def test_v1_is_the_reference(real, levels):
  found = scale.relative(real[0], 'resnet18', levels)
  np.testing.assert_allclose(found, 1, atol=5e-4)


def test_others_are_told_from_it(real):
  found = scale.relative(real[1], 'resnet50', (2, 3))
  np.testing.assert_allclose(found, 2.51, atol=0.01)
  assert not scale.alike(found, 1)


@pytest.mark.parametrize('category', ['screw', 'transistor'])
def test_made_images_stand_for_photographs(real, shared, category, monkeypatch):
  folder = shared(f'data/{category}/train/good')
  pixels = [
    np.asarray(Image.open(path).convert('RGB'))[56:280, 56:280]
    for path in sorted(folder.iterdir())[:2]
  ]
  names = ('resnet18', 'resnet50')

  def ratio():
    one, other = (
      scale.spread(state, name, (2, 3))
      for state, name in zip(real, names, strict=True)
    )
    return other / one

  made = ratio()
  photographs = images.normalize(np.stack(pixels))
  monkeypatch.setattr(scale, '_images', lambda: photographs)
  assert 0.8 < made / ratio() < 1.2


def test_tolerance_is_a_factor_either_way():
  assert scale.alike(1, 1.79)
  assert scale.alike(1.79, 1)
  assert not scale.alike(1, 1.81)
  assert not scale.alike(0.55, 1)
