"""Nearest neighbours: how far patches lie from a bank of good ones.

The bank is a coreset, as in PatchCore (Roth et al., "Towards total recall in
industrial anomaly detection", CVPR 2022, section 3.2). A patch's score is its
distance, beside the weighted score of a head, each in units of its own spread
over the bank: the sum of `(value - mean) / deviation`.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simplenet_jax.models import head as heads

_ROUND = 8  # Patches chosen at a time, five times faster than one by one.
_TILE = 512  # Rows of a bank whose distances to all others are held at a time.
_ROUNDING = 1e-6  # Relative; scores that vary less do not vary.
_PREPARED = 'centre', 'columns', 'squares'
_LEAST_SPREAD = 1e-3  # The same of distances, to the size of the whole bank.

Head = Mapping[str, np.ndarray]  # A finished head's leaves, by name.
Units = tuple[float, float]  # A score's mean and deviation over a bank.


def _half_squares(rows: jax.Array, bank: jax.Array) -> jax.Array:
  """Returns squared distances `[..., rows, bank]`, less the rows' squares."""
  product = jnp.matmul(rows, bank.T, precision=jax.lax.Precision.HIGHEST)
  return jnp.sum(jnp.square(bank), axis=-1) - 2 * product


def _root(less: jax.Array, rows: jax.Array) -> jax.Array:
  """Returns distances of what `_half_squares` gave of rows `[..., dim]`."""
  squares = less + jnp.sum(jnp.square(rows), axis=-1)
  return jnp.sqrt(jnp.maximum(squares, 0))  # Rounding can leave less.


def prepare(bank: Any) -> dict[str, Any]:
  """Returns a bank `[size, dim]` as `distances` takes it."""
  # Far from zero, the squares of features would hide small distances.
  centre = bank.mean(axis=0)
  columns = (bank - centre).T
  return {
    'nearest.centre': centre,
    'nearest.columns': -2 * columns,
    'nearest.squares': (columns * columns).sum(axis=0),
  }


@jax.jit
def distances(patches: jax.Array, bank: Mapping[str, Any]) -> jax.Array:
  """Returns each patch's Euclidean distance to the nearest of a bank.

  Patches are float32 `[..., dim]`, the bank is from `prepare`, the result is
  `[...]`. Memory holds all distances between them.
  """
  centre, columns, squares = (bank[f'nearest.{name}'] for name in _PREPARED)
  # CPUs multiply one matrix by another faster than a stack of them.
  rows = jnp.reshape(patches - centre, (-1, len(columns)))
  product = jnp.matmul(rows, columns, precision=jax.lax.Precision.HIGHEST)
  least = jnp.min(squares + product, axis=-1)
  return jnp.reshape(_root(least, rows), patches.shape[:-1])


@functools.partial(jax.jit, static_argnames='size')
def choose(patches: jax.Array, size: int) -> jax.Array:
  """Chooses patches that cover all of them, int32 `[size]` without repetition.

  Greedy k-center: those follow that lie farthest from all chosen so far, a few
  at a time. Patches are float32 `[patches, dim]`, not fewer than `size`.
  """
  patches -= jnp.mean(patches, axis=0)
  squares = jnp.sum(jnp.square(patches), axis=1)
  count = min(_ROUND, size)

  def choose_more(number, found):
    nearest, chosen = found
    farthest = jax.lax.top_k(nearest, count)[1]
    to_them = jnp.min(_half_squares(patches, patches[farthest]), axis=1)
    nearest = jnp.minimum(nearest, to_them + squares)
    chosen = jax.lax.dynamic_update_slice(chosen, farthest, (number * count,))
    return nearest.at[farthest].set(-jnp.inf), chosen

  rounds = -(-size // count)
  chosen = jnp.zeros(rounds * count, jnp.int32)
  return jax.lax.fori_loop(0, rounds, choose_more, (squares, chosen))[1][:size]


@jax.jit
def _to_other_images(bank: jax.Array, images: jax.Array) -> jax.Array:
  centred = bank - jnp.mean(bank, axis=0)

  def one(given):
    row, image = given
    less = _half_squares(row, centred)
    return _root(jnp.min(jnp.where(images == image, jnp.inf, less)), row)

  return jax.lax.map(one, (centred, images), batch_size=_TILE)


def distance_units(bank: Any, images: np.ndarray) -> Units:
  """Returns how far the patches of a bank lie from those of other images.

  `images`, int `[size]`, tells which each is of; where all are of one, the
  others count. A ValueError tells if features are not finite, or their
  distances do not vary.
  """
  if len(np.unique(images)) == 1:
    images = np.arange(len(images))
  mean, deviation = _spread(_to_other_images(bank, images))
  radius = float(np.sqrt(np.sum(np.var(bank, axis=0))))
  if not np.isfinite(mean):
    raise ValueError('features are not finite; use --config.bank.dtype=float32')
  # Squares are rounded: distances far below the radius are nothing but that.
  if not _LEAST_SPREAD * radius < deviation < np.inf:
    raise ValueError(
      'its good images do not differ, so that distances have no unit; give '
      'other images, or more of them'
    )
  return mean, deviation


_head_scores = jax.jit(heads.apply, static_argnums=(2, 3))


def head_units(head: Head, bank: Any) -> Units:
  """Returns a head's units; where its scores do not vary, they count nothing.

  The head is one as it is saved, see `head.fold`.
  """
  # A patch of merged levels is as one of a single level.
  levels = [bank[None, :, None]]
  return _spread(_head_scores(heads.fold([head]), levels, (0,), 'float32'))


def _spread(values: jax.Array) -> Units:
  """Returns a mean and a deviation, infinite where nothing varies."""
  found = np.asarray(values, np.float64)
  mean, deviation = float(found.mean()), float(found.std())
  varies = deviation > _ROUNDING * np.abs(found).mean()
  return mean, deviation if varies else np.inf


def combine(
  distance: np.ndarray,
  of_distance: Units,
  score: np.ndarray | float = 0.0,
  of_score: Units = (0.0, 1.0),
  weight: float = 0.0,
) -> np.ndarray:
  """Returns patch scores, float32, of distances and of a head's scores."""
  mean, deviation = of_score
  theirs = weight * ((np.asarray(score, np.float64) - mean) / deviation)
  mean, deviation = of_distance
  return ((distance - mean) / deviation + theirs).astype(np.float32)


def fold(
  bank: np.ndarray, of_distance: Units, saved: Sequence[Head], weight: float
) -> dict[str, np.ndarray]:
  """Returns weights whose scores are the mean of `combine` over heads.

  Beside those of `head.fold`, whose scores are in units already:

    nearest.bank   [size, dim], float32
    nearest.units  [2], what distances are multiplied by, and what is added
  """
  mean, deviation = of_distance
  scale, shift = 1 / deviation, -mean / deviation
  folded: dict[str, np.ndarray] = {}
  if saved and weight:
    units = [head_units(one, bank) for one in saved]
    folded = heads.fold(saved)
    factors = weight / np.array([deviation for _, deviation in units])
    shift -= float(np.mean(factors * [mean for mean, _ in units]))
    tails = folded['head.tail'].reshape(len(saved), -1) * factors[:, None]
    folded['head.tail'] = tails.ravel().astype(np.float32)
  return {
    **folded,
    'nearest.bank': np.asarray(bank, np.float32),
    'nearest.units': np.array([scale, shift], np.float32),
  }


def apply(weights: Mapping[str, Any], patches: jax.Array) -> jax.Array:
  """Returns scores `[batch, H, W]` of distances.

  Weights are those of `fold`, the bank in the form of `prepare`.
  """
  scale, shift = weights['nearest.units'][0], weights['nearest.units'][1]
  return scale * distances(patches, weights) + shift
