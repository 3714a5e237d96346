"""What a detector's file says of it: values that make sense, and colours."""

import dataclasses

import pytest

from simplenet_jax.detection.file import Card
from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.models import backbone
from tests.detection import detectors
from tests.detection.test_file import APPEARANCE, SMALL, edited


@pytest.fixture(autouse=True)
def small(monkeypatch):
  monkeypatch.setitem(backbone.ARCHITECTURES, 'small', SMALL)


@pytest.mark.parametrize(
  ('path', 'value'),
  [
    ('name', 3),
    ('heads', -1),
    ('heads', 0),  # And no bank of patches either.
    ('nearest', -1),
    ('nearest', 2**30),
    ('crop', 32),  # The network's input is another.
    pytest.param('resize', 10**400, id='resize-beyond-floats'),
    pytest.param('thresholds.images', 10**400, id='images-beyond-floats'),
    ('margin', -0.5),
    ('colours', 'none'),
    ('appearance', {**dataclasses.asdict(APPEARANCE), 'mean': [1.0]}),
    ('appearance.std', [float('nan')] * 192),
    ('appearance.std', [-1.0] * 192),
    ('appearance.gray', [1.0, '2']),
    ('appearance.aspect', [0.0, 1.0]),
    ('usual', [1.0, 0.0]),
    ('network.architecture', 'vgg'),
    ('network.levels', [3, 2]),
    ('network.padding', 'same'),
    ('network.patch_size', 0),
    ('network.target_dim', 2**16),
    ('network.pretrain_dim', -1),
    ('network.score', 'mean'),
    ('network.smoothing', float('nan')),
    pytest.param('network.smoothing', 10**400, id='beyond-floats'),
    ('thresholds.image', float('nan')),
    ('thresholds.pixel', True),
    ('thresholds.target_rate', 0),
    ('thresholds.guaranteed_rate', [0.1]),
    ('thresholds.manual', ['median']),
    ('thresholds', {'manual': ['image']}),  # It is not there.
    ('thresholds.precision', 'half'),
    ('thresholds.limiting_images', [['a.png']]),
    ('format', 'simplenet-jax detector'),
  ],
)
def test_values_that_make_no_sense_are_refused(path, value):
  with pytest.raises(ValueError, match=r'its (description|format)'):
    Card.from_json(edited(path, value))


@pytest.mark.parametrize('text', ['', 'null', '[]', '{}', '[' * 100_000])
def test_other_texts_are_refused(text):
  with pytest.raises(ValueError, match='its description is damaged'):
    Card.from_json(text)


@pytest.mark.parametrize(
  ('usual', 'pixel', 'expected'),
  [
    ((-1.0, 0.5), None, (-1.0, 5.0, None)),
    ((-3.0, -2.6), None, (-3.0, 3.0, None)),
    ((-1.0, 0.5), 2.0, (-1.0, 5.0, 2.0)),
    (None, None, (-0.5, 0.5, None)),
    (None, 2.0, (-0.5, 4.5, 2.0)),
  ],
)
def test_the_scale_of_colours(usual, pixel, expected):
  made = detectors.make(levels=(1,)).card
  limits = Thresholds(pixel=pixel)
  card = dataclasses.replace(made, usual=usual, thresholds=limits)
  assert card.scale == expected
