"""From a config to what training needs: extractor, recipe, orders, source."""

import dataclasses
import functools
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from absl import logging
from flax import nnx

from simplenet_jax.config import Config
from simplenet_jax.data import loading
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.models import losses, resnet, simplenet, weights
from simplenet_jax.models.head import Head
from simplenet_jax.models.simplenet import FeatureNetwork
from simplenet_jax.training import layout, step
from simplenet_jax.training.bank import Extractor
from simplenet_jax.training.features import Source
from simplenet_jax.training.job import rates
from simplenet_jax.training.orders import Orders


def make_extractor(config: Config) -> Extractor:
  """Returns the way from pixels to pooled features.

  Args:
    config: A run's settings; `backbone` and `patch` are read.

  Raises:
    ValueError: For an unknown backbone or level, or sizes out of range.
  """
  backbone, patch = config.backbone, config.patch
  levels = tuple(backbone.levels)
  resnet.check(backbone.name, levels, backbone.padding)
  network = FeatureNetwork(
    architecture=backbone.name,
    levels=levels,
    padding=backbone.padding,
    patch_size=patch.size,
    pretrain_dim=patch.pretrain_dim,
    target_dim=patch.target_dim,
  )
  network.pooling  # noqa: B018 - raises for sizes out of range.
  return Extractor(network, config.bank.dtype)


def load_backbone(config: Config) -> weights.Weights:
  """Loads the backbone's weights, by name or from a file.

  Args:
    config: A run's settings; `backbone` is read.

  Raises:
    FileNotFoundError: If there is no such file, or it cannot be downloaded.
    ValueError: If the file cannot be read or does not fit the network.
  """
  backbone = config.backbone
  source = backbone.weights or weights.DEFAULT_WEIGHTS[backbone.name]
  levels = tuple(backbone.levels)
  return weights.load(source, backbone.name, levels, backbone.probe)


def check_noise(
  config: Config, extractor: Extractor, loaded: weights.Weights, one: Inputs
) -> weights.Weights:
  """Warns if the noise does not fit the spread of some images' features.

  Args:
    config: A run's settings; `backbone` and the noise are read.
    extractor: From pixels to features.
    loaded: The backbone's weights.
    one: A category of the run, whose first training images are looked at.

  Returns:
    The weights with the warning.
  """

  def features():
    count = min(2, len(one.train))
    pixels = np.stack([one.train_pixels(i) for i in range(count)])
    compute = jax.jit(simplenet.features, static_argnums=0)
    return compute(extractor.network, loaded.state, pixels)

  train = config.train
  sigma = train.sigma if train.noise == 'absolute' else None
  name, levels = config.backbone.name, tuple(config.backbone.levels)
  if line := weights.misfit(loaded, name, levels, sigma, features):
    logging.warning('%s: %s', loaded.name, line)
    return dataclasses.replace(loaded, warnings=(line,))
  return loaded


def _make_head(config: Config, level_offsets: Sequence[int], rngs: nnx.Rngs):
  return Head(
    config.patch.target_dim,
    level_offsets,
    adaptor=config.head.adaptor,
    adaptor_bias=config.head.adaptor_bias,
    hidden=config.head.hidden,
    precision=config.precision,
    rngs=rngs,
  )


def make_recipe(config: Config, level_offsets: Sequence[int]) -> step.Recipe:
  """Returns how heads are trained.

  Args:
    config: A run's settings; `patch`, `head` and `train` are read.
    level_offsets: The first patch dimension of each level.

  Raises:
    ValueError: For an unknown adaptor, loss or optimizer.
  """
  train = config.train
  if train.loss not in losses.LOSSES:
    raise ValueError(
      f'--config.train.loss is {train.loss!r}; choose one of '
      f'{", ".join(losses.LOSSES)}'
    )
  head = nnx.eval_shape(lambda: _make_head(config, level_offsets, nnx.Rngs(0)))
  graph, _, _ = step.split(head)
  return step.Recipe(
    graph=graph,
    dim=config.patch.target_dim,
    optimizer=_optimizer(
      tuple(train.adaptor.items()), tuple(train.discriminator.items())
    ),
    loss=losses.LOSSES[train.loss],
    margin=train.margin,
    batch_size=train.batch_size,
    patches=train.patches,
    average=train.average,
  )


@functools.cache
def _optimizer(adaptor, discriminator) -> optax.GradientTransformation:
  # Equal only if it is the same: heads that differ in their seed or noise then
  # share their compiled programs.
  return step.join_optimizers(
    step.make_optimizer(**dict(adaptor)),
    step.make_optimizer(**dict(discriminator)),
  )


def head_key(seed: int, category: str) -> jax.Array:
  """Returns a head's key, different for every seed and category.

  A head's draws depend on its seed and its category's name, not on what else is
  trained. The generator is named: with others, a lane of a `vmap` depends on
  its neighbours.
  """
  key = jax.random.key(seed, impl='threefry2x32')
  return jax.random.fold_in(key, zlib.crc32(category.encode()))


def init_head(
  config: Config,
  level_offsets: Sequence[int],
  recipe: step.Recipe,
  key: jax.Array,
) -> step.HeadState:
  """Returns a fresh head.

  Args:
    config: A run's settings; `patch` and `head` are read.
    level_offsets: The first patch dimension of each level.
    recipe: How it is trained.
    key: From `head_key`.
  """
  # Steps draw from counters that are folded in otherwise, see `noise`.
  return step.init(
    _make_head(config, level_offsets, nnx.Rngs(jax.random.fold_in(key, 0))),
    recipe,
  )


@dataclasses.dataclass(frozen=True)
class Variant:
  """What heads of a run, or of one of a sweep's, are trained with.

  Attributes:
    config: The settings.
    recipe: From `make_recipe`.
  """

  config: Config
  recipe: step.Recipe


def make_orders(
  config: Config,
  recipe: step.Recipe,
  level_offsets: Sequence[int],
  **others: Any,
) -> Orders:
  """Returns what all workers share.

  Args:
    config: A run's settings.
    recipe: How heads are trained.
    level_offsets: The first patch dimension of each level.
    **others: The fields of `Orders` that no config knows.
  """

  @jax.jit
  def init(key):
    return init_head(config, level_offsets, recipe, key)

  def key_of(job):
    return head_key(job.seed, job.category)

  return Orders(
    recipe=recipe,
    sigma=config.train.sigma,
    relative=config.train.noise == 'relative',
    rates=functools.partial(
      rates, schedule=config.train.schedule, warmup=config.train.warmup
    ),
    init=lambda job: init(key_of(job)),
    key=lambda job: np.asarray(jax.random.key_data(key_of(job))),
    # As often as in as many epochs as the config has.
    every=lambda job: (
      config.evaluation.every * job.epochs // config.train.epochs
    ),
    checkpoint_seconds=config.engine.checkpoint_seconds,
    **others,
  )


def make_source(
  config: Config,
  extractor: Extractor,
  weights_state: dict[str, np.ndarray],
  workdir: Path,
  neighbours: int = 1,
) -> Source:
  """Returns how features are made.

  Args:
    config: A run's settings.
    extractor: From pixels to features.
    weights_state: The backbone's.
    workdir: Where features are kept that fit into no memory.
    neighbours: Processes that share this machine, this one included.
  """
  gigabytes = config.bank.host_gb
  host_bytes = int(gigabytes * 1e9) or layout.host_memory() // 4 // neighbours
  shared = loading.processors(neighbours) if neighbours > 1 else None
  return Source(
    extractor=extractor,
    weights=weights_state,
    batch_size=config.backbone.batch_size,
    workers=config.data.workers or shared,
    # Every device of this process has a share.
    host_bytes=host_bytes
    // (len(layout.chosen_devices(config)) // jax.process_count()),
    spill=workdir / 'features',
  )
