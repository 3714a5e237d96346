import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simplenet_jax import protocols
from simplenet_jax.training import bank, loop, setup, step

STARTS = (0, 3)


def make_config():
  config = protocols.reference()
  config.patch.target_dim = 8
  config.head.hidden = 6
  config.train.batch_size = 4
  config.train.sigma = 0.5
  return config


CONFIG = make_config()
RECIPE = setup.make_recipe(CONFIG, STARTS)


def make_bank(count=10, capacity=12, seed=0):
  rng = np.random.default_rng(seed)
  shapes = ((capacity, 4, 4, 3), (capacity, 2, 2, 5))
  return bank.Bank(
    tuple(jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes), count
  )


def start(seeds, category='part'):
  keys = setup.head_keys(seeds, category)
  return setup.init_heads(CONFIG, STARTS, RECIPE.optimizer, keys), keys


def train(seeds, cuts=(6,), features=None, category='part'):
  states, keys = start(seeds, category)
  features = features or make_bank()
  losses, first = [], 0
  for epochs in cuts:
    states, metrics = loop.train_heads(
      RECIPE, states, features, keys, jnp.int32(first), epochs=epochs
    )
    losses.append(metrics.loss)
    first += epochs
  return states, np.concatenate(losses, axis=1)


def assert_equal(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_an_epoch_sees_every_image_once():
  indices, valid = loop.batch_plan(jax.random.key(0), 10, 4)
  assert indices.shape == (3, 4)
  seen = np.asarray(indices)[np.asarray(valid) == 1]
  np.testing.assert_array_equal(np.sort(seen), np.arange(10))
  assert not np.array_equal(seen, np.arange(10))


def test_a_schedule_can_be_cut_anywhere():
  whole, losses = train((0, 1))
  cut, cut_losses = train((0, 1), cuts=(1, 3, 2))
  assert losses.shape == (2, 6, 3)
  np.testing.assert_array_equal(losses, cut_losses)
  assert_equal(whole, cut)


def test_same_seed_same_head_other_seed_other_head():
  first, losses = train((3,))
  again, _ = train((3,))
  assert_equal(first, again)
  _, other = train((4,))
  _, elsewhere = train((3,), category='other part')
  assert not np.array_equal(losses, other)
  assert not np.array_equal(losses, elsewhere)


def test_a_head_does_not_depend_on_its_neighbours():
  with_one, losses = train((0, 1, 2))
  with_other, other_losses = train((0, 5, 2))
  np.testing.assert_array_equal(losses[[0, 2]], other_losses[[0, 2]])
  for head in (0, 2):
    assert_equal(
      jax.tree.map(lambda leaf, head=head: leaf[head], with_one.params),
      jax.tree.map(lambda leaf, head=head: leaf[head], with_other.params),
    )
  _, alone = train((0,))
  np.testing.assert_allclose(alone[0], losses[0], atol=1e-4)


def test_rows_behind_the_last_image_are_never_read():
  features = make_bank()
  poisoned = bank.Bank(
    tuple(level.at[features.count :].set(jnp.nan) for level in features.levels),
    features.count,
  )
  states, losses = train((0,), features=features)
  poisoned_states, poisoned_losses = train((0,), features=poisoned)
  np.testing.assert_array_equal(losses, poisoned_losses)
  assert_equal(states, poisoned_states)


def test_training_separates_normal_patches_from_counterfeits():
  config = make_config()
  config.train.sigma = 2.0
  config.train.discriminator.learning_rate = 0.02
  recipe = setup.make_recipe(config, STARTS)
  keys = setup.head_keys((0,), 'part')
  states = setup.init_heads(config, STARTS, recipe.optimizer, keys)
  _, metrics = loop.train_heads(
    recipe, states, make_bank(), keys, jnp.int32(0), epochs=60
  )
  assert metrics.loss[0, -1].mean() < 0.7 * metrics.loss[0, 0].mean()


def test_scores_are_those_of_each_head_on_each_image():
  states, _ = train((0, 1))
  features = make_bank()
  scores = loop.score_heads(RECIPE, states, features, batch_size=3)
  assert scores.shape == (2, 10, 4, 4)
  for head in range(2):
    state = jax.tree.map(lambda leaf, head=head: leaf[head], states)
    alone = step.patch_scores(
      RECIPE, state, [level[:10] for level in features.levels]
    )
    np.testing.assert_allclose(scores[head], alone, atol=1e-5)


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('loss', 'l2', r"--config\.train\.loss is 'l2'; choose one of"),
    ('adaptor.optimizer', 'sgd', "'sgd'; choose 'adam' or 'adamw'"),
  ],
)
def test_unknown_names_are_refused(field, value, message):
  config = make_config()
  section = config.train
  *parents, name = field.split('.')
  for parent in parents:
    section = section[parent]
  section[name] = value
  with pytest.raises(ValueError, match=message):
    setup.make_recipe(config, STARTS)
