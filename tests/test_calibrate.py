"""The command that sets thresholds by good images."""

import dataclasses

import numpy as np
import pytest

from simplenet_jax.detection.appearance import Appearance
from simplenet_jax.detector import Detector
from tests import commands
from tests.detection import detectors


@pytest.fixture(scope='module')
def detector():
  return detectors.make(crop=32)


@pytest.fixture
def saved(detector, tmp_path):
  """A detector without thresholds, as a run leaves it."""
  path = tmp_path / 'detectors' / 'gasket.safetensors'
  detector.save(path)
  return path


@pytest.fixture(scope='module')
def good(tmp_path_factory):
  folder = tmp_path_factory.mktemp('good')
  detectors.pictures(folder, 9)
  return folder


def calibrate(detector, given, *more):
  return commands.run(
    'calibrate', f'--detector={detector}', f'--input={given}', *more
  )


def files_beside(path):
  return sorted(each.name for each in path.parent.iterdir())


def test_in_place(saved, good):
  done = calibrate(saved.with_suffix(''), good, '--false_alarm_rate=0.2')
  assert done.status == 0, done.errors
  assert files_beside(saved) == ['gasket.safetensors']
  loaded = Detector.load(saved)
  found = list(loaded.predict(good))
  # The eighth of nine scores is exceeded by one.
  assert sum(p.anomalous for p in found) == 1
  assert sum(p.input_map.max() > loaded.thresholds.pixel for p in found) == 1
  assert loaded.thresholds.target_rate == 0.2
  assert loaded.thresholds.images == 9
  assert loaded.thresholds.guaranteed_rate == pytest.approx(0.2)


def test_it_prints_what_it_promises_and_by_which_images(saved, good, caplog):
  done = calibrate(saved, good, '--false_alarm_rate=0.01')
  limits = Detector.load(saved).thresholds
  told = done.told.splitlines()
  assert told[0] == f'Calibrates part with 9 images, to {saved}'
  assert told[1] == '        9  to calibrate, such as 0.png'
  assert told[2].startswith(f'threshold {limits.image:.4g} from 9 good images')
  # One in a hundred cannot be promised with nine images.
  assert told[4].endswith(
    'at most 10.0% of good images are flagged (1.0% takes 99 images)'
  )
  assert '95 % confidence at most 28.3%' in told[5]
  assert 'from 9 good images is worth little' in caplog.text
  assert limits.limiting_images
  assert told[6:] == [
    f'  {score:.4g}  {name}' for name, score in limits.limiting_images
  ]
  # Below the folder that all are in: no folder of the machine is saved.
  names = {path.name for path in good.iterdir()}
  assert {name for name, _ in limits.limiting_images} <= names


def test_a_target_that_exists_is_kept(saved, good, tmp_path):
  target = tmp_path / 'new.safetensors'
  target.write_bytes(b'something')
  for name in (target, target.with_suffix('')):
    done = calibrate(saved, good, f'--output={name}')
    assert done.status == 1
    assert done.error == (
      f'error: {target} is there already; give another --output, or '
      '--overwrite to replace it'
    )
    assert target.read_bytes() == b'something'
  done = calibrate(saved, good, f'--output={target}', '--overwrite')
  assert done.status == 0, done.errors
  assert Detector.load(target).thresholds.images == 9


def test_images_of_another_aspect_are_refused(detector, good, tmp_path, caplog):
  card = dataclasses.replace(
    detector.card,
    appearance=Appearance.of([np.full((8, 8, 3), 100.0)], [(50, 100)]),
  )
  path = tmp_path / 'gasket.safetensors'
  Detector(card, detector.weights).save(path)
  before = path.read_bytes()
  done = calibrate(path, good)
  assert done.status == 1
  error = done.errors.splitlines()[-1]
  assert error.startswith(f'error: {good}/')
  assert '0.png: 40 x 52 (height x width) has another aspect (1.30)' in error
  assert 'than the training images (2.00)' in error
  assert '--any_aspect' in error
  assert path.read_bytes() == before
  caplog.clear()
  done = calibrate(path, good, '--any_aspect')
  assert done.status == 0, done.errors
  # The warning stays, once.
  assert caplog.text.count('another aspect') == 1
  with pytest.raises(ValueError, match='another aspect'):
    Detector.load(path).calibrate(good)
  Detector.load(path).calibrate(good, any_aspect=True)


@pytest.mark.parametrize(
  ('option', 'status', 'message'),
  [
    ('--false_alarm_rate=0', 2, '--false_alarm_rate=0.0: must be between'),
    ('--false_alarm_rate=1', 2, '--false_alarm_rate=1.0: must be between'),
    ('--false_alarm_rate=-.1', 2, '--false_alarm_rate=-0.1: must be'),
    ('--false_alarm_rate=nan', 2, '--false_alarm_rate=nan: must be'),
    ('--false_alarm_rate=few', 2, '--false_alarm_rate=few'),
    ('--input={empty}', 1, 'no images in it'),
    ('--channels=gbr', 2, '--channels=gbr: value should be one of <rgb|bgr>'),
    ('--input={empty}/*.png', 1, '*.png: no such file, folder or files'),
    ('--detector={empty}/none', 1, 'none.safetensors: no such detector'),
    ('--detector=README.md', 1, 'README.md does not end in .safetensors'),
    ('--output=README.md/part', 1, 'README.md'),
  ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(
  saved, good, tmp_path, option, status, message
):
  (tmp_path / 'empty').mkdir()
  before = saved.read_bytes()
  done = calibrate(saved, good, option.format(empty=tmp_path / 'empty'))
  assert done.status == status
  assert done.error.startswith('error: ')
  assert message in done.error
  assert saved.read_bytes() == before
  assert files_beside(saved) == ['gasket.safetensors']


def test_a_file_of_another_name_is_not_left_as_it_is_unnoticed(saved, good):
  renamed = saved.rename(saved.with_name('gasket-v1'))
  done = calibrate(renamed, good)
  assert done.status == 1
  assert 'gasket-v1 does not end in .safetensors' in done.error
  assert files_beside(saved) == ['gasket-v1']
  done = calibrate(renamed, good, f'--output={saved}')
  assert done.status == 0, done.errors
  assert Detector.load(saved).thresholds.images == 9
