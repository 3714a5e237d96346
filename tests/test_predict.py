"""The command that scores images: a table, pictures and maps."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from simplenet_jax.data import images
from simplenet_jax.detector import Detector
from tests import commands
from tests.detection import detectors

HEADER = ['path', 'score', 'threshold', 'verdict', 'time']
OUTLINE = (0, 255, 110)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A calibrated detector that crops."""
  path = tmp_path_factory.mktemp('detector') / 'gasket.safetensors'
  detectors.make(crop=32, thresholds=True).save(path)
  return path


@pytest.fixture(scope='module')
def bare(tmp_path_factory):
  """A detector without thresholds."""
  path = tmp_path_factory.mktemp('detector') / 'bare.safetensors'
  detectors.make(crop=32).save(path)
  return path


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """Test images in MVTec's folders; one of them is broken."""
  root = tmp_path_factory.mktemp('data')
  test = root / 'gasket' / 'test'
  detectors.pictures(test / 'good', 4)
  detectors.pictures(test / 'crack', 6)
  whole = (test / 'good' / '0.png').read_bytes()
  (test / 'good' / '2.png').write_bytes(whole[:150])
  return root


def readable(root):
  found = sorted(root.rglob('*.png'))
  assert len(found) == 10
  return [path for path in found if path.parts[-2:] != ('good', '2.png')]


def read_table(folder):
  with (folder / 'predictions.csv').open(newline='') as file:
    header, *rows = csv.reader(file)
  assert header == HEADER
  return [dict(zip(header, row, strict=True)) for row in rows]


def files_in(folder):
  return sorted(
    path.relative_to(folder).as_posix()
    for path in folder.rglob('*')
    if path.is_file()
  )


def predict(detector, given, output, *more):
  return commands.run(
    'predict',
    f'--detector={detector}',
    f'--input={given}',
    f'--output={output}',
    *more,
  )


@pytest.fixture(scope='module')
def whole(tmp_path_factory, saved, root):
  """All that the command writes."""
  out = tmp_path_factory.mktemp('out') / 'results'
  return predict(saved, root, out, '--maps'), out


@pytest.fixture(scope='module')
def expected(saved, root):
  return list(Detector.load(saved).predict(readable(root)))


def test_the_table_has_a_row_per_image_in_order(whole, expected):
  rows = read_table(whole[1])
  assert [row['path'] for row in rows] == [str(p.source) for p in expected]
  for row, found in zip(rows, expected, strict=True):
    assert float(row['score']) == pytest.approx(found.score, rel=1e-6)
    limit = found.thresholds.image
    assert float(row['threshold']) == pytest.approx(limit, rel=1e-6)
    verdict = 'anomalous' if found.anomalous else 'normal'
    assert row['verdict'] == verdict
    assert 0 < float(row['time']) < 60
  assert {row['verdict'] for row in rows} == {'anomalous', 'normal'}


def test_pictures_outline_what_is_beyond_the_threshold(whole, root, expected):
  outlined = []
  for found in expected:
    place = found.source.relative_to(root)
    picture = np.asarray(Image.open(whole[1] / 'pictures' / place))
    assert picture.shape == (*found.map.shape, 3)
    line = (picture == OUTLINE).all(-1)
    outlined.append(line.any())
    assert not (line & found.mask).any()
    assert line.any() == (0 < found.mask.sum() < found.mask.size)
  assert any(outlined)


def test_it_says_what_it_does(whole):
  done, out = whole
  rows = read_table(out)
  count = sum(row['verdict'] == 'anomalous' for row in rows)
  used, first, second, third, fourth = done.told.splitlines()[:5]
  assert used.startswith('       10  to predict, such as ')
  assert first.startswith(
    'Detector part: demo_resnet, 1 head, input 32 x 32, float32 on '
  )
  assert 'threshold ' in second
  assert third == f'  10 images, results in {out}/'
  assert fourth == (
    "  maps hold their image's lowest score where the crop leaves it out"
  )
  assert f', {count} anomalous: {out / "predictions.csv"}' in done.told
  assert '9 images in ' in done.told
  # One cannot be read: it is told, left out, and fails the command.
  assert done.status == 1
  message = 'error: 1 of 10 images could not be used; the first, '
  assert done.error.startswith(message)
  assert 'good/2.png: cannot be read: ' in done.error
  assert '  error: ' in done.told


def test_predictions_alone_are_replaced(bare, good, tmp_path):
  out = tmp_path / 'out'
  done = predict(bare, good, out, '--maps')
  assert done.status == 0, done.errors
  (out / 'notes.txt').write_text('mine')
  (out / 'predictions.csv').unlink()  # As where it was killed.
  done = predict(bare, good / '0.png', out)
  assert done.status == 1
  assert 'out/pictures is there already' in done.error
  done = predict(bare, good / '0.png', out, '--overwrite')
  assert done.status == 0, done.errors
  assert files_in(out) == [
    'notes.txt',
    'pictures/gasket/test/crack/0.png',
    'predictions.csv',
  ]


def test_images_are_not_taken_for_what_predictions_left(bare, good, tmp_path):
  inner = tmp_path / 'pictures'
  inner.mkdir()
  shutil.copy(good / '0.png', inner)
  done = predict(bare, inner, tmp_path, '--overwrite', '--nopictures')
  assert done.status == 1
  assert 'pictures would be replaced but holds' in done.error
  assert [path.name for path in inner.iterdir()] == ['0.png']


@pytest.fixture
def good(root):
  """Images all of which can be read."""
  return root / 'gasket' / 'test' / 'crack'


def test_thresholds_can_be_given(saved, good, tmp_path):
  scores = []
  for name, limit, verdicts in (
    ('low', -100, {'anomalous'}),
    ('high', 100, {'normal'}),
  ):
    options = (f'--threshold={limit}', f'--pixel_threshold={limit}')
    done = predict(saved, good, tmp_path / name, *options)
    assert done.status == 0, done.errors
    assert f'threshold {limit}, set by hand' in done.told
    rows = read_table(tmp_path / name)
    assert {row['verdict'] for row in rows} == verdicts
    assert {float(row['threshold']) for row in rows} == {limit}
    scores.append([row['score'] for row in rows])
  assert scores[0] == scores[1]  # Only what is said of them changes.


def test_a_large_image_gets_a_smaller_picture(bare, tmp_path):
  Image.new('RGB', (1800, 500), (90, 120, 60)).save(tmp_path / 'large.png')
  done = predict(bare, tmp_path / 'large.png', tmp_path / 'out', '--maps')
  assert done.status == 0, done.errors
  out = tmp_path / 'out'
  assert images.check(out / 'pictures/large.png').size == (284, 1024)
  assert np.asarray(Image.open(out / 'maps/large.tiff')).shape == (500, 1800)


@pytest.fixture(scope='module')
def damaged(tmp_path_factory, bare):
  path = tmp_path_factory.mktemp('damaged') / 'damaged.safetensors'
  content = bytearray(bare.read_bytes())
  content[-100] ^= 255
  path.write_bytes(content)
  return path


@pytest.fixture(scope='module')
def others(tmp_path_factory):
  path = tmp_path_factory.mktemp('others') / 'weights.safetensors'
  save_file({'conv1.kernel': np.zeros((7, 7, 3, 32), np.float32)}, path)
  return path


ANY = 'README.md'  # Something that is there.
ALL = {
  'predict': {'detector': ANY, 'input': ANY, 'output': 'out'},
  'calibrate': {'detector': ANY, 'input': ANY},
  'export': {'detector': ANY, 'output': 'out'},
  'import_released': {
    'config': 'configs/mvtec.py',
    'checkpoint': ANY,
    'output': 'out',
  },
}
NONE = object()


@pytest.mark.parametrize(
  ('changes', 'status', 'message'),
  [
    ({'detector': 'nowhere'}, 1, 'nowhere.safetensors: no such detector'),
    ({'detector': ANY}, 1, 'README.md: damaged, or not a detector'),
    ({'detector': 'others'}, 1, 'not a detector; a run leaves them in'),
    ({'detector': 'damaged'}, 1, 'damaged: its checksum differs'),
    ({'detector': '.'}, 1, 'no such detector'),
    ({'input': 'nowhere/*.png'}, 1, '--input=nowhere/*.png: no such file'),
    ({'input': 'empty'}, 1, 'no images in it'),
    ({'channels': 'gray'}, 2, '--channels=gray: value should be one of'),
    ({'precision': 'half'}, 2, '--precision=half: value should be one of'),
    ({'batch_size': '0'}, 2, '--batch_size=0'),
    ({'threshold': 'high'}, 2, '--threshold=high'),
    ({'detectr': 'x'}, 2, "'detectr'. Did you mean: detector"),
    ({'output': ANY}, 1, 'README.md'),
  ],
)
def test_of_predict(
  bare, others, damaged, good, tmp_path, changes, status, message
):
  places = {'others': others, 'damaged': damaged, 'empty': tmp_path}
  given = {'detector': bare, 'input': good, 'output': tmp_path / 'out'}
  given |= {k: places.get(v, v) for k, v in changes.items()}
  done = commands.run('predict', *(f'--{k}={v}' for k, v in given.items()))
  assert done.status == status
  assert done.error.startswith('error: ')
  assert message in done.error
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  ('name', 'flag'), [(name, flag) for name in ALL for flag in ALL[name]]
)
def test_of_flags_that_are_missing_or_empty(name, flag):
  for value in (None, ''):
    given = {**ALL[name], flag: value}
    done = commands.run(
      name, *(f'--{k}={v}' for k, v in given.items() if v is not None)
    )
    assert done.status in (1, 2)
    assert done.error.startswith('error: ')
    assert flag in done.error


def test_a_signal_leaves_a_whole_table(bare, tmp_path):
  """As a process of its own that is stopped in the middle."""
  (tmp_path / 'in').mkdir()
  first = tmp_path / 'in' / '0000.png'
  Image.linear_gradient('L').resize((700, 500)).save(first)
  for index in range(1, 2000):
    shutil.copy(first, tmp_path / 'in' / f'{index:04}.png')
  out = tmp_path / 'out'
  process = subprocess.Popen(
    [
      sys.executable,
      '-m',
      'simplenet_jax.predict',
      f'--detector={bare}',
      f'--input={tmp_path / "in"}',
      f'--output={out}',
      '--nopictures',
      '--maps',
    ],
    env={
      **os.environ,
      # With as many devices it finds what this process compiled.
      'JAX_NUM_CPU_DEVICES': str(jax.device_count()),
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  while len(list(out.glob('maps/*.tiff'))) < 10:
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.02)
  assert not (out / 'predictions.csv').exists()
  process.send_signal(signal.SIGTERM)
  told, errors = process.communicate(timeout=60)
  assert process.returncode == 128 + signal.SIGTERM
  rows = read_table(out)
  assert 10 <= len(rows) < 2000
  assert errors.splitlines() == [
    f'stop: stopped after {len(rows)} of 2000 images; '
    f'{out / "predictions.csv"} holds them'
  ]
  assert 'what is done is written' in told
  # Whole: every row is complete, and everything written is in the table.
  assert [row['path'] for row in rows] == [
    str(tmp_path / 'in' / f'{index:04}.png') for index in range(len(rows))
  ]
  assert len({row['score'] for row in rows}) == 1
  assert files_in(out) == sorted(
    ['predictions.csv', *(f'maps/{i:04}.tiff' for i in range(len(rows)))]
  )
