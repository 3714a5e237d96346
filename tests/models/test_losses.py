import jax.numpy as jnp
import numpy as np
import pytest
import torch

from simplenet_jax.models import losses

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(2, 3, 4)).astype(np.float32)
COUNTERFEIT = RNG.normal(size=(2, 3, 4)).astype(np.float32)
EVENLY = np.float32(1 / NORMAL.size)


def test_truncated_l1_matches_equation_7():
  expected = (
    np.maximum(0, 0.5 - NORMAL).mean() + np.maximum(0, 0.5 + COUNTERFEIT).mean()
  )
  loss = losses.truncated_l1(NORMAL, COUNTERFEIT, EVENLY, 0.5)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_cross_entropy_matches_torch():
  bce = torch.nn.functional.binary_cross_entropy_with_logits
  normal, counterfeit = torch.tensor(NORMAL), torch.tensor(COUNTERFEIT)
  expected = bce(normal, torch.ones_like(normal)) + bce(
    counterfeit, torch.zeros_like(counterfeit)
  )
  loss = losses.cross_entropy(NORMAL, COUNTERFEIT, EVENLY, 0.5)
  np.testing.assert_allclose(loss, expected.item(), rtol=1e-6)


@pytest.mark.parametrize('name', sorted(losses.LOSSES))
def test_images_of_weight_zero_do_not_count(name):
  weights = np.array([1 / 12, 0], np.float32)[:, None, None]
  first = losses.LOSSES[name](NORMAL, COUNTERFEIT, weights, 0.5)
  changed = NORMAL.copy()
  changed[1] += 3
  second = losses.LOSSES[name](changed, COUNTERFEIT, weights, 0.5)
  alone = losses.LOSSES[name](NORMAL[:1], COUNTERFEIT[:1], 1 / 12, 0.5)
  assert first == second
  np.testing.assert_allclose(first, alone, rtol=1e-6)


def test_shares_count_patches_beyond_their_margins():
  normal = jnp.array([0.4, 0.5, 0.6, 2.0])
  counterfeit = jnp.array([-0.4, -0.5, -0.6, 2.0])
  shares = losses.shares_beyond_margin(normal, counterfeit, 0.25, 0.5)
  np.testing.assert_allclose(shares, [0.75, 0.25])
