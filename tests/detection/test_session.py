"""What is said before images are predicted, and the pictures' colours."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.detection import session
from simplenet_jax.detection.thresholds import NONE
from simplenet_jax.detector import Detector
from tests.detection import detectors


@pytest.fixture(scope='module')
def detector():
  return detectors.make(levels=(1,))


def changed(detector, **fields):
  return Detector(
    dataclasses.replace(detector.card, **fields), detector.weights
  )


@pytest.mark.parametrize(
  ('usual', 'pixel', 'expected'),
  [
    ((-1.0, 0.5), None, (-1.0, 5.0)),
    ((-3.0, -2.6), None, (-3.0, 3.0)),
    ((-1.0, 0.5), 2.0, (-1.0, 2.0)),
    ((-1.0, 0.5), -3.0, (-1.0, -1.0)),
    (None, None, (-0.5, 0.5)),
    (None, 2.0, (-0.5, 2.0)),
  ],
)
def test_the_ends_of_the_colours(detector, usual, pixel, expected):
  card = dataclasses.replace(
    detector.card, usual=usual, thresholds=NONE.replace(pixel=pixel)
  )
  assert card.margin == 0.5
  assert session._limits(card) == expected


def test_good_images_are_cold_without_a_threshold(detector, tmp_path):
  """Whatever the loss's margin is, which has no meaning for some losses."""
  paths = detectors.pictures(tmp_path / 'in', 3)
  maps = [found.input_map for found in detector.predict(paths)]
  usual = float(np.median(maps)), float(np.max(maps))
  known = changed(detector, usual=usual, margin=0.0)
  session.predict(known, paths, tmp_path / 'out')
  for path in (tmp_path / 'out/pictures').iterdir():
    red, green, blue = np.moveaxis(np.asarray(Image.open(path), int), -1, 0)
    # The hot end of the colours is the one where red alone stands out.
    assert not ((red - blue > 50) & (green - blue < 25)).any()


def test_cautions_are_told_once(detector, tmp_path, caplog):
  paths = detectors.pictures(tmp_path / 'in', 1)
  known = changed(detector, cautions=('its heads have learned nothing',))
  session.predict(known, paths, tmp_path / 'out')
  assert caplog.text.count('its heads have learned nothing') == 1
