"""What can be looked at, and what it looks like: changes are told, once."""

import io

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.data import images
from simplenet_jax.data.frame import Frame
from simplenet_jax.detection import inputs
from simplenet_jax.detection.inputs import Appearance
from tests.detection import detectors

PIXELS = next(detectors.arrays())


def whole(size):
  return Frame.of(size, 32, 0, (32, 40))


def cropped(size):
  return Frame.of(size, 56, 48)


@pytest.mark.parametrize('frame_of', [whole, cropped])
def test_all_kinds_of_one_image_become_the_same_input(frame_of, tmp_path):
  path = tmp_path / 'one.png'
  Image.fromarray(PIXELS).save(path)
  expected = frame_of(PIXELS.shape[:2])
  pixels = expected.image_to_input(images.read_image(path))
  for item in (path, PIXELS, Image.fromarray(PIXELS), PIXELS[None]):
    (found,) = inputs.ready(item, 16, frame_of)
    assert found.source == (path if item is path else 0)
    assert found.frame == expected
    np.testing.assert_array_equal(found.pixels, pixels)
    assert 0 < found.seconds < 60


def unusable():
  """Yields items and what is said of them."""
  content = images.encoded(PIXELS)
  yield PIXELS.astype(np.float32), r'float32\[40, 52, 3\], expected uint8'
  yield np.zeros((0, 5, 3), np.uint8), r'uint8\[0, 5, 3\], expected'
  yield Image.fromarray(np.zeros((4, 4), 'f')), 'floats'
  yield Image.open(io.BytesIO(content[: len(content) // 2])), 'cannot be read'
  # For a chunk that ends too early PIL raises a SyntaxError.
  data = content.index(b'IDAT')
  short = content[: data - 4] + b'\0\0\0\x40' + content[data:]
  yield Image.open(io.BytesIO(short)), 'cannot be read: broken PNG file'
  yield None, 'expected an image, got NoneType'


def test_what_cannot_be_used_is_told():
  for item, message in unusable():
    with pytest.raises(ValueError, match=message):
      list(inputs.ready([item], 16, whole))
  for given in (None, 3, object()):
    with pytest.raises(TypeError, match='expected images as arrays, paths'):
      list(inputs.ready(given, 16, whole))


def learn(given):
  return Appearance.of(
    [inputs.thumbnail(pixels) for pixels in given],
    [pixels.shape[:2] for pixels in given],
  )


def told(known, given, channels='rgb'):
  """Returns what is said of images, of each kind of change the first."""
  found = {}
  for pixels in given:
    small, size = inputs.thumbnail(pixels), pixels.shape[:2]
    for kind, message in known.changes(small, size, channels):
      found.setdefault(kind, message)
  return list(found.values())


KNOWN = learn(detectors.parts())
NEW = detectors.parts(20, seed=1)


def test_statistics():
  flat = [np.full((16, 32, 3), level, np.uint8) for level in (10, 20, 30)]
  found = learn(flat)
  assert found.mean == (20.0,) * 192
  assert found.std == (8.16,) * 192
  assert found.gray == (10.0, 30.0)
  assert found.aspect == (2.0, 2.0)
  # 100 over a variance of 66.7 and 8 gray levels squared.
  assert found.farthest == pytest.approx(100 / (200 / 3 + 64))


def test_new_images_like_them_are_not_told():
  assert told(KNOWN, NEW) == []
  damaged = [pixels.copy() for pixels in NEW]
  for pixels in damaged:
    pixels[20:26, 20:30] = 255
  assert told(KNOWN, damaged) == []


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda p: p[..., ::-1],
      'fits the training images far better with red and blue exchanged'
      "; channels='bgr' (--channels=bgr) exchanges them",
    ),
    (lambda p: np.rot90(p, 1), 'when turned by 90 degrees clockwise'),
    (lambda p: np.rot90(p, 2), 'far better when turned by 180 degrees'),
    (lambda p: np.rot90(p, 3), 'when turned by 90 degrees anticlockwise'),
    (lambda p: p // 6, 'far darker (mean level 1'),
    (lambda p: 255 - (255 - p.astype(int)) // 5, 'far brighter (mean level 2'),
    (lambda p: p[:, :20], '40 x 20 (height x width) has another aspect (0.50)'),
  ],
)
def test_each_change_is_told_of_a_single_image(change, message):
  changed = [
    np.ascontiguousarray(change(pixels)).astype(np.uint8) for pixels in NEW
  ]
  (line,) = told(KNOWN, changed[:1])
  assert message in line
  assert told(KNOWN, changed) == [line]


def test_orders_and_gray_images():
  (line,) = told(KNOWN, [NEW[0][..., ::-1]], channels='bgr')
  assert "channels='rgb' (--channels=rgb) exchanges them" in line
  gray = NEW[0].mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8)
  assert 'is gray, but the training images have colours' in told(KNOWN, [gray])
  # Gray images have no order.
  several = [np.repeat(p[..., :1], 3, -1) for p in detectors.parts()]
  known = learn(several)
  assert told(known, [pixels[..., ::-1] for pixels in several]) == []
  # What looks another way altogether is not taken for an order of channels.
  assert told(known, [p // 2 + 60 for p in several]) == []


def test_parts_that_lie_anyhow_have_no_direction():
  turned = [np.rot90(p, i).copy() for i, p in enumerate(detectors.parts(40))]
  assert told(learn(turned[:30]), turned[30:]) == []


@pytest.mark.parametrize('name', ['toothbrush', 'transistor', 'screw'])
def test_real_images_are_not_told(name, shared):
  """Good and defective ones, every third; screws lie in all directions."""

  def read(path):
    image = images.read_image(path)
    return np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))

  root = shared(f'data/{name}')
  train = [read(path) for path in sorted((root / 'train/good').iterdir())[::5]]
  test = [read(path) for path in sorted((root / 'test').glob('*/*'))[::3]]
  known = learn(train)
  assert told(known, test) == []
  if name != 'screw':
    (line,) = told(known, [pixels[..., ::-1] for pixels in test])
    assert 'red and blue exchanged' in line
    upside_down = [np.ascontiguousarray(pixels[::-1, ::-1]) for pixels in test]
    (line,) = told(known, upside_down)
    assert '180 degrees' in line
