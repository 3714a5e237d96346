"""The command that scores images: a table, pictures and maps."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.detector import Detector
from tests import commands
from tests.data.serving import contents
from tests.detection import detectors


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A calibrated detector that crops."""
  path = tmp_path_factory.mktemp('detector') / 'gasket.safetensors'
  detectors.make(crop=32, thresholds=True).save(path)
  return path


@pytest.fixture(scope='module')
def bare(saved):
  """The same without thresholds."""
  detector = Detector.load(saved)
  detector.thresholds = Thresholds()
  detector.save(saved.with_name('bare'))
  return saved.with_name('bare.safetensors')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """Test images in MVTec's folders; one of them is broken."""
  root = tmp_path_factory.mktemp('data')
  good, crack = root / 'gasket/test/good', root / 'gasket/test/crack'
  detectors.pictures(good, 4)
  detectors.pictures(crack, 6)
  (good / '2.png').write_bytes((good / '0.png').read_bytes()[:150])
  return root


def read_table(folder):
  with (folder / 'predictions.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  known = ['path', 'score', 'threshold', 'verdict', 'p_value', 'seconds']
  assert list(rows[0]) == [*known, 'regions', 'x', 'y', 'width', 'height']
  return rows


def predict(detector, given, output, *more):
  flags = (f'--detector={detector}', f'--input={given}', f'--output={output}')
  return commands.run('predict', *flags, *more)


def test_all_that_the_command_writes(tmp_path, saved, root):
  out = tmp_path / 'results'
  done = predict(saved, root, out, '--maps')
  readable = sorted({*root.rglob('*.png')} - {root / 'gasket/test/good/2.png'})
  expected = list(Detector.load(saved).predict(readable))
  rows = read_table(out)
  assert [row['path'] for row in rows] == [str(p.source) for p in expected]
  for row, found in zip(rows, expected, strict=True):
    assert float(row['score']) == pytest.approx(found.score, rel=1e-6)
    limit = found.thresholds.image
    assert float(row['threshold']) == pytest.approx(limit, rel=1e-6)
    verdict = 'anomalous' if found.anomalous else 'normal'
    assert row['verdict'] == verdict
    assert 0 < float(row['seconds']) < 60
    assert int(row['regions']) == len(found.regions)
    first = found.regions[0].box if found.regions else [''] * 4
    box = [row[name] for name in ('x', 'y', 'width', 'height')]
    assert box == [str(one) for one in first]
    name = found.source.relative_to(root).with_suffix('.jpg')
    with Image.open(out / 'pictures' / name) as picture:
      assert picture.size == found.picture().size
  lines = (out / 'predictions.jsonl').read_text().splitlines()
  for line, row, found in zip(lines, rows, expected, strict=True):
    known = json.loads(line)
    assert (known['path'], known['verdict']) == (row['path'], row['verdict'])
    assert known['score'] == pytest.approx(found.score, rel=1e-6)
    assert known['normalised'] == pytest.approx(found.normalised, rel=1e-6)
    boxes = [tuple(region['box']) for region in known['regions']]
    assert boxes == [region.box for region in found.regions]
    assert [one['rank'] for one in known['regions']] == [
      *range(1, 1 + len(boxes))
    ]
  verdicts = [row['verdict'] for row in rows]
  assert set(verdicts) == {'anomalous', 'normal'}
  used, first, second, none_kept, third = done.told.splitlines()[:5]
  assert used.startswith('       10  to predict, such as ')
  assert first.startswith('Detector part: resnet18, sees 32 x 32 pixels, ')
  assert 'threshold ' in second
  assert none_kept.startswith('  no p-values until ')  # As of earlier versions.
  assert third.startswith("  maps hold their image's lowest score where the ")
  flagged = [one for one in expected if one.anomalous]
  worst = max(flagged, key=lambda one: one.score)
  told = f', {len(flagged)} NOT OK\n  {worst.source}: {worst.score:.4g}\n'
  assert told in done.told
  assert f'\nScores: {out / "predictions.csv"}\n' in done.told
  assert f'Look at them: {out / "pictures"}/' in done.told
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
  assert 'out/pictures exists already' in done.error
  # Images are not taken for what predictions left.
  done = predict(bare, out / 'pictures', out, '--overwrite')
  assert done.status == 1
  assert 'pictures would be replaced but holds' in done.error
  done = predict(bare, good / '0.png', out, '--overwrite')
  assert done.status == 0, done.errors
  assert sorted(contents(out)) == [
    'notes.txt',
    'pictures/gasket/test/crack/0.jpg',
    'predictions.csv',
    'predictions.jsonl',
  ]


@pytest.fixture
def good(root):
  """Images all of which can be read."""
  return root / 'gasket' / 'test' / 'crack'


def test_thresholds_can_be_given(saved, good, tmp_path):
  scores = []
  for limit, verdict in ((-100, 'anomalous'), (100, 'normal')):
    out = tmp_path / verdict
    options = (f'--threshold={limit}', f'--pixel_threshold={limit}')
    done = predict(saved, good, out, *options, '--nopictures')
    assert done.status == 0, done.errors
    assert f'threshold {limit}, set by hand' in done.told
    rows = read_table(out)
    assert {row['verdict'] for row in rows} == {verdict}
    assert {float(row['threshold']) for row in rows} == {limit}
    scores.append([row['score'] for row in rows])
  assert scores[0] == scores[1]  # Only what is said of them changes.


def test_a_large_image_gets_a_smaller_picture(bare, tmp_path):
  Image.new('RGB', (1800, 500), (90, 120, 60)).save(tmp_path / 'large.png')
  out = tmp_path / 'out'
  done = predict(bare, tmp_path / 'large.png', out, '--maps')
  assert done.status == 0, done.errors
  picture, grid = (
    np.asarray(Image.open(out / name))
    for name in ('pictures/large.jpg', 'maps/large.tiff')
  )
  assert grid.shape == (500, 1800)
  assert 1024 < picture.shape[1] < 1100  # Its parts lie below each other.


def test_odd_names(bare, good, tmp_path):
  """One too long for a map is told and left out, one that is no text stays."""
  images, out = tmp_path / 'in', tmp_path / 'out'
  images.mkdir()
  for name in ('a', 'n' * 251, os.fsdecode(b'z\xe9')):
    shutil.copy(good / '0.png', images / f'{name}.png')
  done = predict(bare, images, out, '--maps')
  assert done.status == 1
  assert done.error.startswith('error: 1 of 3 images could not be used; the fi')
  assert 'n.png: its name is too long for --pictures or --maps' in done.error
  _, *rows = (out / 'predictions.csv').read_bytes().splitlines()
  paths = [row.split(b',')[0] for row in rows]
  folder = os.fsencode(images)
  assert paths == [folder + b'/a.png', folder + b'/z\xe9.png']


@pytest.mark.parametrize(
  ('changes', 'status', 'message'),
  [
    ({'detector': 'nowhere'}, 1, 'nowhere: no such detector'),
    ({'detector': 'README.md'}, 1, 'README.md: damaged, or not a detector'),
    ({'input': 'empty'}, 1, 'no images in it'),
    ({'threshold': 'nan'}, 2, '--threshold=nan: must be a finite number'),
  ],
)
def test_what_is_wrong_is_one_line(
  bare, good, tmp_path, changes, status, message
):
  given = {'detector': bare, 'input': good, 'output': tmp_path / 'out'}
  given |= {k: tmp_path if v == 'empty' else v for k, v in changes.items()}
  done = commands.run('predict', *(f'--{k}={v}' for k, v in given.items()))
  assert done.status == status
  assert done.error.startswith('error: ')
  assert message in done.error
  assert not (tmp_path / 'out').exists()


def test_a_signal_leaves_a_whole_table(bare, tmp_path):
  """As a process of its own that is stopped in the middle."""
  images, out = tmp_path / 'in', tmp_path / 'out'
  images.mkdir()
  first = images / '0000.png'
  Image.linear_gradient('L').resize((700, 500)).save(first)
  for index in range(1, 2000):
    shutil.copy(first, images / f'{index:04}.png')
  flags = [f'--detector={bare}', f'--input={images}', f'--output={out}']
  flags += ['--nopictures', '--maps']
  process = subprocess.Popen(
    [sys.executable, '-m', 'simplenet_jax.predict', *flags],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  while len(list(out.glob('maps/*.tiff'))) < 10:
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  told, errors = process.communicate(timeout=60)
  assert process.returncode == 128 + signal.SIGTERM
  rows, table = read_table(out), out / 'predictions.csv'
  assert 10 <= len(rows) < 2000
  assert errors == (
    f'stop: stopped after {len(rows)} of 2000 images; {table} holds them\n'
  )
  assert 'stopping, writes what is done; ' in told
  # Whole: every row is complete, and everything written is in the table.
  names = [f'{index:04}' for index in range(len(rows))]
  assert [row['path'] for row in rows] == [f'{images}/{n}.png' for n in names]
  assert sorted(contents(out)) == [
    *(f'maps/{n}.tiff' for n in names),
    table.name,
    'predictions.jsonl',
  ]
