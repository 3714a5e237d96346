"""Heads of the study: the package's steps with counterfeits of many kinds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.study.rows import Heads
from simplenet_jax.config import from_protocol
from simplenet_jax.models import nearest
from simplenet_jax.training import job, step

PATCHES = 1024  # Of a step.
_CHUNK = 4096  # Patches scored at a time.
_BLEND = 0.2, 0.8  # How far patches go towards others.
_PUSH = 0.5  # Of the noise's length, along the gradient, twice.


def noise(kind: str, key, recipe, state, rows, sigma, more) -> jax.Array:
  """Returns what makes counterfeits of patches `[PATCHES, dim]`.

  `sigma` is in units of the features' spread, `[PATCHES, 1]`.
  """
  keys = jax.random.split(key, 3)
  drawn = sigma * jax.random.normal(keys[0], rows.shape)
  if kind == 'colour':
    return drawn @ more['colour']
  if kind == 'spacing':
    return drawn * more['spacing']
  if kind == 'mask':
    share = jax.random.uniform(keys[1], (len(rows), 1))
    return drawn * (jax.random.uniform(keys[2], rows.shape) < share)
  if kind == 'mix':
    far = jax.random.uniform(keys[1], (len(rows), 1), rows.dtype, *_BLEND)
    mixed = far * (rows[jax.random.permutation(keys[2], len(rows))] - rows)
    half = jnp.arange(len(rows))[:, None] % 2 == 0
    return jnp.where(half, mixed, drawn)
  if kind == 'centre':
    length = jnp.linalg.norm(drawn, axis=1, keepdims=True)
    away = rows - jnp.mean(rows, axis=0)
    away /= jnp.linalg.norm(away, axis=1, keepdims=True)
    return (drawn + length * away) / jnp.sqrt(2)
  if kind == 'gradient':
    length = jnp.linalg.norm(drawn, axis=1, keepdims=True)

    def found(noise):
      head = nnx.merge(recipe.graph, state.params, state.stats)
      shaped = rows[:, None, None], noise[:, None, None]
      _, logits = head.train_logits(shaped[:1], shaped[1], jnp.ones(len(rows)))
      return jnp.sum(jax.nn.softplus(logits))

    for _ in range(2):
      slope = jax.grad(found)(drawn)
      slope /= jnp.linalg.norm(slope, axis=1, keepdims=True) + 1e-9
      pushed = drawn + _PUSH * length * slope
      drawn = pushed * length / jnp.linalg.norm(pushed, axis=1, keepdims=True)
  return drawn


@functools.lru_cache(maxsize=2)
def _program(settings: Heads, dim: int):
  config = from_protocol('fast')
  config.patch.target_dim, config.head.hidden = dim, settings.hidden
  config.head.adaptor, config.train.loss = settings.adaptor, settings.loss
  config.train.patches, config.train.pasted = PATCHES, settings.pasted
  recipe = step.make_recipe(config, (0,))
  steps = job.Job('', 0, 1, 1, settings.steps)
  rates = jnp.asarray(job.rates(config, steps, 0, settings.steps))
  low, high = map(np.log, settings.sigma)

  @jax.jit
  def train(key, patches, more):
    def one(carry, number):
      state, mean = carry
      keys = jax.random.split(jax.random.fold_in(key, number), 3)
      drawn = jax.random.randint(keys[0], (PATCHES,), 0, len(patches))
      rows = patches[drawn].astype(jnp.float32)
      sigma = jax.random.uniform(keys[1], (PATCHES, 1), minval=low, maxval=high)
      added = noise(
        settings.noise, keys[2], recipe, state, rows, jnp.exp(sigma), more
      )
      shaped = rows[:, None, None], added[:, None, None]
      instead = None
      if recipe.pasted:  # One image, as pasted patches come first of it.
        shaped = [jnp.moveaxis(x, 0, 1) for x in shaped]
        which = jax.random.fold_in(keys[0], 1)
        count = len(more['pasted'])
        places = jax.random.randint(which, (1, recipe.pasted), 0, count)
        instead = more['pasted'][places].astype(jnp.float32)
      state, _ = step.train_step(
        *(recipe, state, shaped[:1], jnp.ones(len(shaped[0])), shaped[1]),
        *(rates[number], instead),
      )
      # Of about one in `average + 1` of the steps so far, the latest ones, by
      # polynomial decay (Shamir and Zhang, 2013, section 4).
      share = (settings.average + 1) / (number + 1 + settings.average)
      latest = state.params, state.stats
      mean = jax.tree.map(
        lambda old, new: old + share * (new - old), mean, latest
      )
      return (state, mean if settings.average else latest), None

    fresh = step.init_head(recipe, key)
    begun = fresh, (fresh.params, fresh.stats)
    found = jax.lax.scan(one, begun, jnp.arange(settings.steps))[0]
    state, (params, stats) = found
    return state._replace(params=params, stats=stats)

  @jax.jit
  def score(state, rows):
    shaped = rows.astype(jnp.float32)[:, None, None]
    return step.patch_scores(recipe, state, [shaped])[:, 0, 0]

  return train, score


def trained(
  settings: Heads, patches: np.ndarray, seed: int, pasted: np.ndarray
):
  """Trains a head; returns a function from patches `[n, dim]` to scores.

  Patches, `pasted` ones as well, have a spread of 1.
  """
  train, score = _program(settings, patches.shape[-1])
  key, more = step.head_key(seed, 'study'), {}
  if settings.noise == 'colour':
    values, vectors = np.linalg.eigh(np.cov(_some(patches).T))
    values = np.sqrt(np.maximum(values, 0))
    more['colour'] = (
      vectors * values / np.sqrt(np.mean(values**2))
    ) @ vectors.T
  if settings.noise == 'spacing':
    others = nearest.prepare(_some(patches, 1))
    near = nearest.distances(_some(patches), others)
    # As long as the median distance where sigma is .25.
    more['spacing'] = np.median(near) / np.sqrt(patches.shape[-1]) / 0.25
  if settings.pasted:
    more['pasted'] = pasted
  state = train(key, jnp.asarray(patches), jax.tree.map(jnp.float32, more))

  def scores(rows):
    parts = []
    for start in range(0, len(rows), _CHUNK):
      part = rows[start : start + _CHUNK]
      padded = np.pad(part, ((0, _CHUNK - len(part)), (0, 0)))
      parts.append(np.asarray(score(state, padded))[: len(part)])
    return np.concatenate(parts)

  return scores


def _some(patches: np.ndarray, seed: int = 0) -> np.ndarray:
  drawn = np.random.default_rng(seed).choice(len(patches), 4000)
  return patches[drawn].astype(np.float32)
