import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simplenet_jax.models import head as heads
from simplenet_jax.models.head import Head
from simplenet_jax.training import step

STEPS, ROWS, DIM, HIDDEN = 40, 32, 24, 16


def from_torch(golden, prefix, dtype):
  """Arranges a recorded torch state dict as parameters and statistics."""

  def get(name):
    return jnp.asarray(golden[prefix + name], dtype)

  block = 'discriminator.body.block1.'
  params = {
    'adaptor': {
      0: {
        'kernel': get('adaptor.layers.0fc.weight').T,
        'bias': get('adaptor.layers.0fc.bias'),
      }
    },
    'discriminator': {
      'first': {
        'kernel': get(block + '0.weight').T,
        'bias': get(block + '0.bias'),
      },
      'norm': {'scale': get(block + '1.weight'), 'bias': get(block + '1.bias')},
      'tail': {'kernel': get('discriminator.tail.weight').T},
    },
  }
  norm = {
    'mean': get(block + '1.running_mean'),
    'var': get(block + '1.running_var'),
  }
  return params, {'discriminator': {'norm': norm}}


def train(golden, dtype):
  """Repeats the recorded steps; each row of features is an image of 1 x 1."""
  head = Head(DIM, hidden=HIDDEN, dtype=dtype, rngs=nnx.Rngs(0))
  names = ('optimizer', 'learning_rate', 'weight_decay')
  optimizer = step.join_optimizers(
    adaptor=tuple(zip(names, ('adamw', 1e-4, 1e-2), strict=True)),
    discriminator=tuple(zip(names, ('adam', 2e-4, 1e-5), strict=True)),
  )
  recipe = step.Recipe(
    new_head=lambda rngs: head,
    graph=step.split(head)[0],
    dim=DIM,
    optimizer=optimizer,
    loss=heads.truncated_l1,
    margin=0.5,
  )
  params, stats = from_torch(golden, '', dtype)
  state = step.HeadState(params, stats, optimizer.init(params))
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
    expected = from_torch(golden, 'final.', jnp.float64)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9),
      (state.params, state.stats),
      expected,
    )
  _, metrics, _ = train(golden, jnp.float32)
  np.testing.assert_allclose(metrics[:, 0], golden['losses'], atol=1e-5)


def test_cross_entropy_matches_torch():
  torch = pytest.importorskip('torch')
  bce = torch.nn.functional.binary_cross_entropy_with_logits
  normal, counterfeit = np.random.default_rng(0).normal(size=(2, 24))
  normal, counterfeit = normal.astype('f'), counterfeit.astype('f')
  expected = bce(torch.tensor(normal), torch.ones(24))
  expected += bce(torch.tensor(counterfeit), torch.zeros(24))
  loss = heads.cross_entropy(normal, counterfeit, 1 / 24, 0.5)
  np.testing.assert_allclose(loss, expected.item(), rtol=1e-6)
