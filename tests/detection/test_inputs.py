"""What can be looked at: kinds of input, what cannot be used, batches."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.data import images
from simplenet_jax.detection import inputs
from simplenet_jax.detection.inputs import Ready, Unusable
from tests.detection import detectors
from tests.detection.test_card import CARDS, make

PIXELS = next(detectors.arrays())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp('images')
  detectors.pictures(root / 'line', 3)
  return root


def test_a_folder_gives_its_images_with_their_paths(folder):
  paths = sorted(folder.rglob('*.png'))
  for given in (folder, str(folder), folder / 'line'):
    assert list(inputs.sources(given)) == [(path, path) for path in paths]
    assert inputs.is_counted(given)


def test_arrays_and_pictures_are_numbered():
  stack = np.stack([PIXELS, PIXELS[::-1]])
  found = list(inputs.sources(stack))
  assert [name for name, _ in found] == [0, 1]
  np.testing.assert_array_equal(found[1][1], PIXELS[::-1])
  picture = Image.fromarray(PIXELS)
  for one in (PIXELS, PIXELS[..., 0], picture):
    ((name, item),) = inputs.sources(one)
    assert name == 0
    assert item is one
    assert inputs.is_counted(one)
    assert not inputs.is_counted(iter([one]))


@pytest.mark.parametrize('batch_size', [1, 8, 64])
@pytest.mark.parametrize('lookahead', [*range(40), 255, 256, 257, 10**9])
def test_a_pace_is_within_what_is_allowed(lookahead, batch_size):
  pace = images_, batches, ahead = inputs.pace(lookahead, batch_size)
  assert batches * images_ + ahead <= lookahead + 1
  assert 1 <= images_ <= batch_size
  if lookahead > 4 * batch_size:
    # Two batches on the device and two more that are read meanwhile.
    assert pace == (batch_size, 2, 2 * batch_size + 2)
    assert pace == inputs.pace(None, batch_size)
  elif lookahead > 3:
    assert batches == 2
    assert ahead >= images_


def test_names_are_those_below_the_common_folder(tmp_path):
  one, two = tmp_path / 'day/1/a.png', tmp_path / 'day/2/a.png'
  assert inputs.names([one, two]) == ['1/a.png', '2/a.png']
  assert inputs.names([one]) == ['a.png']
  assert inputs.names([0, one, 7]) == ['0', 'a.png', '7']
  assert inputs.names([]) == []


def test_what_is_no_image_is_refused(tmp_path):
  for given in (None, 3, 1.5, object()):
    with pytest.raises(TypeError, match='expected images as arrays, paths'):
      list(inputs.sources(given))
  with pytest.raises(FileNotFoundError, match='no images'):
    list(inputs.sources(tmp_path))


@pytest.mark.parametrize('card', [make(), CARDS[-1]])
def test_all_kinds_of_one_image_become_the_same_input(card, tmp_path):
  path = tmp_path / 'one.png'
  Image.fromarray(PIXELS).save(path)
  expected = card.frame(PIXELS.shape[:2])
  pixels = expected.image_to_input(images.read_image(path))
  for item in (path, PIXELS, Image.fromarray(PIXELS), Image.open(path)):
    found = inputs.prepare(card, 'it', item)
    assert isinstance(found, Ready)
    assert found.source == 'it'
    assert found.frame == expected
    assert found.pixels.shape == (*card.network.size, 3)
    np.testing.assert_array_equal(found.pixels, pixels)
    assert 0 < found.seconds < 60


def unusable(folder):
  """Yields items and what is said of them."""
  (folder / 'text.png').write_text('hello')
  (folder / 'empty.png').touch()
  content = (folder / 'line/0.png').read_bytes()
  (folder / 'half.png').write_bytes(content[: len(content) // 2])
  Image.fromarray(np.zeros((4, 4), 'f')).save(folder / 'float.tiff')
  yield folder / 'text.png', 'not a readable image'
  yield folder / 'empty.png', 'empty; replace'
  yield folder / 'half.png', 'cannot be read'
  yield folder / 'float.tiff', 'floats'
  yield folder / 'none.png', 'no such file'
  yield folder, 'not a file'
  yield PIXELS.astype(np.float32), r'float32\[40, 52, 3\], expected uint8'
  yield PIXELS.astype(np.int64), r'int64\[40, 52, 3\]'
  yield PIXELS[..., 0].astype(np.int16), r'int16\[40, 52\], expected'
  yield PIXELS[..., :2], r'uint8\[40, 52, 2\]'
  yield np.zeros((4, 5, 4), np.uint8), r'uint8\[4, 5, 4\]'
  yield PIXELS[None], r'uint8\[1, 40, 52, 3\]'
  yield np.zeros((0, 5, 3), np.uint8), r'uint8\[0, 5, 3\], expected'
  yield np.zeros((5, 0), np.uint8), r'uint8\[5, 0\], expected'
  yield Image.fromarray(np.zeros((4, 4), 'f')), 'floats'
  yield Image.open(io.BytesIO(content[: len(content) // 2])), 'cannot be read'
  # For a chunk that ends too early PIL raises a SyntaxError.
  data = content.index(b'IDAT')
  short = content[: data - 4] + b'\0\0\0\x40' + content[data:]
  yield Image.open(io.BytesIO(short)), 'cannot be read: broken PNG file'
  yield None, 'expected an image, got NoneType'
  yield 7, 'expected an image, got int'


def test_what_cannot_be_used_is_told(folder):
  for item, message in unusable(folder):
    found = inputs.prepare(make(), 5, item)
    assert isinstance(found, Unusable), item
    assert found.source == 5
    assert isinstance(found.error, ValueError | OSError)
    with pytest.raises((ValueError, OSError), match=message):
      raise found.error
    if isinstance(item, Path):
      assert str(item) in str(found.error)
