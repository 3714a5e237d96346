"""Schedules that fit a time, for `train.minutes`."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from simplenet_jax.config import Config, trains_heads
from simplenet_jax.console import console
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.training import bank, lanes, layout, pasted, step
from simplenet_jax.training.job import step_operations
from simplenet_jax.training.levels import Levels
from simplenet_jax.training.step import Recipe

_TIMED_SECONDS = 1.0
_TOLERANCE = 1.1  # A schedule that takes more than this share is told.


def fit(
  config: Config,
  recipe: Recipe,
  shapes: Sequence[layout.Shapes],
  categories: Sequence[Inputs],
  earlier: Mapping[str, Any],
) -> Config:
  """Returns a config whose heads train for about `train.minutes` at most.

  `train.epochs` and `train.min_steps` shrink by one factor, from the time that
  a step takes here. They are those of an `earlier` start of the run, its
  settings, if it was given the same time: a run that goes on has one schedule.
  Without a time, or with enough, they stay.
  """
  limit = config.train.minutes
  if not limit or not trains_heads(config):
    return config
  found = config.copy_and_resolve_references()
  before = earlier.get('train', {})
  if before.get('minutes') == limit:
    found.train.epochs = before['epochs']
    found.train.min_steps = before['min_steps']
    return found
  device = layout.chosen_devices(config)
  largest = max(shapes, key=lambda one: step_operations(config, one))
  console.print('Measures how long a step takes, for --config.train.minutes...')
  with bank.computing(device[0]):
    seconds = step_seconds(recipe, largest, config.train.batch_size)

  def minutes(of: Config) -> float:
    steps = sum(job.steps for job in layout.make_jobs(of, categories))
    return steps * seconds / len(device) / 60

  whole = minutes(config)
  share = min(1.0, limit / whole)
  found.train.epochs = max(1, math.floor(share * config.train.epochs))
  found.train.min_steps = math.floor(share * config.train.min_steps)
  console.print(
    f'A step takes {1000 * seconds:.3g} ms and the whole schedule '
    f'{whole:.2g} minutes; heads train for {minutes(found) / whole:.0%} of it'
  )
  if minutes(found) > _TOLERANCE * limit:
    logging.warning(
      '--config.train.minutes is %g, but a single epoch of all heads takes '
      '%.2g minutes; that is what they train for',
      *(limit, minutes(found)),
    )
  return found


def step_seconds(recipe: Recipe, shapes: layout.Shapes, images: int) -> float:
  """Returns how long a step of so many images takes, programs compiled."""
  key = step.head_key(0, 'budget')
  levels = Levels.of(
    [jax.random.normal(key, (images, *one.shape), one.dtype) for one in shapes]
  )
  shape = (1, 1 << 12, images)
  inputs = lanes.StepInputs(
    rows=jnp.broadcast_to(jnp.arange(images), shape),
    valid=jnp.ones(shape, jnp.float32),
    keys=jnp.asarray(jax.random.key_data(key))[None],
    first=jnp.zeros(1, jnp.int32),
    sigma=jnp.ones(1, jnp.float32),
    rate=jnp.ones(shape[:2], jnp.float32),
    pasted=jnp.zeros((1, pasted.KEPT, recipe.dim)) if recipe.pasted else None,
  )
  states = jax.tree.map(lambda leaf: leaf[None], step.init_head(recipe, key))

  def train(count: int) -> float:
    nonlocal states
    start = time.perf_counter()
    steps = jnp.int32(count)
    states, metrics = lanes.advance(recipe, states, levels, inputs, steps)
    jax.block_until_ready(metrics)
    return (time.perf_counter() - start) / count

  train(1)  # Compiles.
  count = int(_TIMED_SECONDS / train(1))
  return train(max(1, min(count, shape[1])))
