"""The training step: the right views, the right network, a loss that falls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simplenet_jax.models import weights
from simplenet_jax.pretraining import augment, evaluate, learner, train
from simplenet_jax.pretraining.network import ResNet


@pytest.fixture(scope='module')
def network():
  model = ResNet('demo_resnet', learner.LEVELS, rngs=nnx.Rngs(0))
  return nnx.split(model, nnx.Param, nnx.BatchStat)


def test_fast_features_equal_the_model(network):
  images = jax.random.normal(jax.random.key(0), (2, 32, 48, 3))
  plain = nnx.merge(*network, copy=True)
  fast = nnx.merge(*network, copy=True)
  expected = plain(images)
  for ours, theirs in zip(
    learner.features(fast, images), expected, strict=True
  ):
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
  moved = nnx.state(fast, nnx.BatchStat)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    moved,
    nnx.state(plain, nnx.BatchStat),
  )


def test_batch_statistics_are_those_of_the_batch(network):
  graph, params, stats = network
  images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
  found = learner.batch_statistics(graph, params, stats, images)
  model = nnx.merge(graph, params, stats, copy=True)
  stem = model.conv1(augment.normalise(jnp.asarray(images) / 255))
  np.testing.assert_allclose(
    found['bn1']['mean'][...], stem.mean((0, 1, 2)), atol=1e-4
  )
  np.testing.assert_allclose(
    found['bn1']['var'][...], stem.var((0, 1, 2)), rtol=1e-3
  )


@pytest.mark.slow
def test_training_learns_and_writes_loadable_weights(tmp_path):
  options = train.Options('demo_resnet', 0, 4, 2, 12, 8, 2e-3)
  path = train.run(tmp_path, options, 12)
  loaded = weights.load(str(path), 'demo_resnet', learner.LEVELS)
  assert path.stat().st_size < 6_000_000
  figures = evaluate.judge(path, loaded.state, 2, 4)
  assert figures['training']['steps_done'] == '12'
  assert 0 <= figures['held_out']['image_auroc']['mean'] <= 1


@pytest.mark.slow
def test_loss_falls_on_one_batch():
  tx = learner.optimizer(2e-3, 40)
  graph, state = learner.initialise('demo_resnet', 2, 0, tx)
  rng = np.random.default_rng(0)
  classes = np.arange(8, dtype=np.int32) % 2
  images = rng.integers(0, 60, (8, 128, 128, 3), np.uint8)
  images[classes == 1, ::8] = 255
  kinds = np.zeros((8, 32, 32), np.uint8)
  losses = []
  for _ in range(30):
    state, parts = learner.train_step(
      graph, state, tx, jax.random.key(0), images, classes, kinds
    )
    losses.append(float(parts['class3']))
  assert losses[0] == pytest.approx(np.log(2), abs=0.05)
  assert losses[-1] < 0.5 * losses[0]
