"""Whose training weights come from, and when the noise does not fit them."""

import numpy as np
import pytest
from absl import logging

from simplenet_jax.config import describe_protocol, from_protocol
from simplenet_jax.evaluation import published
from simplenet_jax.models import weights
from simplenet_jax.models.weights import scale, variants
from simplenet_jax.training import setup
from tests.models.weights import fabricated

V1, V2 = variants.V1, variants.V2


@pytest.mark.parametrize(
  ('architecture', 'start', 'recipe'),
  [
    ('resnet18', 'f37072fd', V1),
    ('resnet50', '0676ba61', V1),
    ('resnet101', '63fe2227', V1),
    ('wide_resnet50_2', '95faca4d', V1),
    ('resnet50', '11ad3fa6', V2),
    ('resnet101', 'cd907fc2', V2),
    ('wide_resnet50_2', '9ba9bcbe', V2),
    ('resnet50', '00000000', ''),
  ],
)
def test_torchvision_files_are_known_by_any_name(architecture, start, recipe):
  found = variants.identify('mine.pth', architecture, start.ljust(64, '0'), {})
  assert found == variants.Variant('mine.pth', architecture, recipe)


@pytest.mark.parametrize(
  ('name', 'recipe'),
  [
    ('timm/resnet50.tv_in1k', V1),
    ('timm/resnet50.tv2_in1k', V2),
    ('timm/resnet50.a1_in1k', "timm's a1_in1k"),
    ('timm/resnet50.fb_swsl_ig1b_ft_in1k', "timm's fb_swsl_ig1b_ft_in1k"),
    ('someone/resnet50.tv_in1k', "someone's resnet50.tv_in1k"),
    ('timm/resnet50.tv_in1k.pth', ''),
    ('demo', ''),
  ],
)
def test_names_on_the_hub_tell_the_recipe(name, recipe):
  assert variants.identify(name, 'resnet50', '0' * 64, {}).recipe == recipe


def test_a_file_in_a_folder_is_no_name_on_the_hub(tmp_path, monkeypatch, demo):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'timm').mkdir()
  fabricated.write(tmp_path / 'timm/net.safetensors', demo)
  found = weights.load('timm/net.safetensors', 'demo_resnet', (1,))
  assert found.variant.recipe == ''
  assert found.variant.classes == 10


@pytest.mark.parametrize('shape', [(), (15,), None])
def test_no_classifier(shape):
  tensors = {} if shape is None else {'fc.weight': np.zeros(shape)}
  assert variants.identify('a.pth', 'resnet50', '0' * 64, tensors).classes == 0


@pytest.fixture
def told(monkeypatch):
  """Returns what is said, where features spread so many times as wide."""
  lines = []
  monkeypatch.setattr(
    logging, 'warning', lambda form, *parts: lines.append(form % parts)
  )

  def told(spread=1.0, sigma=0.015, architecture='resnet50', **known):
    monkeypatch.setattr(scale, 'relative', lambda *_: spread)
    lines.clear()
    variant = variants.Variant('a.pth', architecture, **known)
    assert [
      f'a.pth: {line}' for line in variants.warn(variant, {}, (2, 3), sigma)
    ] == lines
    return list(lines)

  return told


def test_nothing_is_said_of_what_fits(told):
  assert not told()
  assert not told(classes=1000)
  assert not told(recipe=V1, spread=9.0)  # Is not even measured.
  assert not told(spread=1.7)
  assert not told(sigma=0.1)  # The user's choice, for features like V1's.
  assert not told(spread=2.5, sigma=0.04)
  assert not told(architecture='demo_resnet', spread=9.0, classes=10)


def test_other_recipes_are_told(told):
  assert told(recipe=V2) == [
    "a.pth: these are torchvision's V2 weights; the method's figures and its "
    "sigma, 0.015, belong to torchvision's V1 (timm/resnet50.tv_in1k)"
  ]
  assert told(recipe="timm's a1_in1k")[0].startswith(
    "a.pth: these are timm's a1_in1k weights; the method's figures"
  )


@pytest.mark.parametrize(
  ('known', 'other'),
  [
    ({}, ''),
    ({'recipe': V1, 'classes': 1000}, ''),
    ({'recipe': V2, 'classes': 1000}, V2),
    ({'recipe': "timm's a1_in1k"}, "timm's a1_in1k"),
    ({'classes': 15}, 'fine-tuned to 15 classes'),
  ],
)
def test_other_weights_are_no_protocol_of_the_paper(known, other):
  variant = variants.Variant('a.pth', 'wide_resnet50_2', **known)
  assert variant.other == other
  assert variant.known == (other or known.get('recipe', variants.UNKNOWN))
  followed = describe_protocol(from_protocol(), variant.other)
  rows = published.comparable(['screw'], published.BACKBONE, followed)
  if other:
    assert followed == f'reference, but backbone.weights ({other})'
    assert not rows
  else:
    assert followed == 'reference'
    assert len(rows) == 2


def test_a_fine_tuned_classifier_is_told(told):
  assert told(classes=15) == [
    "a.pth: its classifier has 15 classes, ImageNet's has 1000: fine-tuned on "
    'other images; the method expects features of ImageNet'
  ]


def test_another_spread_is_told_with_the_sigma_for_it(told):
  said = (
    "a.pth: features spread 2.3 times as wide as those of torchvision's V1 "
    'ResNet18, which sigma 0.015 belongs to; --config.train.sigma=0.034 would '
    'be as much noise for these'
  )
  assert told(2.3, architecture='resnet18') == [said]
  assert told(2.3) == [f'{said}, unless they are V1 weights in another file']
  assert '=0.0075 would' in told(0.5)[0]
  assert len(told(2.3, recipe=V2, classes=7)) == 3


@pytest.mark.parametrize('spread', [0.0, np.inf, np.nan])
def test_features_that_do_not_vary_are_told(told, spread):
  assert told(spread) == [
    'a.pth: its features do not vary, or are infinite: not trained weights'
  ]


@pytest.mark.parametrize(
  ('name', 'warns'), [('resnet18', False), ('resnet50', True)]
)
def test_runs_are_warned(shared, monkeypatch, name, warns):
  lines = []
  monkeypatch.setattr(
    logging, 'warning', lambda form, *parts: lines.append(form % parts)
  )
  config = from_protocol()
  config.backbone.name = name
  config.backbone.weights = str(shared(f'weights/{name}.safetensors'))
  config.backbone.probe = False
  loaded = setup.load_backbone(config, setup.make_extractor(config).graph)
  assert len(loaded.warnings) == warns
  assert len(lines) == warns
  assert all('features spread 2.5 times as wide' in line for line in lines)
