"""Normal draws from a counter: cheap, their bits the same on every device.

Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy
as 1, 2, 3", 2011) of a key and a counter. `jax.random` offers it too; here the
rounds are laid out flat, so that they fuse with what follows, and both output
words are used. A draw depends on its key alone, under `vmap` as well.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def threefry(
  key: jax.Array, high: jax.Array, low: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Enciphers counters of two words, uint32 each, with a key, uint32 `[2]`."""
  schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
  high, low = high + schedule[0], low + schedule[1]
  for group in range(5):
    for by in _ROTATIONS[group % 2]:
      high = high + low
      low = ((low << np.uint32(by)) | (low >> np.uint32(32 - by))) ^ high
    high = high + schedule[(group + 1) % 3]
    low = low + schedule[(group + 2) % 3] + np.uint32(group + 1)
  return high, low


def fold_in(key: jax.Array, number: jax.Array | int) -> jax.Array:
  """Derives a key, uint32 `[2]`, from another and a number below 2**32."""
  number = jnp.asarray(number, jnp.uint32)
  # Draws count in the first word and leave the second at zero.
  return jnp.stack(threefry(key, number, jnp.uint32(1)))


def _unit(word: jax.Array) -> jax.Array:
  """Maps words to numbers from 0 to below 1, float32."""
  ones = np.uint32(0x3F800000)  # The bits of 1.0: the word fills its mantissa.
  return (
    jax.lax.bitcast_convert_type((word >> np.uint32(9)) | ones, jnp.float32) - 1
  )


def _normal(word: jax.Array) -> jax.Array:
  """Maps words to normals by the inverse of the distribution function."""
  # In (-1, 1), symmetric about zero, neither end included.
  return np.float32(math.sqrt(2)) * jax.lax.erf_inv(
    2 * _unit(word) - np.float32(1 - 2**-23)
  )


def normal(key: jax.Array, shape: Sequence[int]) -> jax.Array:
  """Draws fewer than 2**33 standard normals, float32, below 5.4 in size."""
  size = math.prod(shape)
  counters = jax.lax.iota(jnp.uint32, -(-size // 2))
  words = threefry(key, counters, jnp.uint32(0))
  drawn = jnp.concatenate([_normal(word) for word in words])
  return drawn[:size].reshape(shape)


def integers(key: jax.Array, shape: Sequence[int], end: int) -> jax.Array:
  """Draws whole numbers, independent of `normal` with the same key.

  They are int32, from 0 to below `end`, which is 2**23 at most; likelihoods
  differ by less than one in 2**23 / end.
  """
  counters = jax.lax.iota(jnp.uint32, math.prod(shape))
  # Normals count with 0, derived keys with 1 as their second word.
  drawn, _ = threefry(key, counters, jnp.uint32(2))
  return (_unit(drawn) * end).astype(jnp.int32).reshape(shape)
