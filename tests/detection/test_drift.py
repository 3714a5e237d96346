"""The running test: quiet without a change, soon with one, and what it says."""

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.detection import calibration, inputs, output
from simplenet_jax.detection.drift import Drift
from simplenet_jax.detection.inputs import Look
from simplenet_jax.detection.thresholds import GoodImage, Thresholds
from tests.detection import detectors

USUAL = {'score': 1.0, 'level': 120.0, 'x': 0.0, 'y': 0.0, 'sharpness': 0.1}
SPREAD = {'score': 0.2, 'level': 3.0, 'x': 0.01, 'y': 0.01, 'sharpness': 0.01}


class Found:
  """What the test looks at of a prediction."""

  def __init__(self, rng, **changes):
    values = {n: rng.normal(USUAL[n], SPREAD[n]) for n in USUAL}
    for name, by in changes.items():
      values[name] += by * SPREAD[name]
    self.score = values.pop('score')
    self.look = Look(**values)


def thresholds(rng, count=100, folds=0):
  images = [Found(rng) for _ in range(count)]
  good = [GoodImage('', one.score, 0.0, one.look) for one in images]
  return calibration.calibrate(good, 0.01, folds)


def told(drift, rng, count, **changes):
  """Returns the first alarm of so many images."""
  found = (drift.update(Found(rng, **changes)) for _ in range(count))
  return next(filter(None, found), None)


@pytest.mark.parametrize('folds', [0, 4])
def test_quiet_as_long_as_nothing_changes(folds):
  rng = np.random.default_rng(0)
  for seed in range(8):
    drift = Drift(thresholds(rng, folds=folds), seed)
    assert told(drift, rng, 1000) is None
    assert (drift.images, drift.changed, drift.alarm) == (1000, '', '')


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'score': 1.8}, 'their scores are higher'),
    ({'score': -2.0}, 'their scores are lower'),
    ({'level': 3.0}, 'they are brighter'),
    ({'level': -3.0}, 'they are darker'),
    ({'x': 3.0}, 'they show things further right'),
    ({'y': -3.0}, 'they show things further up'),
    ({'sharpness': -3.0}, 'they are less sharp'),
    ({'score': 50.0}, 'more than a fifth of the images are NOT OK'),
  ],
)
@pytest.mark.parametrize('before', [0, 300])
def test_a_change_is_noticed_within_50_images(changes, said, before):
  rng = np.random.default_rng(1)
  drift = Drift(thresholds(rng), 'd')
  assert told(drift, rng, before) is None
  alarm = told(drift, rng, 50, **changes)
  assert alarm
  assert drift.alarm == alarm
  either = 'the parts are bad or ' if drift.changed == 'verdict' else ''
  told_after = f'the line has changed, noticed after {drift.images} images: '
  assert alarm.startswith(either + told_after)
  assert said in alarm
  assert 'simplenet calibrate --detector=d --input=GOOD_IMAGES' in alarm
  # Once: the line is told to be recalibrated, and nothing more.
  assert told(drift, rng, 20, **changes) is None


def test_scores_of_folds_are_compared_with_the_streams_alone():
  rng = np.random.default_rng(2)
  # The detector's heads score otherwise than those that left images out.
  drift = Drift(thresholds(rng, folds=4))
  assert told(drift, rng, 300, score=-3.0) is None
  assert told(drift, rng, 50, score=-6.0)
  assert drift.changed == 'score'
  other = Drift(thresholds(rng, folds=4))
  assert told(other, rng, 50, level=4.0)
  assert other.changed == 'level'


def test_a_detector_without_a_threshold_is_refused():
  with pytest.raises(ValueError, match='nothing is judged good'):
    Drift(Thresholds())


def test_what_a_look_measures():
  rng, (row, column) = np.random.default_rng(3), np.mgrid[:64, :64]

  def part(right=0.0, down=0.0, light=1.0):
    x, y = rng.normal((30 + right, 34 + down), 0.5)
    bump = np.exp(-((column - x) ** 2 + (row - y) ** 2) / 200)
    gray = light * (60 + 120 * bump + rng.normal(0, 2, bump.shape))
    return np.repeat(gray[..., None].astype(np.uint8), 3, -1)

  thumbnails = [inputs.thumbnail(part()) for _ in range(20)]
  usual = inputs.Appearance.of(thumbnails, [(64, 64)])

  def look(pixels):
    return Look.of(pixels, inputs.thumbnail(pixels), usual)

  before = look(part())
  # 4 pixels of 64.
  x, y = np.subtract(look(part(right=4)), before)[1:3]
  assert (x, y) == pytest.approx((4 / 64, 0), abs=0.03)
  x, y = np.subtract(look(part(down=-4)), before)[1:3]
  assert (x, y) == pytest.approx((0, -4 / 64), abs=0.03)
  assert look(part(light=1.2)).level == pytest.approx(1.2 * before.level, 0.02)
  assert look(np.full((64, 64, 3), 90, np.uint8)).sharpness == 0
  assert before.sharpness > 0
  assert Look.of(part(), thumbnails[0], None)[1:3] == (0, 0)


def test_predict_tells_it_once(tmp_path, caplog):
  detector, parts = detectors.make(size=(40, 40)), detectors.parts(60)
  detector.calibrate(parts, 0.01)
  paths = [tmp_path / f'{number:02}.png' for number in range(60)]
  for path, pixels in zip(paths, detectors.parts(60, seed=1), strict=True):
    Image.fromarray(pixels).save(path)
  options = {'name': 'parts', 'pictures': False, 'overwrite': True}
  output.predict(detector, paths, tmp_path / 'found', **options)
  assert 'has changed' not in caplog.text
  for path in paths:
    pixels = np.asarray(Image.open(path)) * 1.2
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
  output.predict(detector, paths, tmp_path / 'found', **options)
  assert caplog.text.count('the line has changed') == 1
  assert '--detector=parts --input=GOOD_IMAGES' in caplog.text
