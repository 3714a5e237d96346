"""Draws a training batch's views, inside the compiled step."""

import jax
import jax.numpy as jnp

from simplenet_jax.pretraining import disturbances

CROP = 96  # Side of a training view, in pixels.
MEAN = (0.485, 0.456, 0.406)  # The normalisation that SimpleNet's images get.
STD = (0.229, 0.224, 0.225)
_BLOCK = disturbances.BLOCK


def normalise(images: jax.Array) -> jax.Array:
  """Maps colours `[..., 3]` in [0, 1] to the network's input."""
  return (images - jnp.asarray(MEAN)) / jnp.asarray(STD)


def _view(
  key: jax.Array, image: jax.Array, kinds: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Crops, mirrors and transposes one image and its map of kinds."""
  crop_key, flip_key = jax.random.split(key)
  blocks = CROP // _BLOCK
  spare = kinds.shape[0] - blocks + 1
  row, column = jax.random.randint(crop_key, (2,), 0, spare)
  image = jax.lax.dynamic_slice(
    image, (row * _BLOCK, column * _BLOCK, 0), (CROP, CROP, 3)
  )
  kinds = jax.lax.dynamic_slice(kinds, (row, column), (blocks, blocks))
  flips = jax.random.bernoulli(flip_key, 0.5, (3,))
  for axis in (0, 1):
    image = jnp.where(flips[axis], jnp.flip(image, axis), image)
    kinds = jnp.where(flips[axis], jnp.flip(kinds, axis), kinds)
  image = jnp.where(flips[2], image.swapaxes(0, 1), image)
  return image, jnp.where(flips[2], kinds.T, kinds)


def _develop(key: jax.Array, images: jax.Array) -> jax.Array:
  """Changes exposure, contrast, colour balance, sharpness, and adds noise."""
  keys = jax.random.split(key, 7)
  each = (len(images), 1, 1, 1)
  gain = jnp.exp(0.2 * jax.random.normal(keys[0], each))
  offset = 0.07 * jax.random.normal(keys[1], each)
  balance = jnp.exp(0.06 * jax.random.normal(keys[2], (len(images), 1, 1, 3)))
  mean = images.mean((1, 2, 3), keepdims=True)
  images = ((images - mean) * gain + mean + offset) * balance
  grey = images.mean(-1, keepdims=True)
  images = jnp.where(jax.random.bernoulli(keys[3], 0.1, each), grey, images)
  # A cross of five pixels: a light blur, of random strength.
  blur = 0.2 * jax.random.uniform(keys[4], each)
  blur = blur * jax.random.bernoulli(keys[5], 0.3, each)
  around = sum(jnp.roll(images, s, a) for s in (1, -1) for a in (1, 2))
  images = images * (1 - 4 * blur) + around * blur
  level_key, noise_key = jax.random.split(keys[6])
  level = 0.05 * jax.random.uniform(level_key, each) ** 2
  # Uniform bytes: four for the price of one normal number.
  noise = jax.random.bits(noise_key, images.shape, jnp.uint8)
  return images + level * (noise.astype(jnp.float32) / 128 - 1)


def batch(
  key: jax.Array, images: jax.Array, kinds: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Draws one view of every image.

  Args:
    key: Randomness.
    images: `[batch, size, size, 3]`, uint8.
    kinds: What disturbs them, `[batch, size / BLOCK, size / BLOCK]`, uint8.

  Returns:
    Normalised views `[batch, CROP, CROP, 3]`, float32, and the maps of kinds
    `[batch, CROP / BLOCK, CROP / BLOCK]`, uint8.
  """
  view_key, develop_key = jax.random.split(key)
  keys = jax.random.split(view_key, len(images))
  views, kinds = jax.vmap(_view)(keys, images, kinds)
  views = _develop(develop_key, views.astype(jnp.float32) / 255)
  return normalise(views), kinds
