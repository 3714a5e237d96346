import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from simplenet_jax.config import from_protocol
from simplenet_jax.models import head as heads
from simplenet_jax.training import step
from simplenet_jax.training.progress import flat, unflat

ROWS, DIM, HIDDEN = 32, 24, 16
BLOCK = 'discriminator.body.block1'
NAMES = {
  'params.adaptor.0.kernel': 'adaptor.layers.0fc.weight',
  'params.adaptor.0.bias': 'adaptor.layers.0fc.bias',
  'params.discriminator.first.kernel': f'{BLOCK}.0.weight',
  'params.discriminator.first.bias': f'{BLOCK}.0.bias',
  'params.discriminator.norm.scale': f'{BLOCK}.1.weight',
  'params.discriminator.norm.bias': f'{BLOCK}.1.bias',
  'params.discriminator.tail.kernel': 'discriminator.tail.weight',
  'stats.discriminator.norm.mean': f'{BLOCK}.1.running_mean',
  'stats.discriminator.norm.var': f'{BLOCK}.1.running_var',
}


def from_torch(golden, prefix, dtype):
  """Returns what a recorded torch state dict is in a head, by name."""
  return {
    name: np.asarray(golden[prefix + theirs], dtype).T
    for name, theirs in NAMES.items()
  }


def train(golden, dtype):
  """Repeats the recorded steps; each row of features is an image of 1 x 1."""
  config = from_protocol()
  config.patch.target_dim, config.head.hidden = DIM, HIDDEN
  recipe = step.make_recipe(config, (0,))
  fresh = jax.eval_shape(lambda: step.init_head(recipe, step.head_key(0, '')))
  start = unflat(from_torch(golden, '', dtype), fresh.weights_to_score)
  optimizer = recipe.optimizer.init(start['params'])
  state = step.HeadState(**start, opt_state=optimizer)
  features, noise = (
    jnp.asarray(golden[name], dtype)[:, :, None, None]
    for name in ('features', 'noise')
  )
  valid = (np.arange(ROWS) < golden['rows'][:, None]).astype(dtype)

  def one_step(state, inputs):
    features, valid, noise = inputs
    return step.train_step(recipe, state, [features], valid, noise)

  state, metrics = jax.jit(lambda *inputs: jax.lax.scan(one_step, *inputs))(
    state, (features, valid, noise)
  )
  return state, metrics, step.patch_scores(recipe, state, [features[0]])


@pytest.mark.parametrize('name', ['head_training', 'head_training_partial'])
def test_forty_steps_match_released_code(shared, name):
  golden = np.load(shared(f'golden/{name}.npz'))
  with jax.enable_x64(True):
    state, metrics, scores = train(golden, jnp.float64)
    expected = [golden[name] for name in ('losses', 'p_true', 'p_fake')]
    np.testing.assert_allclose(metrics.T, expected, atol=1e-12)
    np.testing.assert_allclose(
      np.ravel(scores), golden['final_scores'], atol=1e-9
    )
    found = flat(state.weights_to_score)
    for name, value in from_torch(golden, 'final.', np.float64).items():
      np.testing.assert_allclose(found[name], value, atol=1e-9)
  _, metrics, _ = train(golden, jnp.float32)
  np.testing.assert_allclose(metrics[:, 0], golden['losses'], atol=1e-5)


@pytest.mark.parametrize('name', ['adam', 'adamw'])
def test_optimizers_match_torch(name):
  values = np.linspace(-1, 1, 7)
  parameter = torch.nn.Parameter(torch.tensor(values))
  kind = {'adam': torch.optim.Adam, 'adamw': torch.optim.AdamW}[name]
  theirs = kind([parameter], lr=0.1, weight_decay=0.3)
  with jax.enable_x64(True):
    ours, x = step.make_optimizer(name, 0.1, 0.3), jnp.asarray(values)
    state = ours.init(x)
    for _ in range(5):
      theirs.zero_grad()
      (parameter**4).sum().backward()
      theirs.step()
      updates, state = ours.update(4 * x**3, state, x)
      x = x + updates
  np.testing.assert_allclose(x, parameter.detach().numpy(), atol=1e-10)


def test_losses_match_torch_and_equation_7():
  bce = torch.nn.functional.binary_cross_entropy_with_logits
  normal, counterfeit = np.random.default_rng(0).normal(size=(2, 24))
  normal, counterfeit = normal.astype('f'), counterfeit.astype('f')
  expected = bce(torch.tensor(normal), torch.ones(24))
  expected += bce(torch.tensor(counterfeit), torch.zeros(24))
  loss = heads.cross_entropy(normal, counterfeit, 1 / 24, 0.5)
  np.testing.assert_allclose(loss, expected.item(), rtol=1e-6)
  hinges = np.maximum(0, 0.5 - normal) + np.maximum(0, 0.5 + counterfeit)
  loss = heads.truncated_l1(normal, counterfeit, 1 / 24, 0.5)
  np.testing.assert_allclose(loss, hinges.mean(), rtol=1e-6)
