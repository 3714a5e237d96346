"""What is checked and told before anything is computed."""

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.config import from_protocol
from simplenet_jax.data import folder, inputs
from tests.data.test_images import write_wide


@pytest.fixture
def data():
  data = from_protocol().data
  data.resize, data.crop = 32, 0
  return data


def opened(root, data, *images):
  for index, image in enumerate(images):
    path = root / f'part/train/good/{index}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
  [category] = folder.find(root).categories
  return inputs.prepare(category, data)


def save_defect(root, name, mask):
  """Writes a mask, and as a test image the same."""
  for place in ('test', 'masks'):
    path = root / f'part/{place}/x/{name}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def deep(bits, side=40):
  rng = np.random.default_rng(bits)
  return rng.integers(0, 2**bits, (side, side)).astype(np.uint16)


def test_a_camera_of_few_bits_is_told(tmp_path, data, caplog):
  dark = [deep(9)] * 20
  opened(tmp_path, data, deep(12), *dark)
  assert caplog.messages == [
    'part: its 16-bit gray images seem to use 12 bits of 16, which leaves them '
    '16 levels; --config.data.bits=12 reads a camera of 12 bits'
  ]


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


def test_12_bit_colour_is_told(tmp_path, data, caplog):
  wide = np.random.default_rng(0).integers(0, 2**12, (40, 40, 3))
  write_wide(tmp_path / 'part/train/good/0.png', wide)
  opened(tmp_path, data)
  assert caplog.messages == [
    'part: its 16-bit colour images seem to use 12 bits of 16, which leaves '
    'them 16 levels; save them as 8 bit, or with their values in the upper bits'
  ]


def test_another_aspect_is_told(tmp_path, data, caplog):
  gray = np.zeros((40, 40), np.uint8)
  opened(tmp_path, data, gray, gray, np.zeros((40, 50), np.uint8))
  [told] = caplog.messages
  assert '1 of 3 images have another aspect than the input (32 x 32)' in told


def test_pixels_that_are_not_known_are_told_and_counted(tmp_path, data, caplog):
  data.mask_rule = 'half'
  mask = np.zeros((64, 64), np.uint8)
  save_defect(tmp_path, 'black', mask)
  mask[8:16, 8:16] = 255
  save_defect(tmp_path, 'right', mask)
  save_defect(tmp_path, 'inverted', 255 - mask)
  mask[:] = 0
  mask[40, 40] = 255
  save_defect(tmp_path, 'small', mask)
  found = opened(tmp_path, data, np.zeros((64, 64), np.uint8))
  assert found.known_pixels() == {
    'images': 2,
    'of': 4,
    'left_out': {inputs.BLACK: 1, inputs.INVERTED: 1},
  }
  names = [sample.path.stem for sample in found.category.test]
  reduced = {
    name: found.truth(index).reduced for index, name in enumerate(names)
  }
  assert reduced['black'] is None
  assert reduced['inverted'] is None
  assert np.argwhere(reduced['small']).tolist() == [[20, 20]]
  assert reduced['right'].sum() == 16
  root = tmp_path / 'part/test/x'
  assert caplog.messages == [
    f'part: 1 of 4 defective images: {inputs.BLACK}; left out of pixel '
    f'figures; such as {root}/black.png',
    f'part: 1 of 4 defective images: {inputs.INVERTED}; left out of pixel '
    f'figures; such as {root}/inverted.png',
    f'part: 1 of 4 defective images: {inputs.SMALL}; such as {root}/small.png',
  ]


def test_what_the_crop_leaves_out_is_told(tmp_path, data, caplog):
  data.resize, data.crop = 64, 32
  for name, top in (('in', 30), ('out', 2), ('between', 14)):
    mask = np.zeros((64, 64), np.uint8)
    mask[top : top + 4, 30:34] = 255
    save_defect(tmp_path, name, mask)
  found = opened(tmp_path, data, np.zeros((64, 64), np.uint8))
  assert found.known_pixels()['left_out'] == {inputs.OUTSIDE: 1}
  root = tmp_path / 'part/test/x'
  assert caplog.messages == [
    f'part: 1 of 3 defective images: {inputs.CUT} (8 defective pixels in all); '
    f'such as {root}/between.png',
    f'part: 1 of 3 defective images: {inputs.OUTSIDE}; left out of pixel '
    f'figures (16 defective pixels in all); such as {root}/out.png',
  ]
