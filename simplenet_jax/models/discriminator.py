"""The discriminator: what tells counterfeit patches from normal ones.

It is a linear layer, BatchNorm, a LeakyReLU and a linear layer to one logit
(paper, 3.3). In training all behind the first layer is one operator with a
derivative of its own. The hidden units of normal patches and what the noise
adds to them are all that it reads and keeps, twice forwards and twice
backwards: passes over them, not products, take most of a step on a GPU.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from simplenet_jax.models.layers import linear, matmul

LEAK = 0.2
EPSILON = 1e-5  # Of BatchNorm.
_MOMENTUM = 0.1  # torch's: what a batch counts in the running statistics.


class BatchNorm(nnx.Module):
  """torch's `BatchNorm1d` with its running statistics."""

  def __init__(self, features: int):
    self.scale = nnx.Param(jnp.ones(features))
    self.bias = nnx.Param(jnp.zeros(features))
    self.mean = nnx.BatchStat(jnp.zeros(features))
    self.var = nnx.BatchStat(jnp.ones(features))

  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises `[..., features]` with the running statistics."""
    factor = self.scale[...] * jax.lax.rsqrt(self.var[...] + EPSILON)
    return (x - self.mean[...]) * factor + self.bias[...]

  def move(self, mean: jax.Array, var: jax.Array, count: jax.Array) -> None:
    """Moves the running statistics towards those of a batch of `count` rows."""
    for stat, value in (
      (self.mean, mean),
      (self.var, var * count / (count - 1)),  # Unbiased, as torch's.
    ):
      stat[...] += _MOMENTUM * (jax.lax.stop_gradient(value) - stat[...])


class Discriminator(nnx.Module):
  """Linear, BatchNorm, LeakyReLU, linear to one logit without a bias."""

  def __init__(self, inputs: int, hidden: int, precision: str, rngs: nnx.Rngs):
    self.precision = precision
    self.first = linear(inputs, hidden, bias=True, rngs=rngs)
    self.norm = BatchNorm(hidden)
    self.tail = linear(hidden, 1, bias=False, rngs=rngs)

  def __call__(self, hidden: jax.Array) -> jax.Array:
    """Returns logits `[...]` of what the first layer gave, `[..., hidden]`."""
    active = nnx.leaky_relu(self.norm(hidden), LEAK)
    return matmul(active, self.tail.kernel[...], self.precision)[..., 0]

  def train_logits(
    self, hidden: jax.Array, noise: jax.Array, valid: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Returns logits of patches and of counterfeits, each `[batch, H, W]`.

    What the first layer gave of patches, and gives of the noise on them, are
    `[batch, H, W, hidden]`; `valid`, `[batch]`, is 1 for images and 0 for
    padding. Moves the running statistics.
    """
    norm, tail = self.norm, self.tail.kernel[...][:, 0]
    normal, counterfeit, mean, var = _logits(
      *(hidden, noise, valid, norm.scale[...], norm.bias[...], tail)
    )
    norm.move(mean, var, _count(hidden, valid))
    return normal, counterfeit


def _count(hidden: jax.Array, valid: jax.Array) -> jax.Array:
  """Returns how many rows there are: patches that count, and counterfeits."""
  return 2 * jnp.sum(valid) * (hidden.size // valid.size // hidden.shape[-1])


@jax.custom_vjp
def _logits(hidden, noise, valid, scale, bias, tail):
  """Returns both kinds of logits, and the batch's mean and variance."""
  return _forward(hidden, noise, valid, scale, bias, tail)[0]


def _forward(hidden, noise, valid, scale, bias, tail):
  # Else XLA would keep other arrays than these, larger or more.
  hidden, noise = jax.lax.optimization_barrier((hidden, noise))
  wide = jnp.promote_types(hidden.dtype, jnp.float32)
  normal = hidden.astype(wide)
  counterfeit = normal + noise.astype(wide)
  # Moments in one pass. They are taken about the first image's mean, which is
  # close by: squares far from zero would hide a small variance.
  about = jnp.mean(normal[0], (0, 1))
  counts, count = valid[:, None, None, None], _count(hidden, valid)
  near, far, rows = normal - about, counterfeit - about, (0, 1, 2)
  first = jnp.sum(counts * (near + far), rows) / count
  second = jnp.sum(counts * (jnp.square(near) + jnp.square(far)), rows) / count
  mean, var = about + first, jnp.maximum(second - jnp.square(first), 0)
  inverse = jax.lax.rsqrt(var + EPSILON)

  def logits(x):
    x = (x - mean) * (inverse * scale) + bias
    return jnp.sum(jnp.where(x >= 0, tail, LEAK * tail) * x, -1)

  saved = hidden, noise, valid, mean, inverse, scale, bias, tail
  return (logits(normal), logits(counterfeit), mean, var), saved


def _backward(saved, gradients):
  hidden, noise, valid, mean, inverse, scale, bias, tail = saved
  wide = jnp.promote_types(hidden.dtype, jnp.float32)
  normal, rows = hidden.astype(wide), (0, 1, 2)

  def parts(x, gradient):
    """Returns rows normalised, and gradients of what follows and the tail."""
    unit = (x - mean) * inverse
    x = unit * scale + bias
    along = gradient[..., None] * jnp.where(x >= 0, 1, LEAK).astype(wide)
    return unit, along * tail, along * x

  # The statistics are not differentiated, beyond what they do to the logits.
  one = parts(normal, gradients[0])
  other = parts(normal + noise.astype(wide), gradients[1])
  d_bias = jnp.sum(one[1] + other[1], rows)
  d_scale = jnp.sum(one[0] * one[1] + other[0] * other[1], rows)
  d_tail = jnp.sum(one[2] + other[2], rows)
  counts, count = valid[:, None, None, None], _count(hidden, valid)
  d_normal, d_counterfeit = (
    inverse * scale * (d - counts * (d_bias + unit * d_scale) / count)
    for unit, d, _ in (one, other)
  )
  d_hidden = (d_normal + d_counterfeit).astype(hidden.dtype)
  d_noise = d_counterfeit.astype(noise.dtype)
  if hidden.dtype != wide:  # The same of gradients.
    d_hidden, d_noise = jax.lax.optimization_barrier((d_hidden, d_noise))
  return d_hidden, d_noise, jnp.zeros_like(valid), d_scale, d_bias, d_tail


_logits.defvjp(_forward, _backward)
