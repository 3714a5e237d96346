"""The network's tasks, its loss, and one training step.

Linear heads on levels 2 and 3 tell which recipe a view shows, and at every
place whether, and by what, the picture is disturbed. The heads are thrown away.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from simplenet_jax.models import resnet
from simplenet_jax.pretraining import augment, disturbances, network

LEVELS = (2, 3)
_ODD_WEIGHT = 5.0  # Weight of a disturbed place; about 1 in 30 is one.
_EMA = 0.998


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=['params', 'heads', 'stats', 'average', 'optimizer', 'step'],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class State:
  """Everything that a step changes.

  Attributes:
    params: The network's trainable weights.
    heads: The heads' weights: name to (matrix, bias).
    stats: BatchNorm's running statistics.
    average: Exponential moving average of `params`.
    optimizer: The optimiser's state.
    step: Steps done, int32 `[]`.
  """

  params: nnx.State
  heads: dict[str, tuple[jax.Array, jax.Array]]
  stats: nnx.State
  average: nnx.State
  optimizer: optax.OptState
  step: jax.Array


def optimizer(learning_rate: float, steps: int) -> optax.GradientTransformation:
  """Adam with decoupled decay, warmed up and annealed over `steps`."""
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, learning_rate, min(200, steps // 10 + 1), steps
  )
  return optax.chain(
    optax.clip_by_global_norm(5.0),
    optax.adamw(schedule, weight_decay=0.05, mask=_is_matrix),
  )


def _is_matrix(params):
  return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def initialise(
  architecture: str, classes: int, seed: int, tx: optax.GradientTransformation
) -> tuple[nnx.GraphDef, State]:
  """Builds the network and its heads.

  Args:
    architecture: A key of `resnet.ARCHITECTURES`.
    classes: How many recipes there are.
    seed: Seed of the initial weights.
    tx: From `optimizer`.

  Returns:
    The network's structure, and the state before the first step.
  """
  model = network.ResNet(architecture, LEVELS, rngs=nnx.Rngs(seed))
  graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
  spec = resnet.ARCHITECTURES[architecture]
  heads = {
    f'{task}{level}': (
      jnp.zeros((spec.channels(level), outputs)),
      jnp.zeros(outputs),
    )
    for level in LEVELS
    for task, outputs in (
      ('class', classes),
      ('kind', len(disturbances.KINDS)),
    )
  }
  state = State(
    params=params,
    heads=heads,
    stats=stats,
    average=jax.tree.map(jnp.copy, params),
    optimizer=tx.init((params, heads)),
    step=jnp.zeros((), jnp.int32),
  )
  return graph, state


def _max_pool(x: jax.Array, axis: int) -> jax.Array:
  """Maximum of 3 with stride 2 and padding 1 along an axis of even length."""
  x = jnp.moveaxis(x, axis, 1)
  even, odd = x[:, 0::2], x[:, 1::2]
  padding = [(0, 0)] * x.ndim
  padding[1] = (1, 0)
  before = jnp.pad(odd[:, :-1], padding, constant_values=-jnp.inf)
  return jnp.moveaxis(jnp.maximum(jnp.maximum(before, even), odd), 1, axis)


def features(model: network.ResNet, images: jax.Array) -> tuple[jax.Array, ...]:
  """Does what `model(images)` does, faster on a CPU.

  There, XLA is slow at convolutions of three channels and at the gradient of
  a max pool, which together take half of a step.

  Args:
    model: The network.
    images: Normalised images `[batch, height, width, 3]`, sides divisible by 4.

  Returns:
    `[batch, h, w, channels]` of each level.
  """
  kernel = model.conv1.kernel[...]
  x = jax.lax.conv_general_dilated(
    jnp.pad(images, ((0, 0), (0, 0), (0, 0), (0, 1))),
    jnp.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0))),
    window_strides=(2, 2),
    padding=((3, 3), (3, 3)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  x = nnx.relu(model.bn1(x))
  x = _max_pool(_max_pool(x, 1), 2)
  result = []
  for level, blocks in enumerate(model.layers, start=1):
    for block in blocks:
      x = block(x)
    if level in model.levels:
      result.append(x)
  return tuple(result)


def _class_loss(
  feature: jax.Array, head: tuple[jax.Array, jax.Array], classes: jax.Array
) -> jax.Array:
  """Cross-entropy of the recipe, from the view's mean feature."""
  matrix, bias = head
  return optax.softmax_cross_entropy_with_integer_labels(
    feature.mean((1, 2)) @ matrix + bias, classes
  ).mean()


def _kind_loss(
  feature: jax.Array, head: tuple[jax.Array, jax.Array], kinds: jax.Array
) -> jax.Array:
  """Weighted cross-entropy of the kind of disturbance at every place."""
  matrix, bias = head
  side = kinds.shape[1] // feature.shape[1]
  shape = (len(kinds), feature.shape[1], side, feature.shape[2], side)
  targets = kinds.reshape(shape).max((2, 4)).astype(jnp.int32)
  loss = optax.softmax_cross_entropy_with_integer_labels(
    feature @ matrix + bias, targets
  )
  weight = jnp.where(targets > 0, _ODD_WEIGHT, 1.0)
  return (loss * weight).sum() / weight.sum()


def losses(
  heads: dict[str, tuple[jax.Array, jax.Array]],
  levels: tuple[jax.Array, ...],
  classes: jax.Array,
  kinds: jax.Array,
) -> dict[str, jax.Array]:
  """Returns every head's loss.

  Args:
    heads: From `State`.
    levels: Features `[batch, h, w, channels]` of each of `LEVELS`.
    classes: The recipe of each view, `[batch]`, int32.
    kinds: Indices of disturbances, `[batch, blocks, blocks]`, uint8.

  Returns:
    Head name to loss `[]`.
  """
  result = {}
  for level, feature in zip(LEVELS, levels, strict=True):
    for task, loss, target in (
      ('class', _class_loss, classes),
      ('kind', _kind_loss, kinds),
    ):
      name = f'{task}{level}'
      result[name] = loss(feature, heads[name], target)
  return result


_WEIGHTS = {'class2': 1.0, 'class3': 1.0, 'kind2': 0.5, 'kind3': 0.5}


@functools.partial(jax.jit, static_argnames=('graph', 'tx'), donate_argnums=1)
def train_step(
  graph: nnx.GraphDef,
  state: State,
  tx: optax.GradientTransformation,
  key: jax.Array,
  images: jax.Array,
  classes: jax.Array,
  kinds: jax.Array,
) -> tuple[State, dict[str, jax.Array]]:
  """Takes one step.

  Args:
    graph: From `initialise`.
    state: Before the step; donated.
    tx: From `optimizer`.
    key: Randomness of the whole training.
    images: `[batch, size, size, 3]`, uint8.
    classes: Their recipes, `[batch]`, int32.
    kinds: What disturbs them, `[batch, blocks, blocks]`, uint8.

  Returns:
    The state after the step and every head's loss.
  """
  views, kinds = augment.batch(
    jax.random.fold_in(key, state.step), images, kinds
  )

  def objective(trained):
    params, heads = trained
    model = nnx.merge(graph, params, state.stats, copy=True)
    parts = losses(heads, features(model, views), classes, kinds)
    total = sum(_WEIGHTS[name] * value for name, value in parts.items())
    return total, (parts, nnx.state(model, nnx.BatchStat))

  trained = (state.params, state.heads)
  gradients, (parts, stats) = jax.grad(objective, has_aux=True)(trained)
  updates, opt_state = tx.update(gradients, state.optimizer, trained)
  new: Any = optax.apply_updates(trained, updates)
  params, heads = new
  # The average follows closely at first, when little is worth remembering.
  decay = jnp.minimum(_EMA, (1 + state.step) / (10 + state.step))
  average: Any = optax.incremental_update(params, state.average, 1 - decay)
  return (
    State(params, heads, stats, average, opt_state, state.step + 1),
    parts,
  )


@functools.partial(jax.jit, static_argnames='graph')
def batch_statistics(
  graph: nnx.GraphDef, params: nnx.State, stats: nnx.State, images: jax.Array
) -> nnx.State:
  """Returns one batch's own statistics in every BatchNorm.

  Args:
    graph: From `initialise`.
    params: The weights.
    stats: Running statistics, only for their shapes.
    images: `[batch, size, size, 3]`, uint8.

  Returns:
    Means and variances in the layout of `stats`.
  """
  # From zero, a BatchNorm of momentum m moves to (1 - m) times the batch's.
  model = nnx.merge(graph, params, jax.tree.map(jnp.zeros_like, stats))
  momentum = model.bn1.momentum
  features(model, augment.normalise(images.astype(jnp.float32) / 255))
  moved = nnx.state(model, nnx.BatchStat)
  return jax.tree.map(lambda x: x / (1 - momentum), moved)
