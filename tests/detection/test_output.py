"""Where predictions go, and the table."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simplenet_jax.data.frame import Frame
from simplenet_jax.detection import output
from simplenet_jax.detection.prediction import Prediction
from simplenet_jax.detection.thresholds import NONE, Thresholds


def placed(*names):
  """Returns what becomes of some paths, as texts."""
  found = output.places([Path(name) for name in names])
  assert list(found) == [Path(name) for name in names]
  return [place.as_posix() for place in found.values()]


def test_mvtecs_folders_are_kept_wherever_they_lie():
  assert placed(
    '/data/mvtec/bottle/test/good/000.png',
    '/data/mvtec/bottle/test/broken_large/000.png',
    '/data/mvtec/cable/test/good/001.png',
  ) == [
    'bottle/test/good/000',
    'bottle/test/broken_large/000',
    'cable/test/good/001',
  ]
  assert placed('/data/bottle/test/good/000.png') == ['bottle/test/good/000']


def test_a_relative_path_knows_its_category(tmp_path, monkeypatch):
  (tmp_path / 'bottle/test').mkdir(parents=True)
  monkeypatch.chdir(tmp_path / 'bottle/test')
  assert placed('good/000.png') == ['bottle/test/good/000']


def test_other_files_keep_the_folders_below_their_common_one():
  assert placed('/a/line/1/x.png', '/a/line/2/x.png', '/a/line/y.tif') == [
    '1/x',
    '2/x',
    'y',
  ]
  assert placed('/a/line/x.png') == ['x']
  assert placed('/x.png', '/y.png') == ['x', 'y']
  assert placed('/test/good/x.png') == ['x']


def test_names_that_differ_by_their_suffix_keep_it():
  assert placed('/a/x.png', '/a/x.jpg', '/a/y.png') == ['x.png', 'x.jpg', 'y']
  assert placed('/b/test/d/0.png', '/b/test/d/0.bmp') == [
    'b/test/d/0.png',
    'b/test/d/0.bmp',
  ]
  assert placed('/a/x.1.png', '/a/x.2.png') == ['x.1', 'x.2']
  # Without its suffix the last one would be named as the first.
  assert placed('/a/x.png', '/a/x.jpg', '/a/x.png.png') == [
    'x.png',
    'x.jpg',
    'x.png.png',
  ]


def test_equal_names_of_two_data_sets_stay_two():
  assert placed(
    '/old/bottle/test/good/0.png', '/new/bottle/test/good/0.png'
  ) == ['old/bottle/test/good/0', 'new/bottle/test/good/0']


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
NASTY = [
  'a, "b".png',
  'line\nbreak.png',
  'ä 日本.png',
  'cr\rlf\n.png',
  ' .png',
  '=1',
]


def rows(count=3):
  return [
    (Path(f'{i}.png'), f'{i}', '1.5', 'normal', '0.1') for i in range(count)
  ]


def read(folder):
  with (folder / output.TABLE).open(newline='', encoding='utf-8') as file:
    return list(csv.reader(file))


def test_rows_are_written_as_they_come(tmp_path):
  assert list(output.write_table(tmp_path / 'new', rows())) == rows()
  content = (tmp_path / 'new/predictions.csv').read_bytes()
  assert content == HEADER + b''.join(
    b'%d.png,%d,1.5,normal,0.1\n' % (i, i) for i in range(3)
  )
  assert [path.name for path in (tmp_path / 'new').iterdir()] == [output.TABLE]


def test_no_rows_leave_the_header(tmp_path):
  assert list(output.write_table(tmp_path, [])) == []
  assert (tmp_path / output.TABLE).read_bytes() == HEADER


def test_any_name_comes_back(tmp_path):
  given_rows = [(Path('f') / name, '1', '', '', '0') for name in NASTY]
  list(output.write_table(tmp_path, given_rows))
  assert [row[0] for row in read(tmp_path)[1:]] == [f'f/{n}' for n in NASTY]


def test_a_name_that_is_no_text_keeps_its_bytes(tmp_path):
  name = Path(os.fsdecode(b'caf\xe9.png'))
  list(output.write_table(tmp_path, [(name, '1', '', '', '0')]))
  content = (tmp_path / output.TABLE).read_bytes()
  assert content == HEADER + b'caf\xe9.png,1,,,0\n'


def test_closing_early_leaves_the_rows_so_far(tmp_path):
  table = output.write_table(tmp_path, rows(9))
  assert [next(table), next(table)] == rows(2)
  assert not (tmp_path / output.TABLE).exists()
  table.close()
  assert len(read(tmp_path)) == 1 + 2
  assert [path.name for path in tmp_path.iterdir()] == [output.TABLE]


@pytest.mark.parametrize('error', [OSError('disk'), KeyboardInterrupt()])
def test_an_error_leaves_a_table_of_what_came(tmp_path, error):
  def failing():
    yield from rows(2)
    raise error

  with pytest.raises(type(error)):
    list(output.write_table(tmp_path, failing()))
  assert len(read(tmp_path)) == 1 + 2
  assert [path.name for path in tmp_path.iterdir()] == [output.TABLE]


# Pictures and maps.


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
  with Image.open(left[0]) as tiff:
    assert tiff.info['compression'] == 'tiff_adobe_deflate'
    heat = np.asarray(tiff)
  assert heat.dtype == np.float32
  # MVTec's evaluator sorts all pixels: the unseen ones are the least anomalous.
  expected = np.nan_to_num(found.map, nan=float(found.input_map.min()))
  np.testing.assert_array_equal(heat, expected)
  assert np.isfinite(heat).all()
  assert np.asarray(Image.open(left[1])).shape == (40, 80, 3)


@pytest.mark.parametrize('name', ['=1+1.png', '+1.png', '-1.png', '@x.png'])
def test_no_name_is_a_formula(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  found = predict(Path(name))
  out = output.Output(tmp_path / 'out', {found.source: Path('x')}, (-1, 1))
  path, *_ = out.write(found)
  assert str(path) == f'./{name}'
  assert Path(path) == found.source


def test_nothing_is_left_that_is_not_asked_for(tmp_path):
  found = predict(tmp_path / 'x.png')
  out = output.Output(
    tmp_path / 'out', {found.source: Path('x')}, (-1, 1), False
  )
  out.write(found)
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  ('score', 'normalise', 'expected'),
  [
    (1.5, False, ('1.5', '2', 'normal')),
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
  out = output.Output(
    tmp_path / 'out', {found.source: Path(name)}, (-1, 1), maps=True
  )
  out.write(found)
  assert (tmp_path / 'out/maps' / f'{name}.tiff').exists()
  longer = output.Output(
    tmp_path / 'out', {found.source: Path(name + '.png')}, (-1, 1)
  )
  with pytest.raises(ValueError, match=r'name is too long .* --nopictures'):
    longer.write(found)
