"""One training step of one head (paper, Algorithm 1)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from simplenet_jax.models import losses
from simplenet_jax.models.head import Head

Tree = Any  # A nest of dicts with arrays as leaves.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeadState:
  """All that training a head changes.

  Attributes:
    params: Weights, `{'adaptor': ..., 'discriminator': ...}`.
    stats: The BatchNorm's running statistics.
    opt_state: Of both optimisers.
    average: Of weights and statistics over the steps, see `averaged`; None
      where the last ones count.
  """

  params: Tree
  stats: Tree
  opt_state: optax.OptState
  average: Tree = None

  @property
  def weights_to_score(self) -> dict[str, Tree]:
    """What is scored and kept, `params` and `stats`: the average if any."""
    if self.average is not None:
      return self.average
    return {'params': self.params, 'stats': self.stats}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepMetrics:
  """What is logged of a step; scalars, or arrays of them after a scan.

  Attributes:
    loss: The loss, before the update.
    p_normal: Share of normal patches beyond their margin, in [0, 1].
    p_counterfeit: Share of counterfeit patches beyond theirs, in [0, 1].
  """

  loss: jax.Array
  p_normal: jax.Array
  p_counterfeit: jax.Array


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How heads are trained: everything static, the same for all of them.

  Attributes:
    graph: The structure of `Head`.
    dim: Dimensions of a patch.
    optimizer: Of all parameters.
    loss: One of `losses.LOSSES`.
    margin: `th` of the loss, in logits.
    batch_size: Images per step.
    patches: Drawn of each image of a step; 0: all of them.
    average: How much the latest steps count in the average of weights, see
      `averaged`; 0: there is no average.
  """

  graph: nnx.GraphDef
  dim: int
  optimizer: optax.GradientTransformation
  loss: losses.Loss
  margin: float
  batch_size: int
  patches: int = 0
  average: float = 0.0


def make_optimizer(
  optimizer: str, learning_rate: float, weight_decay: float
) -> optax.GradientTransformation:
  """Returns torch's optimiser of that name.

  Args:
    optimizer: `adamw` (decoupled decay) or `adam` (L2 added to the gradient).
    learning_rate: Step size.
    weight_decay: Coefficient of the decay.

  Raises:
    ValueError: For another name.
  """
  if optimizer == 'adamw':
    return optax.adamw(learning_rate, weight_decay=weight_decay)
  if optimizer == 'adam':
    decay = optax.add_decayed_weights(weight_decay)
    return optax.chain(decay, optax.adam(learning_rate))
  raise ValueError(
    f"a --config.train.*.optimizer is {optimizer!r}; choose 'adam' or 'adamw'"
  )


def join_optimizers(
  adaptor: optax.GradientTransformation,
  discriminator: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """Returns one transformation that gives each part its own optimiser."""
  return optax.multi_transform(
    {'adaptor': adaptor, 'discriminator': discriminator},
    lambda params: {part: part for part in params},
  )


def split(head: Head) -> tuple[nnx.GraphDef, Tree, Tree]:
  """Separates a head into its structure, its weights and its statistics."""
  graph, params, stats = nnx.split(head, nnx.Param, nnx.BatchStat)
  return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def init(head: Head, recipe: Recipe) -> HeadState:
  """Returns the state of a fresh head."""
  _, params, stats = split(head)
  average = {'params': params, 'stats': stats} if recipe.average else None
  return HeadState(params, stats, recipe.optimizer.init(params), average)


def train_step(
  recipe: Recipe,
  state: HeadState,
  levels: Sequence[jax.Array],
  valid: jax.Array,
  noise: jax.Array,
  rate: jax.Array | float = 1.0,
) -> tuple[HeadState, StepMetrics]:
  """Updates one head on one batch; its average stays as it is.

  Args:
    recipe: What to minimise and how.
    state: Before the step.
    levels: Pooled features `[batch, h, w, channels]` of each level.
    valid: 1 for the images of the batch, 0 for padding, `[batch]`.
    noise: `[batch, H, W, dim]`, added to adapted features.
    rate: Factor of both learning rates, a scalar from 0 to 1.

  Returns:
    The state after the step, and the step's metrics.
  """

  def loss_fn(params):
    head = nnx.merge(recipe.graph, params, state.stats)
    normal, counterfeit = head.train_logits(levels, noise, valid)
    patches = normal.size // valid.size
    weights = (valid / (jnp.sum(valid) * patches))[:, None, None]
    loss = recipe.loss(normal, counterfeit, weights, recipe.margin)
    shares = losses.shares_beyond_margin(
      normal, counterfeit, weights, recipe.margin
    )
    return loss, (split(head)[2], StepMetrics(loss, *shares))

  gradients, (stats, metrics) = jax.grad(loss_fn, has_aux=True)(state.params)
  updates, opt_state = recipe.optimizer.update(
    gradients, state.opt_state, state.params
  )
  # Both optimisers are linear in their learning rate, decay included.
  updates = jax.tree.map(lambda update: rate * update, updates)
  params = optax.apply_updates(state.params, updates)
  return HeadState(params, stats, opt_state, state.average), metrics


def averaged(recipe: Recipe, state: HeadState, number: jax.Array) -> HeadState:
  """Takes a step's result into the average of weights and statistics.

  Polynomial-decay averaging (Shamir and Zhang, "Stochastic gradient descent for
  non-smooth optimization", 2013, section 4): the average always covers the last
  part of the steps so far, about one in `recipe.average + 1`, however many they
  are.

  Args:
    recipe: For its `average`.
    state: After the step.
    number: The step's, from 0, int32.

  Returns:
    The state, its average renewed.
  """
  share = (recipe.average + 1) / (number + 1 + recipe.average)
  latest = {'params': state.params, 'stats': state.stats}
  average = jax.tree.map(
    lambda old, new: old + share * (new - old), state.average, latest
  )
  return dataclasses.replace(state, average=average)


def patch_scores(
  recipe: Recipe, state: HeadState, levels: Sequence[jax.Array]
) -> jax.Array:
  """Scores the patches of a batch: `-D(adaptor(z))` (equation 9).

  Args:
    recipe: For the head's structure.
    state: A trained head.
    levels: Pooled features `[batch, h, w, channels]` of each level.

  Returns:
    `[batch, H, W]`, unbounded; higher is more anomalous.
  """
  weights = state.weights_to_score
  return -nnx.merge(recipe.graph, weights['params'], weights['stats'])(levels)
