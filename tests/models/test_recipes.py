"""Whose training weights come from, and where the noise may not fit them."""

from pathlib import Path

import numpy as np
import pytest

from simplenet_jax.config import from_protocol
from simplenet_jax.models import weights
from simplenet_jax.models.weights import UNKNOWN, V1, V2


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


def misfit(recipe=UNKNOWN, sigma=0.015, noise='absolute'):
  config = from_protocol()
  config.backbone.name = 'resnet50'
  config.train.sigma, config.train.noise = sigma, noise
  return weights.misfit(config, made(recipe))


@pytest.mark.parametrize(
  'options', [{'recipe': V1}, {'sigma': 0.1}, {'noise': 'relative'}]
)
def test_nothing_is_said_of_what_fits(options):
  assert not misfit(**options)


def test_other_weights_are_told():
  assert misfit(V2) == (
    "these weights are torchvision's V2; the method's figures and its sigma, "
    "0.015, belong to torchvision's V1 (timm/resnet50.tv_in1k)"
  )
  assert 'it is not known whether these are such weights' in misfit()
