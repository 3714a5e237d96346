"""Adaptor, discriminator and losses: what SimpleNet trains (paper, 3.2 to 3.4).

The adaptor's last layer and the discriminator's first are both linear, so they
are multiplied into one matrix; it is applied to a coarse level before the level
is resized; noise on the adapted features passes through the discriminator's
first matrix alone. The numbers, gradients included, are those of forming the
adapted features, at less than half the cost.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simplenet_jax.models import resampling
from simplenet_jax.models.discriminator import EPSILON, LEAK, Discriminator
from simplenet_jax.models.layers import linear, matmul

Loss = Callable[[jax.Array, jax.Array, jax.Array, float], jax.Array]

# How many linear layers each adaptor has, with LeakyReLUs between (Table 3).
ADAPTORS = {'linear': 1, 'mlp': 2, 'identity': 0}


class Head(nnx.Module):
  """An adaptor and a discriminator on the pooled levels of a batch."""

  def __init__(
    self,
    dim: int,
    level_offsets: Sequence[int] = (0,),
    *,
    adaptor: str = 'linear',
    adaptor_bias: bool = True,
    hidden: int = 1024,
    precision: str = 'float32',
    kept: str = '',
    rngs: nnx.Rngs,
  ):
    """Builds a head; each level has a patch's dimensions from its offset on.

    In training, hidden units are `kept` in that type; '' is float32.
    """
    self.level_offsets = tuple(level_offsets)
    self.precision, self.kept = precision, kept
    linears = range(ADAPTORS[adaptor])
    made = [linear(dim, dim, bias=adaptor_bias, rngs=rngs) for _ in linears]
    self.adaptor = nnx.List(made)
    self.discriminator = Discriminator(dim, hidden, precision, rngs)

  def __call__(self, levels: Sequence[jax.Array]) -> jax.Array:
    """Returns logits `[batch, H, W]`, positive for normal."""
    return self.discriminator(self._hidden(levels, self.level_offsets))

  def train_logits(
    self,
    levels: Sequence[jax.Array],
    noise: jax.Array,
    valid: jax.Array,
    pasted: jax.Array | None = None,
  ) -> tuple[jax.Array, jax.Array]:
    """Returns logits of patches and of counterfeits, each `[batch, H, W]`.

    `noise`, `[batch, H, W, dim]`, is added to the adapted features (equation
    6); `valid`, `[batch]`, is 1 for images and 0 for padding. `pasted`, patches
    `[batch, count, dim]`, take the place of the counterfeits of the grid's
    first rows, where it has one column.
    """
    # XLA would merge this product with the adaptor's, and copy both factors.
    kernel = jax.lax.optimization_barrier(self.discriminator.first.kernel[...])
    change = matmul(noise, kernel, self.precision, self.kept)
    hidden = self._hidden(levels, self.level_offsets, self.kept)
    if pasted is not None:
      count, whole = pasted.shape[1], [pasted[:, :, None]]
      instead = self._hidden(whole, (0,), self.kept) - hidden[:, :count]
      change = jnp.concatenate([instead, change[:, count:]], axis=1)
    return self.discriminator.train_logits(hidden, change, valid)

  def _hidden(
    self, levels: Sequence[jax.Array], offsets: Sequence[int], kept: str = ''
  ) -> jax.Array:
    """Computes the discriminator's first layer on the adapted features."""
    layers = [*self.adaptor, self.discriminator.first]
    kernels = [layer.kernel[...] for layer in layers]
    biases = [
      jnp.zeros(kernel.shape[1], kernel.dtype) if bias is None else bias[...]
      for kernel, bias in zip(kernels, [x.bias for x in layers], strict=True)
    ]
    if len(layers) > 1:
      last = kernels[-1]
      biases[-2:] = [matmul(biases[-2], last, self.precision) + biases[-1]]
      kernels[-2:] = [matmul(kernels[-2], last, self.precision)]
    x = _project(levels, kernels[0], offsets, self.precision, kept)
    # Before a BatchNorm, a bias has no gradient but rounding.
    biases[-1] = jax.lax.stop_gradient(biases[-1])
    x += biases[0]
    for kernel, bias in zip(kernels[1:], biases[1:], strict=True):
      x = matmul(nnx.leaky_relu(x, LEAK), kernel, self.precision) + bias
    return x.astype(kept) if kept else x


def _project(
  levels: Sequence[Any],
  kernel: Any,
  offsets: Sequence[int],
  precision: str,
  kept: str = '',
) -> jax.Array:
  """Multiplies patches by a matrix, each level before its resize."""
  grid = levels[0].shape[1:3]
  total = 0
  for level, offset in zip(levels, offsets, strict=True):
    rows = kernel[offset : offset + level.shape[-1]]
    part = matmul(level.astype(rows.dtype), rows, precision, kept)
    part = part.astype(rows.dtype)
    total += jax.vmap(lambda x: resampling.resize(x, grid))(part)
  return jnp.asarray(total)


def truncated_l1(
  normal: jax.Array, counterfeit: jax.Array, weights: jax.Array, margin: float
) -> jax.Array:
  """Returns the paper's loss (equation 7); the weights sum to 1."""
  loss = jax.nn.relu(margin - normal) + jax.nn.relu(margin + counterfeit)
  return jnp.sum(weights * loss)


def cross_entropy(
  normal: jax.Array, counterfeit: jax.Array, weights: jax.Array, margin: float
) -> jax.Array:
  """Binary cross-entropy on logits, without margin ("Ours-CE", Table 3)."""
  loss = jax.nn.softplus(-normal) + jax.nn.softplus(counterfeit)
  return jnp.sum(weights * loss)


LOSSES = {'truncated_l1': truncated_l1, 'cross_entropy': cross_entropy}


def fold(heads: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
  """Folds the layers of heads, given by dotted path as they are saved.

  Several heads, whose scores are averaged, become one with the hidden units of
  all. It has a second layer where the adaptor is not linear:

    head.first    kernel [dim, heads * width], bias [heads * width]
    head.second   kernel [heads, width, hidden], bias [heads, hidden]
    head.tail     [heads * hidden], from hidden units to patch scores
  """
  layers, tails = zip(*map(_fold_one, heads), strict=True)
  first, *second = zip(*layers, strict=True)
  weights = {
    'head.first.kernel': np.concatenate([kernel for kernel, _ in first], 1),
    'head.first.bias': np.concatenate([bias for _, bias in first]),
    # The score is the logit's opposite, and the mean over heads.
    'head.tail': np.concatenate(tails) / -len(heads),
  }
  for pairs in second:
    kernels, biases = zip(*pairs, strict=True)
    weights['head.second.kernel'] = np.stack(kernels)
    weights['head.second.bias'] = np.stack(biases)
  return {name: value.astype(np.float32) for name, value in weights.items()}


def _fold_one(head: Mapping[str, np.ndarray]) -> tuple[list, np.ndarray]:
  """Returns a head's linear layers, as few as can be, and its tail."""
  get = {name: np.asarray(value, np.float64) for name, value in head.items()}
  layers = []
  for name in ('adaptor.0', 'adaptor.1', 'discriminator.first'):
    if (kernel := get.get(f'params.{name}.kernel')) is not None:
      no_bias = np.zeros(kernel.shape[1])
      layers.append((kernel, get.get(f'params.{name}.bias', no_bias)))
  kernel, bias = layers.pop()
  if layers:
    before, its_bias = layers.pop()
    kernel, bias = before @ kernel, its_bias @ kernel + bias
  norm, stats = 'params.discriminator.norm', 'stats.discriminator.norm'
  factor = get[f'{norm}.scale'] / np.sqrt(get[f'{stats}.var'] + EPSILON)
  bias = (bias - get[f'{stats}.mean']) * factor + get[f'{norm}.bias']
  layers.append((kernel * factor, bias))
  return layers, get['params.discriminator.tail.kernel'][:, 0]


def apply(
  weights: Mapping[str, jax.Array],
  levels: Sequence[jax.Array],
  level_offsets: Sequence[int],
  precision: str,
) -> jax.Array:
  """Returns patch scores `[batch, H, W]`, float32, by weights from `fold`."""
  kernel = weights['head.first.kernel']
  x = _project(levels, kernel, level_offsets, precision)
  x += weights['head.first.bias']
  if 'head.second.kernel' in weights:
    kernel = weights['head.second.kernel']
    x = _leaky_relu(x).reshape(*x.shape[:3], *kernel.shape[:2])
    x = jax.vmap(lambda x, w: matmul(x, w, precision), (-2, 0), -2)(x, kernel)
    x += weights['head.second.bias']
    x = x.reshape(*x.shape[:3], -1)
  tail = weights['head.tail'][:, None]
  return matmul(_leaky_relu(x), tail, precision)[..., 0]


def _leaky_relu(x: jax.Array) -> jax.Array:
  # Not Flax's, which is a program of its own: ONNX's converter takes none.
  return jax.lax.max(x, LEAK * x)
