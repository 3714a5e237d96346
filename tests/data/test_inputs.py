"""What is checked and told before anything is computed."""

import numpy as np
import pytest
from PIL import Image

from simplenet_jax import protocols
from simplenet_jax.data import folder, inputs


@pytest.fixture
def data():
  data = protocols.reference().data
  data.resize, data.crop = 32, 0
  return data


def opened(root, data, *images):
  for index, image in enumerate(images):
    path = root / f'part/train/good/{index}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
  [category] = folder.find_categories(root)
  return inputs.prepare(category, data)


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
  np.testing.assert_array_equal(found.train_pixels(0), expected)


def test_8_bit_images_are_not_told_of_bits(tmp_path, data, caplog):
  opened(tmp_path, data, np.full((40, 40), 3, np.uint8))
  assert not caplog.messages


def test_another_aspect_is_told(tmp_path, data, caplog):
  gray = np.zeros((40, 40), np.uint8)
  opened(tmp_path, data, gray, gray, np.zeros((40, 50), np.uint8))
  [told] = caplog.messages
  assert '1 of 3 images have another aspect than the input (32 x 32)' in told
