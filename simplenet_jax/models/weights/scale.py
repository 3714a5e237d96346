"""How widely a backbone's features spread, against torchvision's V1 weights.

The method's noise has one sigma for all features, .015, which was chosen for
torchvision's V1 weights: to features that spread twice as wide the same noise
is half as much.
"""

import functools
from collections.abc import Sequence

import numpy as np
import threadpoolctl
from flax import nnx

from simplenet_jax.data import images
from simplenet_jax.models import patches, resnet
from simplenet_jax.models.weights import forward

SIGMA = 0.015  # Of the method, for V1 weights.
# Features that spread by less than this factor more or less than the reference
# are not told. With the other real weights at hand, ResNet50 as its authors
# made it, the ratio on the made images is within a fifth of that on photographs
# of screws and of transistors, for all levels; those two differ by as much.
TOLERANCE = 1.8
# What `spread` gives for torchvision's V1 weights of ResNet18, by levels.
_V1 = {
  (1,): 0.3418,
  (2,): 0.2140,
  (3,): 0.1336,
  (1, 2): 0.2787,
  (1, 3): 0.2540,
  (2, 3): 0.1693,
  (1, 2, 3): 0.2134,
}
_SIZE = 128  # Of an image's sides, in pixels.
_COUNT = 2  # Images.


def has_reference(architecture: str) -> bool:
  """Returns whether there are V1 weights; not of the demo's backbone."""
  return architecture != 'demo_resnet'


def relative(
  state: nnx.State, architecture: str, levels: Sequence[int]
) -> float:
  """Measures how widely features spread, relative to torchvision's V1 weights.

  The reference is the V1 ResNet18 for every architecture: V1 weights of the
  others could not be measured. Pooling to the same dimensions makes
  architectures comparable, not equal.

  Args:
    state: From `weights.load`, before any probe.
    architecture: A key of `resnet.ARCHITECTURES` with a reference.
    levels: The levels in use, ascending.
  """
  return spread(state, architecture, levels) / _V1[tuple(levels)]


def fitting_sigma(relative: float) -> float:
  """Returns the sigma that is to features what the method's is to V1's.

  Args:
    relative: How widely they spread, from `relative`.
  """
  return SIGMA * relative


def alike(one: float, other: float) -> bool:
  """Returns whether two spreads, or two sigmas, are within the tolerance."""
  return max(one, other) <= TOLERANCE * min(one, other)


def spread(state: nnx.State, architecture: str, levels: Sequence[int]) -> float:
  """Measures how widely features spread over a few made images.

  It is measured on what the adaptor is given, features pooled as in the
  protocols (3 x 3 neighbourhoods, 1536 dimensions): the root mean square of
  the dimensions' standard deviations over positions and images.

  Args:
    state: As for `relative`.
    architecture: A key of `resnet.ARCHITECTURES`.
    levels: The levels in use, ascending.
  """
  spec = resnet.ARCHITECTURES[architecture]
  channels = tuple(spec.channels(level) for level in levels)
  pooling = patches.pooling_for(channels, 3, 1536, 1536)
  # The products are small: threads of the BLAS mostly wait for each other, many
  # times as long where the processor has other work.
  with threadpoolctl.threadpool_limits(1, 'blas'):
    features = forward.features(state, levels, _images())
    pooled = map(forward.pool, features, pooling)
    variances = [np.var(level, (0, 1, 2), np.float64) for level in pooled]
  return float(np.sqrt(np.concatenate(variances).mean()))


@functools.cache
def _images() -> np.ndarray:
  """Makes normalised images, `[2, 128, 128, 3]` float32, always the same.

  They are smooth noise, as of a plain part under uneven light, and a few
  patches with hard edges.
  """
  rng = np.random.default_rng(0)
  made = []
  for _ in range(_COUNT):
    shared = _smooth(rng)
    channels = [shared + 0.3 * _smooth(rng) for _ in range(3)]
    image = 0.5 + 0.1 * np.stack(channels, axis=-1)
    for _ in range(4):
      top, left = rng.integers(0, _SIZE * 3 // 4, 2)
      height, width = rng.integers(_SIZE // 8, _SIZE // 2, 2)
      patch = image[top : top + height, left : left + width]
      patch[:] = 0.6 * patch + 0.4 * rng.uniform(0, 1, 3)
    made.append(image)
  pixels = np.stack(made).clip(0, 1) * 255
  return images.normalize(pixels.astype(np.uint8))


def _smooth(rng: np.random.Generator) -> np.ndarray:
  """Returns noise with the spectrum 1 / f^2, mean 0 and deviation 1."""
  frequency = np.hypot(
    np.fft.fftfreq(_SIZE)[:, None], np.fft.rfftfreq(_SIZE)[None]
  )
  frequency[0, 0] = np.inf
  white = np.fft.rfft2(rng.standard_normal((_SIZE, _SIZE)))
  noise = np.fft.irfft2(white / frequency**2, (_SIZE, _SIZE))
  return noise / noise.std()
