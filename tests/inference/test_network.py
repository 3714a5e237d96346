"""The detector's network against the path that training and evaluation take."""

import functools

import jax
import numpy as np
import pytest

from simplenet_jax.inference import network
from simplenet_jax.inference.network import Manner
from simplenet_jax.models import scoring
from simplenet_jax.training import bank, record, setup, step
from tests.inference import detectors
from tests.inference.test_backbone import assert_range

CONVOLUTIONS, PRODUCTS = Manner(), Manner(by_products=True)
BFLOAT16 = Manner('bfloat16')
TOLERANCE = {CONVOLUTIONS: 1e-5, PRODUCTS: 1e-5, BFLOAT16: 1e-2}
SIZE = (32, 40)
# Adaptor, heads, padding.
KINDS = [('linear', 2, 'reflect'), ('mlp', 1, 'zeros')]


@functools.cache
def pixels():
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (4, *SIZE, 3), np.uint8)
  noise[1:] //= np.array([2, 4, 8], np.uint8)[:, None, None, None]
  return noise


@functools.cache
def by_trainer(adaptor, count, padding):
  """Returns maps and scores of trained heads, each on its own, averaged."""
  config = detectors.make_config(adaptor=adaptor, padding=padding)
  extractor = setup.make_extractor(config)
  levels = bank.extract(extractor, detectors.backbone(), pixels())
  recipe = setup.make_recipe(config, extractor.starts)
  like = jax.eval_shape(
    lambda: setup.init_head(
      config, extractor.starts, recipe.optimizer, setup.head_key(0, '')
    )
  )
  patches = []
  for seed in range(count):
    tree = record.unflat(
      detectors.make_head(seed, adaptor),
      {'params': like.params, 'stats': like.stats},
    )
    state = step.HeadState(**tree, opt_state=())
    patches.append(step.patch_scores(recipe, state, levels))
  mean = np.mean(patches, axis=0)
  maps = scoring.anomaly_maps(mean, SIZE, config.evaluation.smoothing)
  return np.asarray(maps), np.asarray(scoring.image_scores(mean))


@functools.cache
def detector(adaptor, count, padding):
  made = detectors.make(adaptor=adaptor, heads=count, padding=padding)
  return made.card.network, made.weights


def run(kind, manner, chosen):
  of, weights = detector(*kind)
  prepared = network.prepare(of, manner, weights)
  maps, scores = map(np.asarray, network.run(of, manner, prepared, chosen))
  assert maps.dtype == scores.dtype == np.float32
  assert maps.shape == (len(chosen), *SIZE)
  assert scores.shape == (len(chosen),)
  return maps, scores


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('manner', TOLERANCE)
def test_maps_and_scores_are_the_trainers(kind, manner):
  expected_maps, expected_scores = by_trainer(*kind)
  maps, scores = run(kind, manner, pixels())
  share = TOLERANCE[manner]
  assert_range(maps, expected_maps, share)
  assert_range(scores, expected_scores, share)
  # So that agreement says something: images differ by more than that.
  assert np.ptp(expected_maps, axis=0).max() > 0.1


@pytest.mark.parametrize('manner', TOLERANCE)
def test_an_image_does_not_depend_on_its_company(manner):
  maps, scores = run(KINDS[0], manner, pixels())
  share = TOLERANCE[manner]
  turned_maps, turned_scores = run(KINDS[0], manner, pixels()[::-1])
  assert_range(turned_maps[::-1], maps, share)
  assert_range(turned_scores[::-1], scores, share)
  for index in range(2):
    alone = slice(index, index + 1)
    one_map, one_score = run(KINDS[0], manner, pixels()[alone])
    assert np.abs(one_map - maps[alone]).max() < share * np.ptp(maps)
    assert np.abs(one_score - scores[alone]).max() < share * np.ptp(scores)


def test_weights_are_prepared_for_their_manner():
  of, weights = detector(*KINDS[0])
  before = {name: value.copy() for name, value in weights.items()}
  products = network.prepare(of, PRODUCTS, weights)
  assert products['layer1.0.conv1.kernel'].shape == (16, 32, 32)
  assert products['layer2.0.conv1.kernel'].shape == (3, 3, 32, 64)
  low = network.prepare(of, BFLOAT16, weights)
  assert {
    name.split('.')[0] for name, value in low.items() if value.dtype != 'f'
  } == {'conv1', 'layer1', 'layer2', 'layer3'}
  for name, value in before.items():
    np.testing.assert_array_equal(weights[name], value)


def test_the_plain_network_is_in_float32_with_its_weights():
  of, weights = detector(*KINDS[0])
  found = jax.jit(network.plain(of, weights))(pixels())
  expected = run(KINDS[0], CONVOLUTIONS, pixels())
  for one, other in zip(found, expected, strict=True):
    assert_range(one, other)
