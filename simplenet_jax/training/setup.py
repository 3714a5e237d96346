"""From a config to what training needs: extractor, recipe, fresh heads."""

import dataclasses
import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from simplenet_jax.models import heads, losses, patches, resnet, weights
from simplenet_jax.models.probe import probe
from simplenet_jax.protocols import Config
from simplenet_jax.training import step
from simplenet_jax.training.bank import Extractor


def make_extractor(config: Config) -> Extractor:
  """Returns the way from pixels to pooled features.

  Args:
    config: A run's settings; `backbone` and `patch` are read.

  Raises:
    ValueError: For an unknown backbone or level, or sizes out of range.
  """
  backbone, patch = config.backbone, config.patch
  levels = tuple(backbone.levels)
  graph, _ = resnet.abstract(backbone.name, levels, backbone.padding)
  spec = resnet.ARCHITECTURES[backbone.name]
  pooling = patches.plan(
    tuple(spec.channels(level) for level in levels),
    patch.size,
    patch.pretrain_dim,
    patch.target_dim,
  )
  return Extractor(graph, pooling)


def load_backbone(config: Config, graph: nnx.GraphDef) -> weights.Weights:
  """Loads the backbone's weights, by name or from a file.

  Args:
    config: A run's settings; `backbone` is read.
    graph: The backbone's structure, of the extractor.

  Raises:
    FileNotFoundError: If there is no such file, or it cannot be downloaded.
    ValueError: If the file cannot be read or does not fit the network.
  """
  backbone = config.backbone
  source = backbone.weights or weights.DEFAULT_WEIGHTS[backbone.name]
  loaded = weights.load(source, backbone.name, tuple(backbone.levels))
  if not backbone.probe:
    return loaded
  return dataclasses.replace(loaded, state=probe(graph, loaded.state))


def _make_head(config: Config, starts: Sequence[int], rngs: nnx.Rngs):
  return heads.Head(
    config.patch.target_dim,
    starts,
    adaptor=config.head.adaptor,
    adaptor_bias=config.head.adaptor_bias,
    hidden=config.head.hidden,
    rngs=rngs,
  )


def make_recipe(config: Config, starts: Sequence[int]) -> step.Recipe:
  """Returns how heads are trained.

  Args:
    config: A run's settings; `patch`, `head` and `train` are read.
    starts: The first patch dimension of each level.

  Raises:
    ValueError: For an unknown adaptor, loss or optimizer.
  """
  train = config.train
  if train.loss not in losses.LOSSES:
    raise ValueError(
      f'--config.train.loss is {train.loss!r}; choose one of '
      f'{", ".join(losses.LOSSES)}'
    )
  head = nnx.eval_shape(lambda: _make_head(config, starts, nnx.Rngs(0)))
  graph, _, _ = step.split(head)
  optimizer = step.join_optimizers(
    step.make_optimizer(**train.adaptor),
    step.make_optimizer(**train.discriminator),
  )
  return step.Recipe(
    graph=graph,
    dim=config.patch.target_dim,
    optimizer=optimizer,
    loss=losses.LOSSES[train.loss],
    margin=train.margin,
    sigma=train.sigma,
    batch_size=train.batch_size,
  )


def head_keys(seeds: Sequence[int], category: str) -> jax.Array:
  """Returns one key per seed, `[seeds]`, different for every category.

  A head's draws depend on its seed and its category's name, not on what else is
  trained. The generator is named: others give a lane of a `vmap` draws that
  depend on its neighbours.
  """
  name = zlib.crc32(category.encode())
  keys = [
    jax.random.fold_in(jax.random.key(seed, impl='threefry2x32'), name)
    for seed in seeds
  ]
  return jnp.stack(keys)


def init_heads(
  config: Config,
  starts: Sequence[int],
  optimizer: optax.GradientTransformation,
  keys: jax.Array,
) -> step.HeadState:
  """Returns fresh heads, each leaf with the heads axis first.

  Args:
    config: A run's settings; `patch` and `head` are read.
    starts: The first patch dimension of each level.
    optimizer: Of the recipe.
    keys: From `head_keys`, `[heads]`.
  """

  def init(key):
    # Epochs draw from fold_in(key, epoch) with epochs from 0 up.
    key = jax.random.fold_in(key, 2**32 - 1)
    return step.init(_make_head(config, starts, nnx.Rngs(key)), optimizer)

  return jax.jit(jax.vmap(init))(keys)
