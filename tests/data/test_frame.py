"""The way from an image's pixels to the network's input and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simplenet_jax.data.frame import Frame, whole_input_size

SIDES = st.integers(1, 160)
SIZES = st.tuples(SIDES, SIDES)
FRAMES = st.one_of(
  st.builds(Frame.of, SIZES, st.integers(1, 60), st.integers(1, 80)),
  st.builds(Frame.of, SIZES, st.just(0), st.just(0), SIZES),
)


@pytest.mark.parametrize(
  ('original', 'resize', 'crop', 'resized', 'start'),
  [
    ((1024, 1024), 329, 288, (329, 329), (20, 20)),  # 20.5 rounds to even
    ((1024, 1024), 331, 288, (331, 331), (22, 22)),  # 21.5 too
    ((1024, 1024), 256, 224, (256, 256), (16, 16)),
    ((900, 700), 256, 224, (329, 256), (52, 16)),  # 52.5; 329.14 is cut
    ((100, 100), 32, 37, (32, 32), (-2, -2)),  # 5 missing: 2 before, 3 after
    ((100, 200), 32, 48, (32, 64), (-8, 8)),
  ],
)
def test_protocol_sizes(original, resize, crop, resized, start):
  frame = Frame.of(original, resize, crop)
  assert frame == Frame(original, resized, (crop, crop), *start)


@pytest.mark.parametrize(
  ('original', 'expected'),
  [
    ((1024, 1024), (256, 256)),
    ((480, 640), (256, 341)),
    ((10, 4000), (256, 1024)),
    ((4000, 10), (1024, 256)),
  ],
)
def test_whole_input_size(original, expected):
  assert whole_input_size(original, 256) == expected


@given(FRAMES)
def test_a_map_of_ones_is_ones_in_the_box_and_nan_outside(frame):
  result = frame.map_to_original(np.ones(frame.input, np.float32))
  assert result.dtype == np.float32
  top, left, bottom, right = frame.scored
  assert 0 <= top < bottom <= frame.original[0]
  assert 0 <= left < right <= frame.original[1]
  expected = np.full(frame.original, np.nan, np.float32)
  expected[top:bottom, left:right] = 1
  np.testing.assert_array_equal(result, expected)


@given(FRAMES)
def test_a_coordinate_ramp_comes_back_in_place(frame):
  """Every input pixel's own position, sent back, lies where it says it is."""
  for axis in (0, 1):
    start = (frame.top, frame.left)[axis]
    scale = frame.original[axis] / frame.resized[axis]
    ramp = (np.arange(frame.input[axis]) + start + 0.5) * scale - 0.5
    shape = (-1, 1) if axis == 0 else (1, -1)
    scores = np.broadcast_to(ramp.reshape(shape), frame.input)
    result = frame.map_to_original(scores.astype(np.float32))
    error = result - np.arange(frame.original[axis]).reshape(shape)
    # One pixel of the coarser grid: at the edges there is nothing beyond.
    assert np.nanmax(np.abs(error)) <= max(1, scale)


@pytest.mark.parametrize('rows', [1, 2, 100])
def test_regions_that_are_too_thin_for_a_picture_leave_something(rows):
  frame, region = Frame.of((90, 90), 288, 288), np.zeros((288, 288), bool)
  region[98 : 98 + rows] = True
  small = Image.new('RGB', (90, 90))
  heat = frame.map_to_picture(region.astype('f'), small, region)
  found = np.flatnonzero(np.isfinite(heat).any(1))
  assert 1 <= len(found) <= rows
  assert found.min() >= 29 and found.max() <= (98 + rows) * 90 // 288 + 1


@given(FRAMES, st.integers(0, 99))
def test_mask_rules(frame, seed):
  mask = np.random.default_rng(seed).random(frame.original) < 0.7
  pixels = Image.fromarray(mask * np.uint8(255)).convert('RGB')
  shares = frame.image_to_input(pixels)[..., 0]
  for values in (mask, mask.astype(np.uint8), mask * np.uint8(255)):
    reference, _ = frame.mask_to_input(values, 'reference')
    np.testing.assert_array_equal(reference, shares == 255, strict=True)
    half, lost = frame.mask_to_input(values, 'half')
    assert half[shares > 127].all()
    assert half.sum() <= (shares > 127).sum() + lost
    assert not (reference & ~half).any()


def test_other_sizes_are_refused():
  with pytest.raises(ValueError, match='too elongated'):
    Frame.of((100_000, 1), 256, 224)
  frame = Frame((10, 20), (32, 64), (32, 64))
  with pytest.raises(ValueError, match=r'20 x 10.*10 x 20'):
    frame.image_to_input(Image.new('RGB', (10, 20)))
  with pytest.raises(ValueError, match=r'10 x 10.*10 x 20'):
    frame.mask_to_input(np.ones((10, 10), np.uint8), 'half')
