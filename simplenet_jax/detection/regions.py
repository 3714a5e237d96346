"""Where the defects of an image are: connected regions of its anomaly map."""

from typing import NamedTuple

import numpy as np

from simplenet_jax.data.frame import Frame


class Region(NamedTuple):
  """Connected pixels beyond the pixel threshold, in the image's own pixels."""

  rank: int  # 1 has the highest peak.
  # x, y, width and height: x to the right, y down, from the upper left corner.
  box: tuple[int, int, int, int]
  area: int  # Pixels beyond the threshold.
  peak: float  # The highest value of the map in the region.
  peak_at: tuple[int, int]  # Its pixel, x and y.
  mean: float  # Of the map in the region.


def find(input_map: np.ndarray, frame: Frame, limit: float) -> list[Region]:
  """Returns the regions of a map beyond a limit, the highest peak first.

  They are found in the pixels of the network's input, float32 `[*input]`, where
  corners connect, and scaled to the image's: an edge is off by less than one of
  the input's. None is too small: maps are smooth, so specks are rare.
  """
  (top, bottom), (left, right) = frame.window  # The rest is no image.
  rows = input_map[top - frame.top : bottom - frame.top]
  seen = rows[:, left - frame.left : right - frame.left]
  beyond = seen > limit
  if not beyond.any():  # Most images are good.
    return []
  from scipy import ndimage  # Slow to import.

  labels, count = ndimage.label(beyond, np.ones((3, 3)))  # pyright: ignore
  (height, width), (down, across) = frame.original, frame.resized
  found = []
  for label, part in enumerate(ndimage.find_objects(labels, count), start=1):
    values = np.where(labels[part] == label, seen[part], np.nan)
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    y, x = top + part[0].start, left + part[1].start  # In the resized image.
    bottom, right = top + part[0].stop, left + part[1].stop
    place = x * width // across, y * height // down
    end = -(-right * width // across), -(-bottom * height // down)
    size = end[0] - place[0], end[1] - place[1]
    pixels = np.isfinite(values).sum() * (width * height) / (across * down)
    peak_at = (
      int(2 * (x + column) + 1) * width // (2 * across),
      int(2 * (y + row) + 1) * height // (2 * down),
    )
    peak, mean = float(values[row, column]), float(np.nanmean(values))
    area = max(round(pixels), 1)
    found.append(Region(0, (*place, *size), area, peak, peak_at, mean))
  found.sort(key=lambda one: -one.peak)
  return [one._replace(rank=rank) for rank, one in enumerate(found, 1)]
