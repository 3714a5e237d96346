"""The command that sets thresholds by good images."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from simplenet_jax.detection.inputs import Appearance
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
  flags = (f'--detector={detector}', f'--input={given}')
  return commands.run('calibrate', *flags, *more)


def test_in_place_and_what_it_promises(saved, good, caplog):
  done = calibrate(saved.with_suffix(''), good, '--false_alarm_rate=0.2')
  assert done.status == 0, done.errors
  assert list(saved.parent.iterdir()) == [saved]
  loaded = Detector.load(saved)
  limits, found = loaded.thresholds, list(loaded.predict(good))
  # The eighth of nine scores is exceeded by one.
  assert sum(p.anomalous for p in found) == 1
  assert sum(p.input_map.max() > limits.pixel for p in found) == 1
  assert limits.target_rate == 0.2
  assert limits.images == 9
  assert limits.guaranteed_rate == pytest.approx(0.2)
  told = done.told.splitlines()
  assert told[0] == f'Calibrates part with 9 images; {saved} is replaced'
  assert told[1] == '        9  to calibrate, such as 0.png'
  assert told[2] == 'Before: no threshold: scores only'
  assert told[3].startswith(f'Now: threshold {limits.image:.4g} for images, ')
  assert told[5].endswith('at most 20.0% of good images are called NOT OK')
  assert 'with 95% confidence at most ' in told[6]
  assert 'from 9 good images is not reliable' in caplog.text
  assert limits.limiting_images
  assert told[-2].startswith('  Thresholds by --false_alarm_rate: 1%: ')
  assert told[7:-3] == [
    f'    {score:.4g}  {name}' for name, score in limits.limiting_images
  ]
  # By the folder they are in: no other folder of the machine is saved.
  names = {f'{good.name}/{path.name}' for path in good.iterdir()}
  assert {name for name, _ in limits.limiting_images} <= names


def move(good, folder, names):
  folder.mkdir()
  for name in names:
    shutil.copy(good / f'{name}.png', folder)
  return folder


def known(detector):
  held = Detector.load(detector).thresholds
  return sorted(one.score for one in held.good), held


def test_images_are_added_to_those_that_count(saved, good, tmp_path, caplog):
  done = calibrate(saved, move(good, tmp_path / 'a', range(4)))
  assert done.status == 0, done.errors
  done = calibrate(saved, move(good, tmp_path / 'b', range(4, 9)), '--append')
  assert done.status == 0, done.errors
  scores, held = known(saved)
  alone = tmp_path / 'alone'
  calibrate(saved, good, f'--output={alone}', '--false_alarm_rate=0.01')
  expected, whole = known(f'{alone}.safetensors')
  assert scores == expected
  assert (held.image, held.pixel) == (whole.image, whole.pixel)
  assert held.guaranteed_rate == whole.guaranteed_rate == pytest.approx(0.1)
  assert [one.score for one in held.good] == scores
  done = calibrate(saved, tmp_path / 'b', '--append')
  assert '5 of these images count already' in caplog.text
  assert known(saved)[0] == scores
  # Nor under another name.
  calibrate(saved, move(good, tmp_path / 'c', range(4, 9)), '--append')
  assert known(saved)[0] == scores


@pytest.mark.parametrize(
  ('changes', 'why'),
  [
    ({'good': ()}, 'it keeps no scores of good images'),
    ({'served': True}, 'it judged some of its images good itself'),
    ({'folds': 4}, 'its scores are of heads that left these images out'),
    ({'precision': 'bfloat16'}, 'its scores are not in float32'),
  ],
)
def test_what_cannot_count_together_is_refused(saved, good, changes, why):
  calibrate(saved, good)
  detector = Detector.load(saved)
  # No image is known to be trained on, which would be refused before.
  alike = [one._replace(look=None) for one in detector.thresholds.good]
  changes = {'good': tuple(alike)} | changes
  detector.thresholds = dataclasses.replace(detector.thresholds, **changes)
  detector.save(saved)
  before = saved.read_bytes()
  done = calibrate(saved, good, '--append')
  assert done.status == 1
  assert done.errors.splitlines()[-1] == (
    f'error: nothing can be appended to this detector: {why}; give new good '
    'images, without --append'
  )
  assert saved.read_bytes() == before


def from_served(detector, table, *more):
  flags = (f'--detector={detector}', f'--from_served={table}')
  return commands.run('calibrate', *flags, *more)


@pytest.mark.parametrize('suffix', ['csv', 'jsonl'])
def test_images_that_the_detector_judged_good(saved, good, tmp_path, suffix):
  calibrate(saved, good, '--false_alarm_rate=0.2')
  before, out = Detector.load(saved).thresholds, tmp_path / 'found'
  given = f'--detector={saved}', f'--input={good}', f'--output={out}'
  assert commands.run('predict', *given, '--nopictures').status == 0
  done = from_served(saved, out / f'predictions.{suffix}')
  assert done.status == 0, done.errors
  held = Detector.load(saved).thresholds
  assert (held.images, held.served) == (8, True)
  assert held.image == before.image  # The highest that passed.
  # One in nine of those that pass, beside those that did not.
  assert held.guaranteed_rate == pytest.approx(0.2 + 1 / 9)
  assert held.bound is None
  assert 'good parts that it called NOT OK are not among them' in done.told
  assert 'at most 31.1% of good images are called NOT OK, if the' in done.told
  done = from_served(saved, out / 'predictions.csv', '--output=x', '--append')
  assert 'it judged some of its images good itself' in done.error
  detector = Detector.load(saved)
  detector.threshold = before.image - 1
  detector.save(saved)
  done = from_served(saved, out / f'predictions.{suffix}')
  assert (
    f'were judged by the threshold {before.image:.7g}, the detector'
    in done.error
  )


def test_a_table_that_says_too_little(saved, good, tmp_path):
  calibrate(saved, good)
  limit, table = Detector.load(saved).threshold, tmp_path / 'p.jsonl'
  row = {'path': 'no/such.png', 'verdict': 'normal', 'threshold': limit}
  row['score'] = limit - 1
  table.write_text(json.dumps(row))
  done = from_served(saved, table)
  assert (
    '1 of its 1 normal images are not there, such as no/such' in done.errors
  )
  table.write_text(json.dumps(row | {'verdict': 'anomalous'}))
  assert 'by the threshold of none' in from_served(saved, table).errors
  image = str(next(good.iterdir()))
  table.write_text(json.dumps(row | {'path': image, 'score': 99}))
  assert 'give the --roi, --precision' in from_served(saved, table).errors
  table.write_text('{"path": 3')
  assert 'give predictions.csv or' in from_served(saved, table).errors
  done = commands.run('calibrate', f'--detector={saved}')
  assert (done.status, done.error) == (
    2,
    'error: either --input or --from_served must be given',
  )


def test_a_target_that_exists_is_kept(saved, good, tmp_path):
  target = tmp_path / 'new.safetensors'
  target.write_bytes(b'something')
  done = calibrate(saved, good, f'--output={target.with_suffix("")}')
  assert done.status == 1
  assert done.error == (
    f'error: {target} exists already; give another --output, or '
    '--overwrite to replace it'
  )
  assert target.read_bytes() == b'something'
  done = calibrate(saved, good, f'--output={target}', '--overwrite')
  assert done.status == 0, done.errors
  assert Detector.load(target).thresholds.images == 9


def test_a_file_of_another_name_is_not_left_as_it_is_unnoticed(saved, good):
  renamed = saved.rename(saved.with_suffix('.v1'))
  done = calibrate(renamed, good)
  assert done.status == 1
  assert 'gasket.v1 does not end in .safetensors' in done.error
  assert list(saved.parent.iterdir()) == [renamed]


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


def test_a_wrong_rate_is_one_line(saved, good):
  done = calibrate(saved, good, '--false_alarm_rate=nan')
  assert done.status == 2
  assert '--false_alarm_rate=nan: must be between 0 and 1' in done.error
