"""From patch scores to image scores and anomaly maps.

Paper, section 3.6 (equations 9 to 11); released code, `common.py`
(`RescaleSegmentor`) and `patchcore` (`PatchMaker.score`).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from simplenet_jax.models import resampling


def image_scores(patch_scores: ArrayLike) -> jax.Array:
  """Returns each image's score `[...]`, its largest patch's (equation 11)."""
  return jnp.max(jnp.asarray(patch_scores), axis=(-2, -1))


def anomaly_map(
  patch_scores: jax.Array, size: tuple[int, int], sigma: float = 4.0
) -> jax.Array:
  """Upsamples one image's patch scores bilinearly and smooths them.

  Args:
    patch_scores: `[height, width]`, float.
    size: Height and width of the network's input, in pixels.
    sigma: Standard deviation of the Gaussian, in pixels of `size`; 0: none.

  Returns:
    `[*size]`, in the dtype and units of `patch_scores`.
  """
  rows, cols = (
    resampling.gaussian_matrix(new, sigma)
    @ resampling.bilinear_matrix(old, new)
    for old, new in zip(patch_scores.shape, size, strict=True)
  )
  return resampling.separable(patch_scores, rows, cols)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _anomaly_maps(patch_scores, size, sigma):
  return jax.vmap(lambda one: anomaly_map(one, size, sigma))(patch_scores)


def anomaly_maps(
  patch_scores: ArrayLike, size: Sequence[int], sigma: float = 4.0
) -> jax.Array:
  """Returns `anomaly_map` of each image of a batch, `[batch, *size]`."""
  height, width = (int(side) for side in size)
  return _anomaly_maps(jnp.asarray(patch_scores), (height, width), float(sigma))
