"""Where predictions go, the table, pictures and their colours."""

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simplenet_jax.data.frame import Frame
from simplenet_jax.detection import output
from simplenet_jax.detection.thresholds import NONE, Prediction, Thresholds
from simplenet_jax.detector import Detector
from tests.detection import detectors


@pytest.mark.parametrize(
  ('names', 'expected'),
  [
    (
      # MVTec's folders are kept wherever they lie.
      [
        '/data/mvtec/bottle/test/good/0.png',
        '/data/mvtec/cable/test/cut/1.png',
      ],
      ['bottle/test/good/0', 'cable/test/cut/1'],
    ),
    (['/data/bottle/test/good/000.png'], ['bottle/test/good/000']),
    (
      ['/a/line/1/x.png', '/a/line/2/x.png', '/a/line/y.tif'],
      ['1/x', '2/x', 'y'],
    ),
    (['/x.png', '/y.png'], ['x', 'y']),
    (['/test/good/x.png'], ['x']),
    # Names that differ by their suffix keep it.
    (['/a/x.png', '/a/x.jpg', '/a/y.png'], ['x.png', 'x.jpg', 'y']),
    (['/a/x.1.png', '/a/x.2.png'], ['x.1', 'x.2']),
    # Without its suffix the last one would be named as the first.
    (
      ['/a/x.png', '/a/x.jpg', '/a/x.png.png'],
      ['x.png', 'x.jpg', 'x.png.png'],
    ),
    # Equal names of two data sets stay two.
    (
      ['/old/bottle/test/good/0.png', '/new/bottle/test/good/0.png'],
      ['old/bottle/test/good/0', 'new/bottle/test/good/0'],
    ),
  ],
)
def test_places(names, expected):
  found = output.places([Path(name) for name in names])
  assert list(found) == [Path(name) for name in names]
  assert [place.as_posix() for place in found.values()] == expected


def test_a_relative_path_knows_its_category(tmp_path, monkeypatch):
  (tmp_path / 'bottle/test').mkdir(parents=True)
  monkeypatch.chdir(tmp_path / 'bottle/test')
  path = Path('good/000.png')
  assert output.places([path]) == {path: Path('bottle/test/good/000')}


FOLDERS = st.lists(st.sampled_from(['a', 'b', 'test']), max_size=5)
NAMES = st.sampled_from(
  ['x', 'x.png', 'x.jpg', 'x.png.png', 'y.png', 'x.y.tif']
)


@given(
  st.lists(
    st.tuples(FOLDERS, NAMES), min_size=1, max_size=12, unique_by=str
  ).map(lambda found: [Path('/', *folders, name) for folders, name in found])
)
def test_no_two_files_share_a_place(paths):
  found = output.places(paths)
  assert list(found) == paths
  assert len(set(found.values())) == len(paths)
  for path, place in found.items():
    assert not place.is_absolute()
    assert '..' not in place.parts
    assert path.name.startswith(place.name)


HEADER = b'path,score,threshold,verdict,time\n'
NASTY = ['a, "b".png', 'line\nbreak.png', 'ä 日本.png', 'cr\rlf\n.png', '=1']


def write(folder, *paths, error=None):
  with output.table(folder) as add:
    for path in paths:
      add((path, '1', '1.5', 'normal', '0.1'))
    if error:
      raise error


def test_any_name_comes_back(tmp_path):
  write(tmp_path / 'new', *(Path('f') / name for name in NASTY))
  table = tmp_path / 'new' / 'predictions.csv'
  with table.open(newline='', encoding='utf-8') as file:
    names = [row[0] for row in csv.reader(file)]
  assert names == ['path', *(f'f/{name}' for name in NASTY)]
  assert list(table.parent.iterdir()) == [table]


def test_a_name_that_is_no_text_keeps_its_bytes(tmp_path):
  write(tmp_path, Path(os.fsdecode(b'caf\xe9.png')))
  content = (tmp_path / 'predictions.csv').read_bytes()
  assert content == HEADER + b'caf\xe9.png,1,1.5,normal,0.1\n'


@pytest.mark.parametrize('error', [OSError('disk'), KeyboardInterrupt()])
def test_an_error_leaves_a_table_of_what_came(tmp_path, error):
  with pytest.raises(type(error)):
    write(tmp_path, 'a.png', error=error)
  (path,) = tmp_path.iterdir()
  assert path.read_bytes() == HEADER + b'a.png,1,1.5,normal,0.1\n'


def predict(path, thresholds=NONE, score=1.5):
  image = Image.fromarray(np.full((40, 80, 3), 128, np.uint8))
  frame = Frame.protocol((40, 80), 40, 32)
  grid = np.linspace(-1, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
  return Prediction(path, score, thresholds, frame, grid, 0.25, image)


def test_a_prediction_leaves_a_picture_and_a_map(tmp_path):
  found = predict(tmp_path / 'x.png')
  places = {found.source: Path('line.1/x.2')}
  out = output.Output(tmp_path / 'out', places, (-1.0, 1.0), maps=True)
  assert out.write(found) == (found.source, '1.5', '', '', '0.250000')
  left = sorted(p for p in (tmp_path / 'out').rglob('*') if p.is_file())
  assert [path.relative_to(tmp_path / 'out').as_posix() for path in left] == [
    'maps/line.1/x.2.tiff',
    'pictures/line.1/x.2.png',
  ]
  heat = np.asarray(Image.open(left[0]))
  assert heat.dtype == np.float32
  # MVTec's evaluator sorts all pixels: the unseen ones are the least anomalous.
  expected = np.nan_to_num(found.map, nan=float(found.input_map.min()))
  np.testing.assert_array_equal(heat, expected)
  assert np.asarray(Image.open(left[1])).shape == (40, 80, 3)


@pytest.mark.parametrize('name', ['=1+1.png', '+1.png', '-1.png', '@x.png'])
def test_no_name_is_a_formula_and_nothing_is_left_unasked(
  tmp_path, monkeypatch, name
):
  monkeypatch.chdir(tmp_path)
  found = predict(Path(name))
  places = {found.source: Path('x')}
  out = output.Output(tmp_path / 'out', places, (-1, 1), False)
  path, *_ = out.write(found)
  assert str(path) == f'./{name}'
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  ('score', 'normalise', 'expected'),
  [
    (2.0, False, ('2', '2', 'normal')),
    (2.25, False, ('2.25', '2', 'anomalous')),
    (2.25, True, ('1.25', '1', 'anomalous')),
    (1.0, True, ('0', '1', 'normal')),
    (1 / 3, False, ('0.3333333', '2', 'normal')),
  ],
)
def test_the_verdict_fits_the_threshold(tmp_path, score, normalise, expected):
  found = predict(tmp_path / 'x.png', Thresholds(2.0, 0.5, median=1.0), score)
  out = output.Output(
    tmp_path, {found.source: Path('x')}, (-1, 1), False, False, normalise
  )
  assert out.write(found)[1:4] == expected


def test_a_name_may_be_as_long_as_a_file_system_takes(tmp_path):
  name = 'n' * 250
  found = predict(tmp_path / f'{name}.png')
  for place, message in ((name, None), (f'{name}.png', 'name is too long')):
    places = {found.source: Path(place)}
    out = output.Output(tmp_path / 'out', places, (-1, 1), maps=True)
    if message:
      with pytest.raises(ValueError, match=rf'{message} .* --nopictures'):
        out.write(found)
    else:
      out.write(found)


@pytest.fixture(scope='module')
def detector():
  return detectors.make(levels=(1,))


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
  assert output.limits(card) == expected


def test_good_images_are_cold_without_a_threshold(detector, tmp_path, caplog):
  """Whatever the loss's margin is, which has no meaning for some losses."""
  paths = detectors.pictures(tmp_path / 'in', 3)
  maps = [found.input_map for found in detector.predict(paths)]
  card = dataclasses.replace(
    detector.card,
    usual=(float(np.median(maps)), float(np.max(maps))),
    margin=0.0,
    cautions=('its heads have learned nothing',),
  )
  known = Detector(card, detector.weights)
  output.predict(known, paths, tmp_path / 'out')
  for path in (tmp_path / 'out/pictures').iterdir():
    red, green, blue = np.moveaxis(np.asarray(Image.open(path), int), -1, 0)
    # The hot end of the colours is the one where red alone stands out.
    assert not ((red - blue > 50) & (green - blue < 25)).any()
  assert caplog.text.count('its heads have learned nothing') == 1
