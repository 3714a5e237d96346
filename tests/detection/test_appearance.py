"""What images look like: changes are told, real images never."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from simplenet_jax import demo
from simplenet_jax.data import images
from simplenet_jax.detection import appearance
from simplenet_jax.detection.appearance import Appearance, Watch
from simplenet_jax.detector import Detector
from tests.detection import detectors

SIZE = (40, 40)


def part(rng, size=SIZE):
  """A red part on a green ground, brighter above, not twice the same."""
  height, width = size
  pixels = np.zeros((height, width, 3))
  pixels[:] = (40, 90, 60)
  pixels += np.linspace(60, 0, height)[:, None, None]
  row = height // 4 + rng.integers(0, height // 8)
  pixels[row : row + height // 3, width // 8 : width // 2] = (200, 60, 30)
  pixels += rng.normal(0, 6, pixels.shape) + rng.normal(0, 4)
  return pixels.clip(0, 255).astype(np.uint8)


def parts(count=30, size=SIZE, seed=0):
  rng = np.random.default_rng(seed)
  return [part(rng, size) for _ in range(count)]


def learn(given):
  return Appearance.of(
    [appearance.thumbnail(pixels) for pixels in given],
    [pixels.shape[:2] for pixels in given],
  )


def told(known, given, caplog, channels='rgb'):
  """Returns what is said of images."""
  caplog.clear()
  watch = Watch(known, ())
  for index, pixels in enumerate(given):
    small = appearance.thumbnail(pixels)
    watch.look(index, small, pixels.shape[:2], channels)
  return [record.getMessage() for record in caplog.records]


KNOWN = learn(parts())
NEW = parts(20, seed=1)


def test_statistics():
  flat = [np.full((16, 32, 3), level, np.uint8) for level in (10, 20, 30)]
  found = learn(flat)
  assert found.mean == (20.0,) * 192
  assert found.std == (8.16,) * 192
  assert found.gray == (10.0, 30.0)
  assert found.aspect == (2.0, 2.0)
  # 100 over a variance of 66.7 and 8 gray levels squared.
  assert found.farthest == pytest.approx(100 / (200 / 3 + 64))


def test_new_images_like_them_are_not_told(caplog):
  assert told(KNOWN, NEW, caplog) == []
  damaged = [pixels.copy() for pixels in NEW]
  for pixels in damaged:
    pixels[20:26, 20:30] = 255
  assert told(KNOWN, damaged, caplog) == []


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda p: p[..., ::-1],
      'image 0: fits the training images far better with red and blue exchanged'
      "; channels='bgr' (--channels=bgr) exchanges them",
    ),
    (
      lambda p: np.rot90(p, 1),
      'far better when turned by 90 degrees clockwise',
    ),
    (lambda p: np.rot90(p, 2), 'far better when turned by 180 degrees'),
    (lambda p: np.rot90(p, 3), 'when turned by 90 degrees anticlockwise'),
    (lambda p: p // 6, 'far darker (mean level 1'),
    (lambda p: 255 - (255 - p.astype(int)) // 5, 'far brighter (mean level 2'),
    (lambda p: p[:, :20], '40 x 20 (height x width) has another aspect (0.50)'),
  ],
)
def test_each_change_is_told_once_and_of_a_single_image(
  change, message, caplog
):
  changed = [
    np.ascontiguousarray(change(pixels)).astype(np.uint8) for pixels in NEW
  ]
  (line,) = told(KNOWN, changed[:1], caplog)
  assert message in line
  assert told(KNOWN, changed, caplog) == [line]


def test_the_other_order_is_named(caplog):
  (line,) = told(KNOWN, [NEW[0][..., ::-1]], caplog, channels='bgr')
  assert "channels='rgb' (--channels=rgb) exchanges them" in line


def test_gray_images_are_told_where_training_images_had_colours(caplog):
  gray = NEW[0].mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8)
  assert 'image 0: is gray, but the training images have colours' in told(
    KNOWN, [gray, gray], caplog
  )


def test_gray_images_have_no_order(caplog):
  gray = [np.repeat(pixels[..., :1], 3, -1) for pixels in parts()]
  known = learn(gray)
  assert told(known, [pixels[..., ::-1] for pixels in gray], caplog) == []
  # What looks another way altogether is not taken for an order of channels.
  assert told(known, [p // 2 + 60 for p in gray], caplog) == []


def test_parts_that_lie_anyhow_have_no_direction(caplog):
  turned = [
    np.ascontiguousarray(np.rot90(pixels, index))
    for index, pixels in enumerate(parts(40))
  ]
  assert told(learn(turned[:30]), turned[30:], caplog) == []


def test_a_detector_warns_once_and_of_its_cautions(caplog):
  made = detectors.make(levels=(1,))
  card = dataclasses.replace(
    made.card,
    appearance=learn(parts(size=made.size)),
    cautions=('its heads have learned nothing',),
  )
  detector = Detector(card, made.weights)
  right = parts(3, made.size, seed=1)
  for _ in range(2):
    list(detector.predict(right))
  assert [record.getMessage() for record in caplog.records] == [
    'this detector: its heads have learned nothing'
  ]
  caplog.clear()
  wrong = [pixels[..., ::-1] for pixels in right]
  for _ in range(2):
    list(detector.predict(wrong))
  (record,) = caplog.records
  assert 'red and blue exchanged' in record.getMessage()
  caplog.clear()
  list(Detector(card, made.weights).predict(wrong, channels='bgr'))
  assert len(caplog.records) == 1  # The caution of another detector.


@pytest.mark.parametrize(
  'name', ['toothbrush', 'transistor', 'screw', 'glassfiber']
)
def test_real_images_are_not_told(name, shared, caplog):
  """Good and defective ones, every third; screws lie in all directions."""

  def read(path):
    image = images.read_image(path)
    return np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))

  root = shared(f'data/{name}')
  train = [read(path) for path in sorted((root / 'train/good').iterdir())[::5]]
  test = [read(path) for path in sorted((root / 'test').glob('*/*'))[::3]]
  known = learn(train)
  assert told(known, test, caplog) == []
  if name in ('toothbrush', 'transistor'):
    exchanged = [pixels[..., ::-1] for pixels in test]
    assert len(told(known, exchanged, caplog)) == 1
    upside_down = [np.ascontiguousarray(pixels[::-1, ::-1]) for pixels in test]
    (line,) = told(known, upside_down, caplog)
    assert '180 degrees' in line


def test_generated_images_are_not_told(tmp_path, caplog):
  """Good and defective ones; connectors have a direction."""
  demo.generate(
    tmp_path / 'demo',
    categories=('connector', 'gasket'),
    train=24,
    good=4,
    defective=8,
    size=64,
    workers=1,
  )
  for name in ('connector', 'gasket'):
    train, test = (
      [
        np.asarray(images.read_image(path))
        for path in sorted((tmp_path / 'demo' / name / part).rglob('*.png'))
      ]
      for part in ('train', 'test')
    )
    assert (len(train), len(test)) == (24, 12)
    assert told(learn(train), test, caplog) == []
    exchanged = [pixels[..., ::-1] for pixels in test]
    (line,) = told(learn(train), exchanged, caplog)
    assert 'red and blue exchanged' in line
