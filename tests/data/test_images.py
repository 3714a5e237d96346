"""Reading images and masks, and normalising pixels."""

import os
import struct
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from simplenet_jax.data import decoding, images
from simplenet_jax.data.inputs import read_mask

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (13, 17), np.uint8)
COLOUR = RNG.integers(0, 256, (13, 17, 3), np.uint8)
GRAY16 = RNG.integers(0, 65536, (13, 17), np.uint16)


def save(path, pixels, mode=None, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
  (image.convert(mode) if mode else image).save(path, **options)
  return path


def chunk(kind, content):
  checksum = struct.pack('>I', zlib.crc32(kind + content))
  return struct.pack('>I', len(content)) + kind + content + checksum


def write_wide(path, pixels):
  """Writes 16-bit colour `[height, width, 3]` as a PNG, which Pillow cannot."""
  header = struct.pack('>IIBBBBB', *pixels.shape[1::-1], 16, 2, 0, 0, 0)
  rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in pixels)
  parts = ((b'IHDR', header), (b'IDAT', zlib.compress(rows)), (b'IEND', b''))
  path.write_bytes(
    b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*part) for part in parts)
  )
  return path


MODES = [
  *((None, 'png'), (None, 'bmp'), (None, 'tif'), (None, 'jpg')),
  *(('1', 'png'), ('L', 'jpg'), ('LA', 'png'), ('P', 'bmp'), ('RGBA', 'webp')),
  *(('CMYK', 'jpg'), ('CMYK', 'tif'), ('YCbCr', 'jpg')),
]


@pytest.mark.parametrize(('mode', 'extension'), MODES)
def test_8_bit_modes_become_what_pil_converts_them_to(
  tmp_path, mode, extension
):
  path = save(tmp_path / f'a.{extension}', COLOUR, mode)
  with Image.open(path) as image:
    expected = np.asarray(image.convert('RGB'))
  np.testing.assert_array_equal(images.read_image(path), expected)


def test_transparency_is_dropped_not_composited(tmp_path):
  pixels = np.dstack([COLOUR, np.zeros((13, 17), np.uint8)])
  read = images.read_image(save(tmp_path / 'a.png', pixels))
  np.testing.assert_array_equal(read, COLOUR)
  palette = Image.fromarray(COLOUR).quantize(8)
  for transparency in (3, bytes(range(4))):
    path = save(tmp_path / 'a.png', palette, transparency=transparency)
    np.testing.assert_array_equal(
      images.read_image(path), palette.convert('RGB')
    )


@pytest.mark.parametrize('extension', ['png', 'tif'])
@pytest.mark.parametrize('bits', [8, 12, 16])
def test_16_bits_keep_the_upper_eight_of_what_is_used(
  tmp_path, bits, extension
):
  path = save(tmp_path / f'a.{extension}', GRAY16 >> (16 - bits))
  read = np.asarray(images.read_image(path, bits))
  np.testing.assert_array_equal(read, np.dstack([GRAY16 >> 8] * 3))
  assert images.check(path).gray_bits == bits
  with pytest.raises(ValueError, match=f'expected at most {bits - 1} bits'):
    decoding.to_rgb(Image.open(path), bits - 1)
  wide = RNG.integers(0, 65536, (5, 4, 3), np.uint16)
  path = write_wide(tmp_path / 'a.png', wide)
  np.testing.assert_array_equal(images.read_image(path), wide >> 8)
  # TIFFs of 32-bit integers are read within 16 bits.
  path = save(tmp_path / 'a.tif', GRAY16.astype(np.int32))
  read = np.asarray(images.read_image(path))
  np.testing.assert_array_equal(read[..., 0], GRAY16 >> 8)
  _refused(save(path, GRAY16.astype(np.int32) + 1000), 'at most 16 bits')


@pytest.mark.parametrize('extension', ['jpg', 'png', 'tif', 'webp'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_images_are_turned_as_a_viewer_shows_them(
  tmp_path, extension, orientation
):
  stored = save(tmp_path / f'a.{extension}', COLOUR)
  plain = Image.open(stored).convert('RGB')
  exif = Image.Exif()
  exif[0x0112] = orientation
  path = save(tmp_path / f'b.{extension}', COLOUR, exif=exif)
  # What the numbers mean: the sides where the stored first row and column are.
  names = 'FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE'
  turns = f'. {names} ROTATE_270 TRANSVERSE ROTATE_90'.split()
  turn = getattr(Image.Transpose, turns[orientation - 1], None)
  expected = plain.transpose(turn) if turn is not None else plain
  np.testing.assert_array_equal(images.read_image(path), expected)
  size = (17, 13) if orientation > 4 else (13, 17)
  assert images.check(path)[:2] == (size, orientation > 1)
  assert read_mask(path)[0].shape == size


def test_exif_data_behind_a_pngs_pixels_count_and_damaged_ones_do_not(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6
  path = save(tmp_path / 'a.png', COLOUR)
  content = path.read_bytes()
  end = content.index(b'IEND') - 4
  path.write_bytes(
    content[:end] + chunk(b'eXIf', exif.tobytes()[6:]) + content[end:]
  )
  assert images.check(path)[:2] == ((17, 13), True)
  assert images.read_image(path).size == (13, 17)
  path = save(tmp_path / 'a.jpg', COLOUR, exif=b'Exif\0\0MM\0\x2a\xff')
  assert images.check(path)[:2] == ((13, 17), False)
  assert images.read_image(path).size == (17, 13)


def _refused(path, pattern, read=images.read_image):
  with pytest.raises(ValueError, match=pattern) as caught:
    read(path)
  message = str(caught.value)
  assert '\n' not in message
  assert str(path) in message


def test_not_an_image(tmp_path):
  path = tmp_path / 'a.png'
  path.write_text('no image at all')
  _refused(path, 'expected (AVIF, )?BMP, .*WEBP')
  _refused(save(path, GRAY, format='EPS'), 'not a readable image')
  path.write_bytes(b'')
  _refused(path, 'empty; replace')
  _refused(tmp_path, 'not a file')
  os.mkfifo(tmp_path / 'pipe.png')
  _refused(tmp_path / 'pipe.png', 'not a file')
  with pytest.raises(FileNotFoundError, match=r'b\.png'):
    images.read_image(tmp_path / 'b.png')


def test_images_of_too_many_pixels_are_refused(tmp_path, monkeypatch):
  path = save(tmp_path / 'a.png', Image.new('1', (2**14, 2**14 + 1)))
  _refused(path, 'more than 268 million pixels; make it smaller, or cut it')
  path = save(path, COLOUR)
  assert images.read_image(path).size == (17, 13)
  monkeypatch.setattr(decoding, 'MAX_PIXELS', 13 * 17 - 1)
  _refused(path, 'more than 0 million pixels')


@pytest.mark.parametrize('extension', ['png', 'tif', 'webp'])
def test_several_pictures_and_floats_are_refused(tmp_path, extension):
  options = {'save_all': True, 'append_images': [Image.fromarray(COLOUR[::-1])]}
  path = save(tmp_path / f'a.{extension}', COLOUR, **options)
  _refused(path, 'holds 2 pictures')
  # A camera's JPEG may have a preview.
  path = save(tmp_path / 'a.jpg', COLOUR, format='MPO', **options)
  assert images.read_image(path).size == (17, 13)
  path = save(tmp_path / 'a.tif', GRAY.astype(np.float32))
  _refused(path, 'floats')
  _refused(path, 'floats', read_mask)
  with pytest.raises(ValueError, match='it has no pixels'):
    decoding.to_image(Image.new('RGB', (0, 5)))


@pytest.mark.parametrize(
  'extension', ['png', 'bmp', 'tif', 'webp', 'jpg', 'gif']
)
def test_checking_finds_what_reading_would(tmp_path, extension):
  path = save(
    tmp_path / f'a.{extension}', np.kron(COLOUR, np.ones((4, 4, 1), 'u1'))
  )
  content = path.read_bytes()
  for kept in np.linspace(1, len(content), 40).astype(int):
    path.write_bytes(content[:kept])
    found = []
    for read in (images.check, images.read_image, read_mask):
      try:
        read(path)
        found.append(True)
      except ValueError as error:
        found.append(False)
        assert str(path) in str(error)
    assert len({*found}) == 1
  assert all(found)


DEFECT = np.zeros((13, 17), bool)
DEFECT[3:8, 5:11] = True


PALETTE = Image.fromarray(DEFECT.astype(np.uint8))
PALETTE.putpalette([0, 0, 0, 0, 128, 0])
MASKS = {
  '1 bit': DEFECT,
  '01': DEFECT.astype(np.uint8),
  'classes': DEFECT * RNG.integers(1, 256, DEFECT.shape, np.uint8),
  '16 bit': DEFECT.astype(np.uint16),
  'rgb': np.dstack([DEFECT * np.uint8(0), DEFECT * np.uint8(1), DEFECT < 0]),
  'rgba': Image.fromarray(DEFECT * np.uint8(255)).convert('RGBA'),
  'alpha': Image.fromarray(DEFECT.astype(np.uint8)).convert('LA'),
  'palette': PALETTE,
}


@pytest.mark.parametrize('mask', MASKS.values(), ids=MASKS.keys())
def test_every_pixel_of_a_mask_that_is_not_black_is_defect(tmp_path, mask):
  read, noisy = read_mask(save(tmp_path / 'a.png', mask))
  np.testing.assert_array_equal(read, DEFECT, strict=True)
  assert not noisy


def test_normalize_is_torchs_arithmetic_bit_for_bit():
  torch = pytest.importorskip('torch')
  pixels = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
  mean, std = (
    torch.tensor(v) for v in (images.IMAGENET_MEAN, images.IMAGENET_STD)
  )
  expected = torch.tensor(pixels).to(torch.float32).div(255).sub(mean).div(std)
  actual = images.normalize(pixels)
  assert actual.dtype == np.float32
  np.testing.assert_array_equal(actual, expected.numpy())
  table = jnp.asarray(images.NORMALIZED)
  with jax.numpy_rank_promotion('raise'):
    on_device = jax.jit(lambda some: images.normalize(some, table))(pixels)
  np.testing.assert_array_equal(on_device, actual)
