"""Adaptor and discriminator: what SimpleNet trains (paper, 3.2 and 3.4).

A head reads patch features level by level, each at its own resolution. The
adaptor's last layer and the discriminator's first are both linear, so they are
multiplied into one matrix; that matrix is applied to a coarse level before the
level is resized; and noise on the adapted features passes through the
discriminator's first matrix alone. The numbers, gradients included, are those
of forming the adapted features, at less than half the cost.

Detectors take trained heads as `fold` leaves them, BatchNorm included. An
ensemble of heads, whose scores are averaged, is one head with the hidden units
of all of them. Folded weights are a flat dictionary:

  head.first.kernel   [dim, heads * width]     head.first.bias   [heads * width]
  head.second.kernel  [heads, width, hidden]   head.second.bias  [heads, hidden]
  head.tail           [heads * hidden]         from hidden units to patch scores

The second layer is there for the non-linear adaptor only.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simplenet_jax.models import resampling
from simplenet_jax.models.layers import matmul

# How many linear layers each adaptor has (paper, Table 3).
ADAPTORS = {'linear': 1, 'mlp': 2, 'identity': 0}

# torch's xavier_normal_; jax's glorot_normal would truncate the normal.
_xavier_normal = nnx.initializers.variance_scaling(1.0, 'fan_avg', 'normal')
LEAK = 0.2
EPSILON = 1e-5  # Of BatchNorm.


def _linear(
  inputs: int, outputs: int, *, bias: bool, dtype: jnp.dtype, rngs: nnx.Rngs
) -> nnx.Linear:
  bound = inputs**-0.5

  def torch_bias(key, shape, dtype=dtype):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return nnx.Linear(
    inputs,
    outputs,
    use_bias=bias,
    param_dtype=dtype,
    kernel_init=_xavier_normal,
    bias_init=torch_bias,
    rngs=rngs,
  )


class BatchNorm(nnx.Module):
  """torch's `BatchNorm1d` over weighted rows.

  Batches are normalised with the biased variance, the running variance takes
  the unbiased one, and rows of weight zero (the padding of a short batch) count
  in neither.
  """

  def __init__(self, features: int, *, dtype: jnp.dtype):
    self.scale = nnx.Param(jnp.ones(features, dtype))
    self.bias = nnx.Param(jnp.zeros(features, dtype))
    self.mean = nnx.BatchStat(jnp.zeros(features, dtype))
    self.var = nnx.BatchStat(jnp.ones(features, dtype))

  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises `[..., features]` with the running statistics."""
    return self._affine(x, self.mean[...], self.var[...])

  def update(
    self, parts: Sequence[jax.Array], valid: jax.Array
  ) -> list[jax.Array]:
    """Normalises with the batch's statistics and moves the running ones.

    Args:
      parts: The batch in one or more arrays `[..., features]` of one shape;
        their statistics are joint. (Stacking them would cost a copy.)
      valid: 0 or 1 per row, `[..., 1]`, broadcastable to a part; at least two
        rows of the batch must be valid. The others' results mean nothing.
    """
    rows = tuple(range(parts[0].ndim - 1))
    count = len(parts) * jnp.sum(
      jnp.broadcast_to(valid, (*parts[0].shape[:-1], 1))
    )

    def average(values):
      return sum(jnp.sum(x * valid, axis=rows) for x in values) / count

    mean = average(parts)
    var = average([jnp.square(x - mean) for x in parts])
    momentum = 0.1
    for stat, value in (
      (self.mean, mean),
      (self.var, var * count / (count - 1)),
    ):
      stat[...] += momentum * (jax.lax.stop_gradient(value) - stat[...])
    return [self._affine(x, mean, var) for x in parts]

  def _affine(self, x, mean, var):
    factor = self.scale[...] * jax.lax.rsqrt(var + EPSILON)
    return (x - mean) * factor + self.bias[...]


class Discriminator(nnx.Module):
  """Linear, BatchNorm, LeakyReLU, linear to one logit without a bias."""

  def __init__(
    self,
    inputs: int,
    hidden: int,
    *,
    dtype: jnp.dtype,
    precision: str,
    rngs: nnx.Rngs,
  ):
    self.precision = precision
    self.first = _linear(inputs, hidden, bias=True, dtype=dtype, rngs=rngs)
    self.norm = BatchNorm(hidden, dtype=dtype)
    self.tail = _linear(hidden, 1, bias=False, dtype=dtype, rngs=rngs)

  def finish(self, normalised: jax.Array) -> jax.Array:
    """Maps normalised hidden units `[..., hidden]` to logits `[...]`."""
    active = nnx.leaky_relu(normalised, LEAK)
    return matmul(active, self.tail.kernel[...], self.precision)[..., 0]


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
    dtype: jnp.dtype = jnp.float32,
    precision: str = 'float32',
    rngs: nnx.Rngs,
  ):
    """Builds a head with torch's initial distributions.

    Args:
      dim: Dimensions of a patch.
      level_offsets: The first patch dimension of each level.
      adaptor: `linear`, `mlp` (linear, LeakyReLU, linear) or `identity`.
      adaptor_bias: Whether the adaptor's linear layers have a bias.
      hidden: Width of the discriminator.
      dtype: Of parameters and computation.
      precision: Of matrix products, one of `layers.PRECISIONS`.
      rngs: For the initial weights.

    Raises:
      ValueError: For an unknown adaptor.
    """
    if adaptor not in ADAPTORS:
      raise ValueError(
        f'--config.head.adaptor is {adaptor!r}; choose one of '
        f'{", ".join(ADAPTORS)}'
      )
    self.level_offsets = tuple(level_offsets)
    self.precision = precision
    self.adaptor = nnx.List(
      [
        _linear(dim, dim, bias=adaptor_bias, dtype=dtype, rngs=rngs)
        for _ in range(ADAPTORS[adaptor])
      ]
    )
    self.discriminator = Discriminator(
      dim, hidden, dtype=dtype, precision=precision, rngs=rngs
    )

  def __call__(self, levels: Sequence[jax.Array]) -> jax.Array:
    """Scores patches with the running statistics.

    Args:
      levels: Pooled features `[batch, h, w, channels]` of each level.

    Returns:
      Logits `[batch, H, W]` on the first level's grid; positive for normal.
    """
    discriminator = self.discriminator
    return discriminator.finish(discriminator.norm(self._hidden(levels)))

  def train_logits(
    self, levels: Sequence[jax.Array], noise: jax.Array, valid: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Scores patches and their counterfeits, in one batch for the BatchNorm.

    Args:
      levels: Pooled features `[batch, h, w, channels]` of each level.
      noise: Added to the adapted features (equation 6), `[batch, H, W, dim]`.
      valid: 1 for the images of the batch, 0 for padding, `[batch]`.

    Returns:
      Logits of the normal and of the counterfeit patches, each `[batch, H, W]`.
    """
    discriminator = self.discriminator
    normal = self._hidden(levels)
    counterfeit = normal + matmul(
      noise, discriminator.first.kernel[...], self.precision
    )
    normal, counterfeit = discriminator.norm.update(
      [normal, counterfeit], valid[:, None, None, None]
    )
    return discriminator.finish(normal), discriminator.finish(counterfeit)

  def _hidden(self, levels: Sequence[jax.Array]) -> jax.Array:
    """Computes the discriminator's first layer on the adapted features."""
    layers = [*self.adaptor, self.discriminator.first]
    weights = [layer.kernel[...] for layer in layers]
    biases = [_bias(layer) for layer in layers]
    if len(layers) > 1:
      last = weights[-1]
      biases[-2:] = [matmul(biases[-2], last, self.precision) + biases[-1]]
      weights[-2:] = [matmul(weights[-2], last, self.precision)]
    x = _project(levels, weights[0], self.level_offsets, self.precision)
    x += biases[0]
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
      x = matmul(nnx.leaky_relu(x, LEAK), weight, self.precision) + bias
    return x


def _bias(layer: nnx.Linear) -> jax.Array:
  if layer.bias is None:
    return jnp.zeros(layer.out_features, layer.kernel[...].dtype)
  return layer.bias[...]


def _project(
  levels: Sequence[jax.Array],
  kernel: jax.Array,
  offsets: Sequence[int],
  precision: str,
) -> jax.Array:
  """Multiplies patches by a matrix, each level before its resize."""
  grid = levels[0].shape[1:3]
  total = 0
  for level, offset in zip(levels, offsets, strict=True):
    rows = kernel[offset : offset + level.shape[-1]]
    part = matmul(level.astype(rows.dtype), rows, precision)
    total += jax.vmap(lambda x: resampling.resize(x, grid))(part)
  return jnp.asarray(total)


def fold(heads: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
  """Folds the linear layers of heads, in float64.

  Args:
    heads: Of one kind; each with the leaves of `Head` by their dotted path
      under `params` and `stats`, as a finished head is saved.
  """
  folded = [_fold_one(head) for head in heads]
  first, *second = zip(*(layers for layers, _ in folded), strict=True)
  weights = {
    'head.first.kernel': np.concatenate([kernel for kernel, _ in first], 1),
    'head.first.bias': np.concatenate([bias for _, bias in first]),
    # The score is the logit's opposite, and the mean over heads.
    'head.tail': np.concatenate([tail for _, tail in folded]) / -len(heads),
  }
  for layers in second:
    weights['head.second.kernel'] = np.stack([kernel for kernel, _ in layers])
    weights['head.second.bias'] = np.stack([bias for _, bias in layers])
  return {name: value.astype(np.float32) for name, value in weights.items()}


def _fold_one(
  head: Mapping[str, np.ndarray],
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
  """Returns a head's linear layers, as few as can be, and its tail."""

  def get(name: str) -> np.ndarray:
    return np.asarray(head[name], np.float64)

  def linear(name):
    kernel = get(f'params.{name}.kernel')
    bias = f'params.{name}.bias'
    return kernel, get(bias) if bias in head else np.zeros(kernel.shape[1])

  layers = []
  while f'params.adaptor.{len(layers)}.kernel' in head:
    layers.append(linear(f'adaptor.{len(layers)}'))
  kernel, bias = linear('discriminator.first')
  if layers:
    before, its_bias = layers.pop()
    kernel, bias = before @ kernel, its_bias @ kernel + bias
  norm, stats = 'params.discriminator.norm', 'stats.discriminator.norm'
  factor = get(f'{norm}.scale') / np.sqrt(get(f'{stats}.var') + EPSILON)
  bias = (bias - get(f'{stats}.mean')) * factor + get(f'{norm}.bias')
  layers.append((kernel * factor, bias))
  return layers, get('params.discriminator.tail.kernel')[:, 0]


def apply(
  weights: Mapping[str, jax.Array],
  levels: Sequence[jax.Array],
  level_offsets: Sequence[int],
  precision: str,
) -> jax.Array:
  """Scores patches: the mean over heads of `-D(adaptor(z))` (equation 9).

  Args:
    weights: From `fold`.
    levels: Pooled features `[batch, h, w, channels]` of each level.
    level_offsets: The first patch dimension of each level.
    precision: Of the products, one of `layers.PRECISIONS`.

  Returns:
    Patch scores `[batch, H, W]`, float32.
  """
  kernel = weights['head.first.kernel']
  x = _project(levels, kernel, level_offsets, precision)
  x += weights['head.first.bias']
  if 'head.second.kernel' in weights:
    kernel = weights['head.second.kernel']
    x = nnx.leaky_relu(x, LEAK).reshape(*x.shape[:3], *kernel.shape[:2])
    x = jax.vmap(lambda x, w: matmul(x, w, precision), (-2, 0), -2)(x, kernel)
    x += weights['head.second.bias']
    x = x.reshape(*x.shape[:3], -1)
  tail = weights['head.tail'][:, None]
  return matmul(nnx.leaky_relu(x, LEAK), tail, precision)[..., 0]
