"""One training step of one head (paper, Algorithm 1)."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from simplenet_jax.config import Config, bank_dtype
from simplenet_jax.models import head as heads
from simplenet_jax.models.head import Head
from simplenet_jax.training.job import PASTED

Tree = Any  # A nest of dicts with arrays as leaves.

# What is logged of a step: its loss, before the update, and which share of
# normal and of counterfeit patches lies beyond their margins (the released
# code's `p_true` and `p_fake`).
METRICS = ('loss', 'p_normal', 'p_counterfeit')


class HeadState(NamedTuple):
  """All that training a head changes."""

  params: Tree  # {'adaptor': ..., 'discriminator': ...}
  stats: Tree  # The BatchNorm's running statistics.
  opt_state: optax.OptState

  @property
  def weights_to_score(self) -> dict[str, Tree]:
    """What is scored and kept when training has ended."""
    return {'params': self.params, 'stats': self.stats}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How heads are trained: everything static, the same for all of them."""

  new_head: Callable[[nnx.Rngs], Head]
  graph: nnx.GraphDef  # The head's structure.
  dim: int  # Dimensions of a patch.
  optimizer: optax.GradientTransformation
  loss: heads.Loss
  margin: float  # `th` of the loss, in logits.
  patches: int = 0  # Drawn of each image of a step; 0: all of them.
  pasted: int = 0  # Of its counterfeits, those of defects pasted on images.

  @functools.cached_property
  def _hash(self) -> int:
    return hash(tuple(getattr(self, x.name) for x in dataclasses.fields(self)))

  def __hash__(self) -> int:
    return self._hash  # Each call of a program asks for it.


def make_optimizer(
  optimizer: str, learning_rate: float, weight_decay: float
) -> optax.GradientTransformation:
  """Returns torch's `adamw` (decoupled decay) or `adam` (L2 in gradients)."""
  if optimizer == 'adamw':
    return optax.adamw(learning_rate, weight_decay=weight_decay)
  decay = optax.add_decayed_weights(weight_decay)
  return optax.chain(decay, optax.adam(learning_rate))


# Functions are equal only if they are the same ones: these two are made once,
# so that runs which differ in seeds or noise share their compiled programs.
@functools.cache
def join_optimizers(**parts: tuple) -> optax.GradientTransformation:
  """Returns one transformation with an optimiser for each part."""
  return optax.multi_transform(
    {
      part: make_optimizer(**dict(settings)) for part, settings in parts.items()
    },
    lambda params: {part: part for part in params},
  )


@functools.cache
def _head_maker(dim, level_offsets, **settings) -> Callable[[nnx.Rngs], Head]:
  return lambda rngs: Head(dim, level_offsets, **settings, rngs=rngs)


def make_recipe(
  config: Config, level_offsets: Sequence[int], dim: int = 0
) -> Recipe:
  """Returns how heads are trained; equal for configs that train alike.

  Patches have `dim` dimensions, or as many as the config names.
  """
  train, dim = config.train, dim or config.patch.target_dim
  halves = config.precision == bank_dtype(config) == 'bfloat16'
  new_head = _head_maker(
    *(dim, tuple(level_offsets)),
    precision=config.precision,
    kept='bfloat16' if halves else '',
    **config.head,
  )
  return Recipe(
    new_head=new_head,
    graph=split(nnx.eval_shape(lambda: new_head(nnx.Rngs(0))))[0],
    dim=dim,
    optimizer=join_optimizers(
      adaptor=tuple(train.adaptor.items()),
      discriminator=tuple(train.discriminator.items()),
    ),
    loss=heads.LOSSES[train.loss],
    margin=train.margin,
    patches=train.patches,
    pasted=max(1, round(PASTED * train.patches)) if train.pasted else 0,
  )


def head_key(seed: int, category: str) -> jax.Array:
  """Returns the key of all draws of a head, whatever else is trained."""
  return _key(np.uint32(seed), np.uint32(zlib.crc32(category.encode())))


@jax.jit
def _key(seed: jax.Array, number: jax.Array) -> jax.Array:
  # The generator is named: with others, a lane of a `vmap` depends on its
  # neighbours.
  return jax.random.fold_in(jax.random.key(seed, impl='threefry2x32'), number)


def split(head: Head) -> tuple[nnx.GraphDef, Tree, Tree]:
  """Separates a head into its structure, its weights and its statistics."""
  graph, params, stats = nnx.split(head, nnx.Param, nnx.BatchStat)
  return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


@functools.partial(jax.jit, static_argnames='recipe')
def init_head(recipe: Recipe, key: jax.Array) -> HeadState:
  """Returns a fresh head's state, drawn from a key of `head_key`."""
  # Steps draw from counters that are folded in otherwise, see `lanes`.
  head = recipe.new_head(nnx.Rngs(jax.random.fold_in(key, 0)))
  _, params, stats = split(head)
  return HeadState(params, stats, recipe.optimizer.init(params))


def train_step(
  recipe: Recipe,
  state: HeadState,
  levels: Sequence[jax.Array],
  valid: jax.Array,
  noise: jax.Array,
  rate: jax.Array | float = 1.0,
  pasted: jax.Array | None = None,
) -> tuple[HeadState, jax.Array]:
  """Updates one head on one batch; returns its `METRICS`, too.

  Levels are `[batch, h, w, channels]`; `valid`, `[batch]`, is 1 for images and
  0 for padding; noise, `[batch, H, W, dim]`, is added to adapted features; the
  rate is a factor of both learning rates. `pasted`, `[batch, count, dim]`, are
  patches of defects, which are an image's first counterfeits.
  """

  def loss_fn(params):
    head = nnx.merge(recipe.graph, params, state.stats)
    normal, counterfeit = head.train_logits(levels, noise, valid, pasted)
    patches = normal.size // valid.size
    weights = (valid / (jnp.sum(valid) * patches))[:, None, None]
    loss = recipe.loss(normal, counterfeit, weights, recipe.margin)
    p_normal = jnp.sum(weights * (normal >= recipe.margin))
    p_counterfeit = jnp.sum(weights * (counterfeit < -recipe.margin))
    metrics = jnp.stack([loss, p_normal, p_counterfeit])
    return loss, (split(head)[2], metrics)

  gradients, (stats, metrics) = jax.grad(loss_fn, has_aux=True)(state.params)
  updates, opt_state = recipe.optimizer.update(
    gradients, state.opt_state, state.params
  )
  # Both optimisers are linear in their learning rate, decay included.
  updates = jax.tree.map(lambda update: rate * update, updates)
  params = optax.apply_updates(state.params, updates)
  return HeadState(params, stats, opt_state), metrics


def patch_scores(
  recipe: Recipe, state: HeadState, levels: Sequence[jax.Array]
) -> jax.Array:
  """Returns `-D(adaptor(z))` of patches, `[batch, H, W]` (equation 9)."""
  weights = state.weights_to_score
  return -nnx.merge(recipe.graph, weights['params'], weights['stats'])(levels)
