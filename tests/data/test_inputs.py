"""What masks are good for, and what is told before anything is computed."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from simplenet_jax.config import from_protocol
from simplenet_jax.data import folder, inputs
from simplenet_jax.data.frame import Frame
from tests.data.test_images import save, write_wide

FRAME = Frame((40, 60), (20, 30), (20, 30))


@pytest.fixture
def data():
  data = from_protocol().data
  data.resize, data.crop = 32, 0
  return data


def opened(root, data, *images):
  for index, image in enumerate(images):
    save(root / f'part/train/good/{index}.png', image)
  [category] = folder.find(root).categories
  return inputs.prepare(category, data)


def save_defect(root, name, mask):
  """Writes a mask, and as a test image the same."""
  for place in ('test', 'masks'):
    save(root / f'part/{place}/x/{name}.png', mask)


def deep(bits):
  rng = np.random.default_rng(bits)
  return rng.integers(0, 2**bits, (40, 40)).astype(np.uint16)


def test_a_camera_of_few_bits_is_told(tmp_path, data, caplog):
  opened(tmp_path, data, deep(12), *[deep(9)] * 20)
  assert caplog.messages == [
    'part: its 16-bit gray images seem to use 12 bits of 16, which leaves them '
    '16 levels; --config.data.bits=12 reads a camera of 12 bits'
  ]
  caplog.clear()
  wide = np.random.default_rng(0).integers(0, 2**12, (40, 40, 3))
  write_wide(tmp_path / 'part/train/good/0.png', wide)
  opened(tmp_path, data)
  assert caplog.messages[-1] == (
    'part: its 16-bit colour images seem to use 12 bits of 16, which leaves '
    'them 16 levels; save them as 8 bit, or with their values in the upper bits'
  )


@pytest.mark.parametrize(('used', 'bits'), [(16, 16), (15, 16), (12, 12)])
def test_a_camera_that_uses_its_range_is_not(
  tmp_path, data, caplog, used, bits
):
  data.bits = bits
  found = opened(tmp_path, data, deep(used))
  assert not caplog.messages
  expected = Image.fromarray((deep(used) >> (bits - 8)).astype(np.uint8))
  expected = expected.convert('RGB').resize((32, 32), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(found.pixels(0), expected)


def test_another_aspect_is_told(tmp_path, data, caplog):
  gray = np.zeros((40, 40), np.uint8)
  opened(tmp_path, data, gray, gray, np.zeros((40, 50), np.uint8))
  [told] = caplog.messages
  assert '1 of 3 images have another aspect than the input (32 x 32)' in told


def test_pixels_that_are_not_known_are_told_and_counted(tmp_path, data, caplog):
  data.mask_rule = 'half'
  mask = _mask((8, 8, 16, 16), size=(64, 64))
  save_defect(tmp_path, 'right', mask)
  save_defect(tmp_path, 'black', mask * 0)
  save_defect(tmp_path, 'small', _mask((40, 40, 41, 41), size=(64, 64)))
  found = opened(tmp_path, data, np.zeros((64, 64), np.uint8))
  unknown = {inputs.BLACK: 1}
  assert found.known_pixels() == {'images': 2, 'of': 3, 'left_out': unknown}
  black, right, small = (found.truth(index).reduced for index in range(3))
  assert black is None
  assert right.sum() == 16
  assert np.argwhere(small).tolist() == [[20, 20]]
  root = tmp_path / 'part/test/x'
  assert caplog.messages == [
    f'part: 1 of 3 defective images: {inputs.BLACK}; left out of pixel '
    f'figures; such as {root}/black.png',
    f'part: 1 of 3 defective images: {inputs.SMALL}; such as {root}/small.png',
  ]
  caplog.clear()
  data.resize, data.crop = 64, 32  # Rows and columns from 16 to 48.
  save_defect(tmp_path, 'small', _mask((14, 30, 18, 34), size=(64, 64)))
  opened(tmp_path, data)
  assert caplog.messages[1:] == [
    f'part: 1 of 3 defective images: {inputs.OUTSIDE}; left out of pixel '
    f'figures (64 defective pixels in all); such as {root}/right.png',
    f'part: 1 of 3 defective images: {inputs.CUT} (8 defective pixels in all); '
    f'such as {root}/small.png',
  ]


def _mask(*boxes, size=(40, 60)):
  """A mask of boxes: top, left, bottom, right."""
  mask = np.zeros(size, np.uint8)
  for top, left, bottom, right in boxes:
    mask[top:bottom, left:right] = 255
  return mask


DEFECT = _mask((10, 20, 18, 30))


def _examined(tmp_path, *some, frame=FRAME, rule='half', **options):
  paths = [
    save(tmp_path / f'{index}.png', mask, **options)
    for index, mask in enumerate(some)
  ]
  return inputs.examine(paths, frame, rule)


def test_several_masks_are_one(tmp_path):
  other = _mask((30, 50, 34, 54))
  found = _examined(tmp_path, DEFECT, other)
  assert (found.why, found.notes, found.cut) == ('', (), 0)
  np.testing.assert_array_equal(found.original, (DEFECT + other) > 0)
  np.testing.assert_array_equal(
    found.reduced, _mask((5, 10, 9, 15), (15, 25, 17, 27), size=(20, 30)) > 0
  )


@pytest.mark.parametrize('rule', ['reference', 'half'])
@pytest.mark.parametrize(
  ('mask', 'why'),
  [
    (_mask(), inputs.BLACK),
    (255 - DEFECT, inputs.INVERTED),
    (_mask((0, 0, 40, 60)), inputs.INVERTED),
    (_mask((0, 10, 40, 60)), ''),  # 83 % of the image, 70 % of its border.
    (DEFECT[:-1], inputs.OTHER_SIZE),
    (DEFECT.T, inputs.OTHER_SIZE),
    (np.zeros((40, 60), np.float32), inputs.UNREADABLE),
  ],
)
def test_masks_that_tell_nothing(tmp_path, mask, why, rule):
  form = 'TIFF' if mask.dtype == np.float32 else 'PNG'
  found = _examined(tmp_path, mask, rule=rule, format=form)
  assert found.why == why
  assert (found.reduced is None) == bool(why)


@pytest.mark.parametrize('quality', [30, 60, 75, 90, 95])
def test_compression_noise_is_no_defect(tmp_path, quality):
  file = io.BytesIO()
  mask = Image.fromarray(_mask((30, 30, 46, 46), size=(96, 96)))
  mask.save(file, 'JPEG', quality=quality)
  frame = Frame((96, 96), (96, 96), (96, 96))
  found = _examined(tmp_path, np.asarray(Image.open(file)), frame=frame)
  assert abs(int(found.original.sum()) - 256) <= 12
  assert ndimage.label(found.original, np.ones((3, 3)))[1] == 1
  assert inputs.NOISY in found.notes


def test_a_dark_jpeg_counts_from_half_of_its_brightest(tmp_path):
  defect, path = DEFECT // 255, tmp_path / 'a.jpg'
  save(path, defect * np.uint8(100), quality=95)
  np.testing.assert_array_equal(inputs.read_mask(path)[0], DEFECT > 0)
  save(path, defect)  # As dark as noise.
  assert inputs.examine([path], FRAME, 'half').why == inputs.BLACK


@pytest.mark.parametrize(
  'values',
  [range(1, 21), range(236, 256), (1, 2, 255), [*range(1, 250), *[250] * 400]],
)
def test_numbers_of_classes_are_no_noise(tmp_path, values):
  values = np.resize(np.array(values, np.uint8), DEFECT.shape)
  found = _examined(tmp_path, np.where(DEFECT, values, np.uint8(0)))
  np.testing.assert_array_equal(found.original, DEFECT > 0)
  assert inputs.NOISY not in found.notes


def test_a_region_that_is_too_small_keeps_its_most_covered_pixel(tmp_path):
  frame = Frame((40, 60), (4, 6), (4, 6))  # A pixel of the input has 100.
  large, small = (0, 0, 20, 20), (26, 41, 32, 43)
  both, alone = _mask(large, small), _mask(small)
  found = _examined(tmp_path, both, frame=frame)
  assert np.argwhere(found.reduced).tolist() == [
    *([0, 0], [0, 1], [1, 0], [1, 1]),
    [2, 4],  # Eight of the twelve pixels of the small one are there.
  ]
  assert found.notes == (inputs.SMALL,)
  found = _examined(tmp_path, both, frame=frame, rule='reference')
  assert found.notes == (inputs.LOST,)
  found = _examined(tmp_path, alone, frame=frame, rule='reference')
  assert found.why == inputs.VANISHED
  assert _examined(tmp_path, alone, frame=frame).reduced.sum() == 1
