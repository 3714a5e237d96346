import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from simplenet_jax.models import patches
from simplenet_jax.models.head import ADAPTORS, Head, apply, fold
from simplenet_jax.training import step
from simplenet_jax.training.progress import flat
from tests.detection.detectors import assert_range

DIM, HIDDEN = 12, 10
STARTS = (0, 5)
LEVELS = [
  np.random.default_rng(level).normal(size=(3, *grid, count)).astype('f')
  for level, (grid, count) in enumerate((((6, 4), 5), ((3, 2), 7)))
]
JOINED = np.stack(
  [
    np.asarray(patches.merge(image, STARTS, DIM))
    for image in zip(*LEVELS, strict=True)
  ]
)


def make_head(seed=0, **kwargs):
  return Head(DIM, STARTS, hidden=HIDDEN, rngs=nnx.Rngs(seed), **kwargs)


def torch_linear(layer):
  kernel = torch.tensor(np.asarray(layer.kernel[...]))
  linear = torch.nn.Linear(*kernel.shape, bias=layer.bias is not None)
  linear.weight.data = kernel.T.contiguous()
  if layer.bias is not None:
    linear.bias.data = torch.tensor(np.asarray(layer.bias[...]))
  return linear


def torch_head(head):
  """The same head as torch modules: adaptor, body with BatchNorm, tail."""
  layers = []
  for layer in head.adaptor:
    layers += [torch_linear(layer), torch.nn.LeakyReLU(0.2)]
  discriminator = head.discriminator
  body = torch.nn.Sequential(
    torch_linear(discriminator.first),
    torch.nn.BatchNorm1d(HIDDEN),
    torch.nn.LeakyReLU(0.2),
    torch_linear(discriminator.tail),
  )
  return torch.nn.Sequential(*layers[:-1]), body


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('adaptor', ADAPTORS)
def test_training_matches_torch(adaptor, bias):
  head = make_head(adaptor=adaptor, adaptor_bias=bias)
  adapt, body = torch_head(head)
  noise = np.random.default_rng(9).normal(size=JOINED.shape).astype('f')
  adapted = adapt(torch.tensor(JOINED).reshape(-1, DIM))
  noisy = adapted + torch.tensor(noise).reshape(-1, DIM)
  expected = body(torch.cat([adapted, noisy])).detach().reshape(2, 3, 6, 4)

  normal, counterfeit = head.train_logits(LEVELS, noise, jnp.ones(3))

  np.testing.assert_allclose(normal, expected[0], atol=2e-5)
  np.testing.assert_allclose(counterfeit, expected[1], atol=2e-5)
  norm = head.discriminator.norm
  np.testing.assert_allclose(norm.mean[...], body[1].running_mean, atol=1e-6)
  np.testing.assert_allclose(norm.var[...], body[1].running_var, atol=1e-6)
  body.eval()
  scores = body(adapt(torch.tensor(JOINED).reshape(-1, DIM))).detach()
  np.testing.assert_allclose(head(LEVELS), scores.reshape(3, 6, 4), atol=2e-5)


@pytest.mark.parametrize('adaptor', ADAPTORS)
def test_pasted_patches_are_counterfeits_as_they_are(adaptor):
  """They pass the adaptor without noise, and count in the statistics."""
  head, rng = make_head(adaptor=adaptor), np.random.default_rng(9)
  adapt, body = torch_head(head)
  rows = JOINED.reshape(3, -1, DIM)
  noise = rng.normal(size=rows.shape).astype('f')
  pasted = rng.normal(size=(3, 2, DIM)).astype('f')
  adapted = adapt(torch.tensor(rows).reshape(-1, DIM)).reshape(rows.shape)
  noisy = adapted + torch.tensor(noise)
  noisy[:, :2] = adapt(torch.tensor(pasted).reshape(-1, DIM)).reshape(3, 2, DIM)
  both = torch.cat([adapted, noisy]).reshape(-1, DIM)
  expected = body(both).detach().reshape(2, 3, -1)

  # One column, as patches are drawn; a single level of all dimensions.
  head.level_offsets = (0,)
  columns = [rows[:, :, None]], noise[:, :, None]
  found = head.train_logits(*columns, jnp.ones(3), jnp.asarray(pasted))

  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one[..., 0], other, atol=3e-5)
  mean = head.discriminator.norm.mean[...]
  np.testing.assert_allclose(mean, body[1].running_mean, atol=1e-6)


def test_padding_of_a_short_batch_changes_nothing():
  noise = np.random.default_rng(9).normal(size=JOINED.shape).astype('f')
  whole, short = make_head(), make_head()
  padded = [
    np.where(np.arange(3)[:, None, None, None] < 2, x, 7) for x in LEVELS
  ]
  valid = jnp.array([1.0, 1.0, 0.0])
  with_padding = whole.train_logits(padded, noise, valid)
  alone = short.train_logits([x[:2] for x in LEVELS], noise[:2], jnp.ones(2))
  for a, b in zip(with_padding, alone, strict=True):
    np.testing.assert_allclose(a[:2], b, atol=1e-5)
  for name in ('mean', 'var'):
    a, b = (getattr(h.discriminator.norm, name)[...] for h in (whole, short))
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_hidden_units_can_be_kept_in_halves():
  """Logits and gradients are those of float32, but for what is rounded."""
  noise = np.random.default_rng(9).normal(size=JOINED.shape).astype('f')

  def run(**how):
    graph, params, stats = step.split(make_head(**how))

    def total(params):
      head = nnx.merge(graph, params, stats)
      logits = head.train_logits(LEVELS, noise, jnp.ones(3))
      return jnp.sum(jnp.square(jnp.stack(logits))), jnp.stack(logits)

    gradients, logits = jax.grad(total, has_aux=True)(params)
    return logits, gradients['adaptor'][0]['kernel']

  halves = {'precision': 'bfloat16', 'kept': 'bfloat16'}
  for exact, rounded in zip(run(), run(**halves), strict=True):
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.02


def test_initial_weights_have_torchs_distributions():
  head = Head(256, hidden=192, rngs=nnx.Rngs(0))
  kernel = np.asarray(head.adaptor[0].kernel[...])
  np.testing.assert_allclose(kernel.std(), (2 / 512) ** 0.5, rtol=0.02)
  # Untruncated: about 1 in 16,000 values of a normal lies beyond 4 sigma.
  assert np.abs(kernel).max() > 3.5 * kernel.std()
  bias = np.asarray(head.discriminator.first.bias[...])
  assert np.abs(bias).max() <= 256**-0.5
  np.testing.assert_allclose(bias.std(), 256**-0.5 / 3**0.5, rtol=0.15)
  assert head.discriminator.tail.bias is None


def leaves_of(head):
  """Returns a head's leaves as a finished head is saved, statistics drawn."""
  rng = np.random.default_rng(3)
  head.discriminator.norm.mean[...] = rng.normal(size=HIDDEN)
  head.discriminator.norm.var[...] = rng.uniform(0.5, 2, HIDDEN)
  _, params, stats = step.split(head)
  return flat({'params': params, 'stats': stats})


def folded_scores(heads):
  return np.asarray(apply(fold(heads), LEVELS, STARTS, 'float32'))


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('adaptor', ADAPTORS)
def test_folded_heads_score_as_trained_ones_and_on_average(adaptor, bias):
  heads = [
    make_head(adaptor=adaptor, adaptor_bias=bias, seed=s) for s in range(3)
  ]
  leaves = [leaves_of(head) for head in heads]
  expected = [-np.asarray(head(LEVELS)) for head in heads]
  assert_range(folded_scores(leaves[:1]), expected[0])
  assert np.ptp(expected, axis=0).max() > 0.1  # They differ.
  assert_range(folded_scores(leaves), np.mean(expected, axis=0))
  assert ('head.second.kernel' in fold(leaves)) == (adaptor == 'mlp')
