"""What masks are good for."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from simplenet_jax.data import inputs
from simplenet_jax.data.frame import Frame

FRAME = Frame.whole((40, 60), (20, 30))


def _mask(*boxes, size=(40, 60)):
  """A mask of boxes: top, left, bottom, right."""
  mask = np.zeros(size, np.uint8)
  for top, left, bottom, right in boxes:
    mask[top:bottom, left:right] = 255
  return mask


DEFECT = _mask((10, 20, 18, 30))


def _saved(tmp_path, *some, **options):
  paths = []
  for index, mask in enumerate(some):
    paths.append(tmp_path / f'{index}.png')
    image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
    image.save(paths[-1], **options)
  return paths


def _compressed(mask, quality=75):
  file = io.BytesIO()
  Image.fromarray(mask).save(file, 'JPEG', quality=quality)
  return np.asarray(Image.open(file))


def test_a_good_mask(tmp_path):
  found = inputs.examine(_saved(tmp_path, DEFECT), FRAME, 'half')
  assert (found.why, found.notes, found.cut) == ('', (), 0)
  np.testing.assert_array_equal(found.original, DEFECT > 0)
  np.testing.assert_array_equal(
    found.reduced, _mask((5, 10, 9, 15), size=(20, 30)) > 0
  )


def test_several_masks_are_one(tmp_path):
  other = _mask((30, 50, 34, 54))
  found = inputs.examine(_saved(tmp_path, DEFECT, other), FRAME, 'half')
  np.testing.assert_array_equal(found.original, (DEFECT + other) > 0)


@pytest.mark.parametrize('rule', ['reference', 'half'])
@pytest.mark.parametrize(
  ('mask', 'why'),
  [
    (_mask(), inputs.BLACK),
    (255 - DEFECT, inputs.INVERTED),
    (_mask((0, 0, 40, 60)), inputs.INVERTED),
    (DEFECT[:-1], inputs.OTHER_SIZE),
    (DEFECT.T, inputs.OTHER_SIZE),
    (np.zeros((40, 60), np.float32), inputs.UNREADABLE),
  ],
)
def test_masks_that_tell_nothing(tmp_path, mask, why, rule):
  form = 'TIFF' if mask.dtype == np.float32 else 'PNG'
  paths = _saved(tmp_path, mask, format=form)
  assert inputs.examine(paths, FRAME, rule) == inputs.Truth(why=why)


def test_a_large_defect_is_not_an_inverted_mask(tmp_path):
  large = _mask((0, 10, 40, 60))  # 83 % of the image, 70 % of its border.
  assert not inputs.examine(_saved(tmp_path, large), FRAME, 'half').why


@pytest.mark.parametrize('quality', [30, 60, 75, 90, 95])
def test_compression_noise_is_no_defect(tmp_path, quality):
  noisy = _compressed(_mask((30, 30, 46, 46), size=(96, 96)), quality)
  (path,) = _saved(tmp_path, noisy)
  read, _ = inputs.read_mask(path)
  assert abs(int(read.sum()) - 256) <= 12
  assert ndimage.label(read, np.ones((3, 3)))[1] == 1
  frame = Frame.whole((96, 96), (96, 96))
  assert inputs.NOISY in inputs.examine([path], frame, 'half').notes


def test_a_dark_jpeg_counts_from_half_of_its_brightest(tmp_path):
  path = tmp_path / 'a.jpg'
  Image.fromarray(DEFECT // 255 * np.uint8(100)).save(path, quality=95)
  np.testing.assert_array_equal(inputs.read_mask(path)[0], DEFECT > 0)


def test_the_noise_of_a_dark_mask_is_a_black_mask(tmp_path):
  path = tmp_path / 'a.jpg'
  Image.fromarray(DEFECT // 255).save(path)
  assert inputs.examine([path], FRAME, 'half').why == inputs.BLACK


@pytest.mark.parametrize(
  'values',
  [range(1, 21), range(236, 256), (1, 2, 255), [*range(1, 250), *[250] * 400]],
)
def test_numbers_of_classes_are_no_noise(tmp_path, values):
  values = np.resize(np.array(values, np.uint8), DEFECT.shape)
  (path,) = _saved(tmp_path, np.where(DEFECT, values, np.uint8(0)))
  np.testing.assert_array_equal(inputs.read_mask(path)[0], DEFECT > 0)
  assert inputs.NOISY not in inputs.examine([path], FRAME, 'half').notes


def test_a_region_that_is_too_small_keeps_its_most_covered_pixel(tmp_path):
  frame = Frame.whole((40, 60), (4, 6))  # A pixel of the input has 100.
  large, small = (0, 0, 20, 20), (26, 41, 32, 43)
  (path,) = _saved(tmp_path, _mask(large, small))
  found = inputs.examine([path], frame, 'half')
  assert np.argwhere(found.reduced).tolist() == [
    *([0, 0], [0, 1], [1, 0], [1, 1]),
    [2, 4],  # Eight of the twelve pixels of the small one are there.
  ]
  assert found.notes == (inputs.SMALL,)
  kept = inputs.examine([path], frame, 'reference')
  np.testing.assert_array_equal(
    kept.reduced, frame.mask_to_input(_mask(large, small), 'reference')[0]
  )
  assert kept.notes == (inputs.LOST,)
  (path,) = _saved(tmp_path, _mask(small))
  assert inputs.examine([path], frame, 'reference').why == inputs.VANISHED
  assert inputs.examine([path], frame, 'half').reduced.sum() == 1


def test_what_a_crop_leaves_out_is_counted(tmp_path):
  frame = Frame.protocol((40, 60), 40, 32)  # Rows 4 to 36, columns 14 to 46.
  (path,) = _saved(tmp_path, _mask((10, 10, 20, 20)))
  found = inputs.examine([path], frame, 'half')
  assert (found.why, found.notes, found.cut) == ('', (inputs.CUT,), 40)
  assert found.reduced.sum() == 60
  (path,) = _saved(tmp_path, _mask((0, 0, 4, 60)))
  found = inputs.examine([path], frame, 'half')
  assert (found.why, found.cut) == (inputs.OUTSIDE, 240)
