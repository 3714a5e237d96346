"""The program beside an export, which brings images to a model's input."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.detection import export, inputs
from simplenet_jax.detector import Detector
from tests.detection import detectors


@pytest.fixture(scope='module')
def detector():
  return detectors.make(crop=32, thresholds=True)


def load(card):
  """Executes a card's recipe; returns its function."""
  names = {}
  exec(export.recipe(card), names)
  return names['preprocess']


def files_of_every_mode(folder, size, rng):
  """Writes an image in each mode that a camera or a tool may leave."""
  folder.mkdir(parents=True)
  height, width = size
  noise = rng.integers(0, 256, (height, width, 4), np.uint8)
  rgb = Image.fromarray(noise[..., :3])
  deep = noise[..., 0].astype(np.uint16) * 256 + noise[..., 1]
  rgb.save(folder / 'rgb.png')
  Image.fromarray(noise).save(folder / 'rgba.png')
  Image.fromarray(deep).save(folder / 'deep.png')
  turned = Image.Exif()
  turned[0x0112] = 6  # To be turned by a quarter.
  rgb.save(folder / 'turned.jpg', exif=turned)
  return sorted(folder.iterdir())


@pytest.mark.parametrize(
  ('resize', 'crop', 'size'),
  [
    (40, 32, (32, 32)),
    (40, 0, (32, 56)),
    (33, 32, (32, 32)),  # Starts are halves.
    (30, 37, (37, 37)),  # Padded, by an odd number.
  ],
)
def test_recipes_do_what_detectors_do(detector, tmp_path, resize, crop, size):
  network = dataclasses.replace(detector.card.network, size=size)
  card = dataclasses.replace(
    detector.card, resize=resize, crop=crop, network=network
  )
  preprocess = load(card)
  rng = np.random.default_rng(0)
  for index, shape in enumerate([(33, 47), (90, 31), (1, 3), (128, 511)]):
    for path in files_of_every_mode(tmp_path / str(index), shape, rng):
      pixels = np.asarray(Image.open(path))
      for one in (path, Image.open(path), pixels):
        channels = 'rgb' if one is path else 'bgr'
        taken = assert_same(card, preprocess, one, channels)
        assert taken or (one is pixels and path.name == 'rgba.png'), path
  Image.fromarray(np.ones((40, 52), 'f')).save(tmp_path / 'float.tiff')
  for name in ('float.tiff', 'missing.png'):
    assert not assert_same(card, preprocess, tmp_path / name)


def assert_same(card, preprocess, given, channels='rgb'):
  """Returns whether a detector and its recipe make the same of an image."""
  expected = inputs.ready([given], card.bits, card.frame, channels=channels)
  try:
    found = preprocess(given, channels)
  except (ValueError, OSError):
    with pytest.raises((ValueError, OSError)):
      next(expected)
    return False
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found, next(expected).pixels[None])
  return True


def test_a_camera_of_12_bits_is_read_right(detector, tmp_path):
  card = dataclasses.replace(detector.card, bits=12)
  deep = np.random.default_rng(0).integers(0, 4096, (40, 52), np.uint16)
  path, shallow = tmp_path / 'deep.png', (deep >> 4).astype(np.uint8)
  Image.fromarray(deep).save(path)
  first, second = Detector(card, detector.weights).predict([path, shallow])
  assert first.score == second.score
  assert assert_same(card, load(card), path)
  Image.fromarray(deep | 4096).save(path)
  assert not assert_same(card, load(card), path)
