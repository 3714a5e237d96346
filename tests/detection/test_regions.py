"""Connected regions, in the image's own pixels."""

import numpy as np
import pytest

from simplenet_jax.data.frame import Frame
from simplenet_jax.detection import regions

# Its two corner pixels are connected to each other.
MAP = np.zeros((8, 10), np.float32)
MAP[1, 2], MAP[2, 3] = 4.0, 2.0
MAP[5:8, 6:10] = 3.0
MAP[6, 7] = 9.0


def test_they_are_ranked_and_scaled_to_the_image():
  frame = Frame((80, 50), (8, 10), (8, 10))
  first, second = regions.find(MAP, frame, 1.0)
  assert first == (1, (30, 50, 20, 30), 600, 9.0, (37, 65), 3.5)
  assert second == (2, (10, 10, 10, 20), 100, 4.0, (12, 15), 3.0)
  assert [one.peak for one in regions.find(MAP, frame, 3.5)] == [9.0, 4.0]
  assert regions.find(MAP, frame, 9.0) == []  # As verdicts: beyond it.


def test_what_is_no_image_has_no_regions():
  # Resized to 4 x 6, in the middle of an input of 8 x 10, framed in black.
  frame = Frame((40, 60), (4, 6), (8, 10), -2, -2)
  first, second = regions.find(MAP, frame, 1.0)
  assert first == (1, (40, 30, 20, 10), 200, 3.0, (45, 35), 3.0)
  assert second == (2, (10, 0, 10, 10), 100, 2.0, (15, 5), 2.0)


@pytest.mark.parametrize('original', [(224, 224), (448, 336), (1000, 1500)])
@pytest.mark.parametrize('crop', [0, 56])
def test_boxes_hold_the_mask(original, crop):
  """The mask interpolates; no edge is off by more than an input's pixel."""
  rng = np.random.default_rng(0)
  frame = Frame.of(original, 64, crop, (56, 56))
  y, x = np.indices(frame.input)
  grid = np.zeros(frame.input, np.float32)
  for top, left in ((12, 14), (40, 37)):
    blob = (y - top) ** 2 + (x - left) ** 2
    grid += rng.uniform(2, 3) * np.exp(-blob / 18).astype(np.float32)
  mask = np.nan_to_num(frame.map_to_original(grid), nan=-1) > 1.0
  found = regions.find(grid, frame, 1.0)
  assert len(found) == 2
  cell = [a / b for a, b in zip(original, frame.resized, strict=True)]
  covered = np.zeros(original, bool)
  for one in found:
    x, y, width, height = one.box
    covered[y : y + height, x : x + width] = True
    rows, columns = np.nonzero(mask[y : y + height, x : x + width])
    for edge, size, pixel in (
      (rows, height, cell[0]),
      (columns, width, cell[1]),
    ):
      assert edge.min() <= pixel
      assert size - 1 - edge.max() <= pixel
    px, py = one.peak_at
    assert x <= px < x + width
    assert y <= py < y + height
  grown = np.ceil(cell).astype(int)
  rows, columns = np.nonzero(mask & ~covered)
  for row, column in zip(rows, columns, strict=True):
    near = covered[
      max(row - grown[0], 0) : row + grown[0] + 1,
      max(column - grown[1], 0) : column + grown[1] + 1,
    ]
    assert near.any()
  assert sum(one.area for one in found) == pytest.approx(mask.sum(), rel=0.1)
