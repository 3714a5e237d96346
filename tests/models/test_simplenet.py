"""Anomaly maps against the released code; detectors against training's path."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simplenet_jax.models import backbone, simplenet
from simplenet_jax.training import progress, step
from tests.detection import detectors
from tests.detection.detectors import assert_range

# Precision, and how kernels are stored.
CONVOLUTIONS, PRODUCTS = ('float32', 'plain'), ('float32', 'winograd')
ROWS = ('float32', 'rows')
BFLOAT16 = ('bfloat16', 'plain')
SIZE = (32, 40)
# Adaptor, heads, padding, architecture.
KINDS = [
  ('linear', 1, 'reflect', detectors.RESNET),
  ('mlp', 2, 'zeros', detectors.RESNET),
  ('linear', 1, 'zeros', detectors.LITE0),
]


@functools.cache
def pixels():
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (4, *SIZE, 3), np.uint8)
  noise[1:] //= np.array([2, 4, 8], np.uint8)[:, None, None, None]
  return noise


@functools.cache
def by_trainer(adaptor, count, padding, architecture):
  """Returns maps and scores of trained heads, each on its own, averaged."""
  config = detectors.make_config(0, adaptor, padding, architecture)
  network = simplenet.FeatureNetwork.of(config)
  weights = detectors.backbone((2, 3), architecture)
  features = jax.jit(simplenet.features, static_argnums=0)
  levels = features(network, weights, pixels())
  recipe = step.make_recipe(config, network.level_offsets)
  fresh = jax.eval_shape(lambda: step.init_head(recipe, step.head_key(0, '')))
  patches = []
  for seed in range(count):
    leaves = detectors.make_head(seed, adaptor)
    tree = progress.unflat(leaves, fresh.weights_to_score)
    state = step.HeadState(**tree, opt_state=())
    patches.append(step.patch_scores(recipe, state, levels))
  mean = np.mean(patches, axis=0)
  maps = simplenet.anomaly_maps(mean, SIZE, config.evaluation.smoothing)
  return np.asarray(maps), np.asarray(simplenet.image_scores(mean))


def run(kind, mode, chosen):
  names = 'adaptor', 'heads', 'padding', 'architecture'
  made = detectors.make(**dict(zip(names, kind, strict=True)))
  prepared = simplenet.prepare(made.card.network, made.weights, *mode)
  found = simplenet.run(made.card.network, prepared, chosen, mode[0])
  maps, scores = map(np.asarray, found)
  assert maps.dtype == scores.dtype == np.float32
  assert (maps.shape, len(scores)) == ((len(chosen), *SIZE), len(chosen))
  return maps, scores


@pytest.mark.parametrize(
  ('kind', 'mode', 'share'),
  [
    (KINDS[0], CONVOLUTIONS, 1e-5),
    (KINDS[1], PRODUCTS, 1e-5),
    # A random ResNet18 of half the width had below 3 %, this one has 3.2 %.
    (KINDS[0], BFLOAT16, 3.5e-2),
    (KINDS[2], PRODUCTS, 1e-5),
    (KINDS[2], ROWS, 1e-5),
  ],
)
def test_maps_and_scores_are_the_trainers(kind, mode, share):
  expected = by_trainer(*kind)
  for found, value in zip(run(kind, mode, pixels()), expected, strict=True):
    assert_range(found, value, share)
  # So that agreement says something: images differ by more than that.
  assert np.ptp(expected[0], axis=0).max() > 0.1


@pytest.mark.parametrize('name', ['resnet18', 'efficientnet_lite0'])
def test_arithmetic_normalises_as_the_table_does(name):
  table = backbone.ARCHITECTURES[name].table
  every = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
  found = simplenet.by_arithmetic(jnp.asarray(every), table)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, table, atol=1e-6)
  # Here, it is the table.
  looked_up = jax.jit(functools.partial(simplenet.normalized, table=table))(
    every
  )
  np.testing.assert_array_equal(looked_up, table)


@pytest.mark.parametrize(
  ('mode', 'share'), [(PRODUCTS, 1e-5), (BFLOAT16, 2e-2)]
)
def test_an_image_does_not_depend_on_its_company(mode, share):
  together = run(KINDS[0], mode, pixels())
  turned = run(KINDS[0], mode, pixels()[::-1])
  alone = [run(KINDS[0], mode, pixels()[i : i + 1]) for i in range(4)]
  for index, whole in enumerate(together):
    assert_range(turned[index][::-1], whole, share)
    assert_range(np.concatenate([one[index] for one in alone]), whole, share)


def test_anomaly_maps_match_released_code(shared):
  golden = np.load(shared('golden/anomaly_maps.npz'))
  size = tuple(map(int, golden['target_size']))
  maps = simplenet.anomaly_maps(golden['patch_scores'], size)
  np.testing.assert_allclose(maps, golden['anomaly_maps'], atol=1e-5)
  scores = simplenet.image_scores(golden['patch_scores'])
  np.testing.assert_array_equal(scores, golden['image_scores'])
