"""Pictures that stand alone: colours, lines, and what is written on them."""

import numpy as np
import pytest
from PIL import Image

from simplenet_jax import pictures
from simplenet_jax.pictures import FOUND, TRUTH, Scale, View

SCALE = Scale.of(1.0, 9.0, 3.0)  # From 1 to 5, its limit in the middle.
GRAY = Image.new('RGB', (600, 600), (120, 120, 120))


def spot(peak, size=600):
  """Returns a map of 1, with a smooth spot in its upper left quarter."""
  y, x = np.indices((size, size)) / size
  distance = (x - 0.25) ** 2 + (y - 0.25) ** 2
  return (1 + (peak - 1) * np.exp(-distance / 0.005)).astype(np.float32)


def has(picture, colour):
  """Returns where a picture is of a colour, bool `[height, width]`."""
  return (np.asarray(picture) == colour).all(-1)


@pytest.mark.parametrize(
  ('usual', 'hot', 'limit', 'ends'),
  [
    (1, 9, 3, (1, 5)),
    (1, 9, None, (1, 9)),
    (1, 9, 0, (-4, 4)),  # A limit of one's own, below what is usual.
    (1, 1, 1, (0, 2)),
  ],
)
def test_the_limit_is_half_way(usual, hot, limit, ends):
  assert Scale.of(usual, hot, limit) == (*ends, limit)


def test_the_good_part_is_not_veiled_and_the_limit_stands_out():
  scores = np.array([-9, 1, 1.8, 2.9, 3.1, 4, 5, 99, np.nan], np.float32)
  *opacity, unknown = SCALE.colours(scores)[:, 3].tolist()
  assert opacity[:3] == [0, 0, 0]
  assert opacity == sorted(opacity)
  assert (opacity[4] > 100, unknown) == (True, 0)


def test_colours_differ_for_the_colour_blind():
  """As a deuteranope sees them (Machado et al., 2009), on linear RGB."""
  seen = [[0.367, 0.861, -0.228], [0.28, 0.673, 0.047], [-0.012, 0.043, 0.969]]
  scores = np.array([2.0, 3.0, 4.0, 5.0])
  shown = [*SCALE.colours(scores)[:, :3], FOUND, TRUTH]
  linear = (np.array(shown) / 255) ** 2.2 @ np.transpose(seen)
  shown = linear.clip(0, 1) ** (1 / 2.2) * 255
  apart = np.linalg.norm(shown[:, None] - shown, axis=-1)
  assert apart[~np.eye(len(shown), dtype=bool)].min() > 40


def draw(heat, score, limit=2.0, scale=SCALE, name='part.png', image=GRAY):
  return View(image, heat, scale, name, score, limit).picture()


def panels(picture):
  """Returns the photograph and the heat map of a picture of `GRAY`."""
  pixels = np.asarray(picture)
  top = np.flatnonzero((pixels == 120).all(-1).sum(1) > 500)[0]
  gap = 600 // 50
  left, right = (
    pixels[top : top + 600, x : x + 600] for x in (gap, 2 * gap + 600)
  )
  return left, right


def test_what_is_beyond_the_pixel_limit_is_outlined():
  heat = spot(6)
  photograph, shown = panels(draw(heat, 5.01))
  np.testing.assert_array_equal(photograph, GRAY)
  row, column = np.nonzero(has(shown, FOUND))
  # All around the spot, and close to where it passes the limit.
  assert len(row) > 200
  assert np.abs(heat[row, column] - 3).max() < 0.5
  # Elsewhere the photograph is as it was.
  assert (shown[300:, 300:] == 120).all()


@pytest.mark.parametrize(
  ('score', 'limit', 'scale', 'ringed'),
  [
    (2.5, 2.0, SCALE, True),
    (1.5, 2.0, SCALE, False),
    (2.5, None, Scale.of(1, 9, None), True),
  ],
)
def test_a_ring_tells_why_where_no_pixel_is_beyond(score, limit, scale, ringed):
  _, shown = panels(draw(spot(2.9), score, limit, scale))
  row, column = np.nonzero(has(shown, FOUND))
  assert bool(len(row)) == ringed
  if ringed:
    centre = (row.min() + row.max()) / 2, (column.min() + column.max()) / 2
    assert centre == pytest.approx((150, 150), abs=3)
    assert np.ptp(row) < 80


def test_the_scale_has_its_limit_marked():
  limited, free = (
    np.asarray(draw(spot(6), 5, scale=scale).convert('L'))
    for scale in (SCALE, SCALE._replace(limit=None))
  )
  # A dark line across the colours, in their middle.
  middle = limited.shape[1] // 2
  bar = np.s_[600 + 200 :, middle - 1 : middle + 1]
  assert (limited[bar] < 60).all(1).sum() > 20
  assert (free[bar] < 60).all(1).sum() < 10


@pytest.mark.parametrize(
  ('score', 'limit', 'told'),
  [
    (5.01, 2.44, 'NOT OK 5.01 (limit 2.44)'),
    (1.02, 2.44, 'OK 1.02 (limit 2.44)'),
    (2.44, 2.44, 'OK 2.44 (limit 2.44)'),
    (2.4412, 2.4408, 'NOT OK 2.4412 (limit 2.4408)'),
    (-0.5, None, 'Score -0.500'),
  ],
)
def test_the_verdict(score, limit, told):
  assert pictures.verdict(score, limit)[1] == told


def test_names_of_all_kinds_are_written():
  names = ['a.png', 'Größe.png', '测试.png', 'z\udce9\n.png', 250 * 'n']
  drawn = [draw(spot(6), 5, name=name) for name in names]
  assert len({picture.tobytes() for picture in drawn}) == len(names)
  # A long one is wrapped, not cut.
  assert drawn[-1].height > drawn[0].height


@pytest.mark.parametrize('size', [(600, 600), (1024, 20), (20, 1024)])
def test_text_is_legible_on_a_phone(size):
  image = Image.new('RGB', size, (120, 120, 120))
  heat = np.ones(size[::-1], np.float32)
  heat[:, : size[0] // 3] = np.nan  # What a crop leaves out.
  shown = draw(heat, 5.01, image=image)
  # The verdict's letters are white on a ground of its colour.
  row, _ = np.nonzero(has(shown, (180, 60, 0)))
  assert np.ptp(row) * 390 / shown.width > 20


@pytest.mark.parametrize(
  ('score', 'limit', 'defective', 'colour'),
  [
    (5.0, 2.0, True, (180, 60, 0)),
    (1.0, 2.0, True, (0, 95, 160)),
    (1.0, None, False, (30, 30, 30)),
  ],
)
def test_the_sheet_shows_truth_and_finding_apart(
  score, limit, defective, colour
):
  heat, mask = spot(6), np.zeros((600, 600), bool)
  mask[300:400, 300:400] = True
  view = View(GRAY, heat, SCALE, 'crack/1.png', score, limit)
  cell = view.beside(pictures.mask_contours(mask), defective)
  truth = np.nonzero(has(cell, TRUTH))
  top = cell.height - 600
  assert set(truth[1] // 602) == {1}  # On the second of three panels.
  assert np.abs(truth[0] - top - 350).max() < 60
  assert 100 < len(truth[0]) < 2000
  whole = pictures.sheet(['The title'], [cell] * 3, SCALE)
  assert whole.width > 2 * cell.width
  assert whole.height > 2 * cell.height
