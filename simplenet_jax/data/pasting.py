"""Defects pasted on good images: counterfeits that the backbone sees, too.

Noise on features makes them far from good ones in every direction alike; a
pasted defect makes those that the backbone has for scratches, stains, dents and
parts out of place. The idea is that of CutPaste (Li et al., CVPR 2021) and,
with drawn outlines, of DRAEM (Zavrtanik et al., ICCV 2021) and GLASS (Chen et
al., ECCV 2024). All that is pasted comes from the image itself: a head that
does not see the image does not see its defect.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

_RADII = 4.0, 48.0  # Of defects, in the network's pixels.
_LEAST = 6  # Pixels that change, of a defect.
_VISIBLE = 4.0  # Gray levels by which a pixel changes.
_TRIES = 20


def paste(
  rng: np.random.Generator, image: np.ndarray, roi: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a copy of an image with a defect on it, and where that is.

  The image is uint8 `[height, width, 3]`; the place and the region of interest,
  in which the defect has its centre, are bool `[height, width]`. Where nothing
  can be seen to change after some attempts, the place is empty.
  """
  image = image.astype(np.float32)
  detail = _detail(image) if roi is None else _detail(image) * roi
  weights = detail.ravel().cumsum()
  for _ in range(_TRIES):
    at = int(np.searchsorted(weights, rng.random() * weights[-1]))
    centre = divmod(min(at, len(weights) - 1), image.shape[1])
    shape = _outline(rng, centre, image.shape[:2])
    filled = _FILLS[rng.integers(len(_FILLS))](rng, image)
    opacity = rng.uniform(0.5, 1.0)
    changed = image + opacity * shape[..., None] * (filled - image)
    changed = changed.clip(0, 255).round()
    visible = np.abs(changed - image).mean(-1) > _VISIBLE
    if visible.sum() >= _LEAST:
      place = np.logical_and(shape > 0.3, ndimage.maximum_filter(visible, 5))
      return changed.astype(np.uint8), place
  return image.astype(np.uint8), np.zeros(image.shape[:2], bool)


def _detail(image: np.ndarray) -> np.ndarray:
  """Returns how much there is to see about each pixel, `[height, width]`.

  Defects are where the part is, more often than on a plain background.
  """
  gray = ndimage.gaussian_filter(image.mean(-1), 1.0)
  edges = np.hypot(ndimage.sobel(gray, 0), ndimage.sobel(gray, 1))
  edges = ndimage.gaussian_filter(edges, 4.0)
  return edges / (edges.mean() + 1e-6) + 0.1


def _outline(
  rng: np.random.Generator, centre: tuple[int, int], size: tuple[int, ...]
) -> np.ndarray:
  """Draws a scratch, an ellipse or a blot, 0 to 1, `[height, width]`."""
  y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
  y, x = y - centre[0], x - centre[1]
  turn, kind = rng.uniform(0, np.pi), rng.integers(3)
  along = np.cos(turn) * x + np.sin(turn) * y
  across = np.cos(turn) * y - np.sin(turn) * x
  radius = np.exp(rng.uniform(*np.log(_RADII)))
  if kind == 0:
    radii = radius, max(1.2, radius * rng.uniform(0.05, 0.25))
  else:
    radii = radius * rng.uniform(0.6, 1.2), radius * rng.uniform(0.4, 1.0)
  far = (along / radii[0]) ** 2 + (across / radii[1]) ** 2
  if kind == 2:
    far += 0.9 * _clouds(rng, size, max(2.0, 0.3 * radius))
  inside = (far < 1).astype(np.float32)
  soft = rng.choice([0.0, 0.7, 1.5])
  return ndimage.gaussian_filter(inside, soft) if soft else inside


def _clouds(
  rng: np.random.Generator, size: tuple[int, ...], scale: float
) -> np.ndarray:
  """Draws a smooth random field with a deviation of 1, `[height, width]`."""
  field = ndimage.gaussian_filter(rng.standard_normal(size), scale, mode='wrap')
  return (field / field.std()).astype(np.float32)


# What fills an outline: each returns float `[height, width, 3]`.


def _cut(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """Another place of the image, mirrored or not, brighter or darker or not."""
  flips = tuple(np.flatnonzero(rng.random(2) < 0.5).tolist())
  shift = tuple(int(rng.integers(side)) for side in image.shape[:2])
  found = np.roll(np.flip(image, flips), shift, (0, 1))
  if rng.random() < 0.5:
    mean = image.mean()
    found = (found - mean) * rng.uniform(0.7, 1.3) + mean + rng.uniform(-25, 25)
  return found


def _shift(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """The image, moved by a little."""
  far, turn = rng.uniform(3, 30), rng.uniform(0, 2 * np.pi)
  moved = int(far * np.sin(turn)), int(far * np.cos(turn))
  return np.roll(image, moved, (0, 1))


def _tint(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """The image, brighter or darker, with or without another hue."""
  hue = rng.normal(size=3) * rng.choice([0, 12])
  return image + rng.choice([-1, 1]) * rng.uniform(12, 70) + hue


def _bend(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """The image, warped."""
  size, scale = image.shape[:2], rng.uniform(4, 16)
  moved = scale / 3 * rng.uniform(1, 3)
  places = np.mgrid[: size[0], : size[1]].astype(np.float32)
  places += np.stack([moved * _clouds(rng, size, scale) for _ in range(2)])
  bent = [
    ndimage.map_coordinates(image[..., channel], places, order=1, mode='mirror')
    for channel in range(3)
  ]
  return np.stack(bent, -1)


def _grain(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """The image, or a blurred one, with a random texture on it."""
  blur = rng.choice([0.0, 1.0, 3.0])
  base = ndimage.gaussian_filter(image, (blur, blur, 0)) if blur else image
  texture = _clouds(rng, image.shape[:2], rng.uniform(0.5, 4))
  tint = 1 + 0.3 * rng.normal(size=3)
  return base + texture[..., None] * rng.uniform(8, 40) * tint


_FILLS: tuple[Callable[[np.random.Generator, np.ndarray], np.ndarray], ...] = (
  *(_cut, _shift, _tint, _bend, _grain),
)
