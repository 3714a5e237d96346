"""The two training losses of the paper, and what is logged beside them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

Loss = Callable[[jax.Array, jax.Array, jax.Array, float], jax.Array]


def truncated_l1(
  normal: jax.Array, counterfeit: jax.Array, weights: jax.Array, margin: float
) -> jax.Array:
  """Returns the paper's loss (equation 7); the weights sum to 1."""
  return jnp.sum(
    weights * (jax.nn.relu(margin - normal) + jax.nn.relu(margin + counterfeit))
  )


def cross_entropy(
  normal: jax.Array, counterfeit: jax.Array, weights: jax.Array, margin: float
) -> jax.Array:
  """Binary cross-entropy on logits, without margin ("Ours-CE", Table 3)."""
  del margin
  loss = optax.sigmoid_binary_cross_entropy
  return jnp.sum(
    weights
    * (
      loss(normal, jnp.ones_like(normal))
      + loss(counterfeit, jnp.zeros_like(counterfeit))
    )
  )


LOSSES: dict[str, Loss] = {
  'truncated_l1': truncated_l1,
  'cross_entropy': cross_entropy,
}


def shares_beyond_margin(
  normal: jax.Array, counterfeit: jax.Array, weights: jax.Array, margin: float
) -> tuple[jax.Array, jax.Array]:
  """Returns the released code's `p_true` and `p_fake`."""
  return (
    jnp.sum(weights * (normal >= margin)),
    jnp.sum(weights * (counterfeit < -margin)),
  )
