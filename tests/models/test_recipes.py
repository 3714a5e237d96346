"""Whose training weights come from, and where the noise may not fit them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.config import from_protocol
from simplenet_jax.models import backbone, simplenet, weights
from simplenet_jax.models.weights import UNKNOWN, V1, V2
from tests.models import fabricated


@pytest.mark.parametrize(
  ('source', 'sha256', 'classes', 'recipe'),
  [
    ('mine.pth', '0676ba61', 1000, V1),
    ('mine.pth', '11ad3fa6', None, V2),
    ('mine.pth', '00000000', 1000, UNKNOWN),
    ('mine.pth', '00000000', 15, 'fine-tuned to 15 classes'),
    ('timm/resnet50.tv_in1k', '00000000', None, V1),
    ('timm/resnet50.tv2_in1k', '00000000', None, V2),
    ('timm/resnet50.a1_in1k', '00000000', None, "timm's a1_in1k"),
    ('me/resnet50.tv_in1k', '00000000', None, "me's resnet50.tv_in1k"),
    ('timm/resnet50.tv_in1k.pth', '00000000', None, UNKNOWN),
  ],
)
def test_recipes_are_known(source, sha256, classes, recipe):
  tensors = {'fc.weight': np.zeros((classes, 8))} if classes else {}
  found = weights.identify(source, 'resnet50', sha256.ljust(64, '0'), tensors)
  assert found == recipe


def made(recipe):
  return weights.Weights({}, Path('a.pth'), '0' * 64, 'a.pth', recipe)


def misfit(
  recipe=UNKNOWN,
  wider=1.0,
  sigma=0.015,
  architecture='resnet50',
  noise='absolute',
):
  """What is said where features spread so many times as wide as V1's."""
  rng = np.random.default_rng(0)
  levels = [
    rng.normal(0, wider * spread, (2, 20, 20, 64)) for spread in (0.2, 0.14)
  ]
  config = from_protocol()
  config.backbone.name = architecture
  config.train.sigma, config.train.noise = sigma, noise
  return weights.misfit(config, made(recipe), lambda: levels)


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'recipe': V1, 'wider': 9},
    {'wider': 1.8},
    {'sigma': 0.1},  # The user's choice, for features like V1's.
    {'wider': 2.5, 'sigma': 0.04},
    {'wider': 9, 'noise': 'relative'},
  ],
)
def test_nothing_is_said_of_what_fits(options):
  assert not misfit(**options)


def test_other_weights_are_told():
  assert misfit(V2) == (
    "these weights are torchvision's V2; the method's figures and its sigma, "
    "0.015, belong to torchvision's V1 (timm/resnet50.tv_in1k)"
  )
  assert 'features spread 2.3 times as wide' in misfit(wider=2.3)
  assert '--config.train.sigma=0.035 would be as much' in misfit(wider=2.3)
  assert '=0.006 would' in misfit(wider=0.4)
  assert 'not trained weights' in misfit(wider=0)


@pytest.mark.filterwarnings('ignore:invalid value:RuntimeWarning')
@pytest.mark.parametrize('category', ['screw', 'transistor'])
def test_real_and_random_weights_are_told_apart(shared, category):
  paths = sorted(shared(f'data/{category}/train/good').iterdir())[:2]
  opened = [Image.open(path).convert('RGB') for path in paths]
  pixels = np.stack([np.asarray(image)[56:280, 56:280] for image in opened])

  def said(name, state):
    config = from_protocol()
    config.backbone.name = name
    network = simplenet.FeatureNetwork.of(config)
    found = simplenet.features(network, state, pixels)
    return weights.misfit(config, made(UNKNOWN), lambda: found)

  for name, told in (('resnet18', False), ('resnet50', True)):
    path = shared(f'weights/{name}.safetensors')
    assert bool(said(name, weights.load(str(path), name, (2, 3)).state)) == told
  random = backbone.fold(fabricated.untrained('resnet18'), 'resnet18', (2, 3))
  assert said('resnet18', random)
