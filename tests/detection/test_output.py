"""Where predictions go, the table, pictures and their colours."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simplenet_jax.data.frame import Frame
from simplenet_jax.detection import output
from simplenet_jax.detection.thresholds import (
  GoodImage,
  Prediction,
  Thresholds,
)
from tests.data.serving import contents


@pytest.mark.parametrize(
  ('names', 'expected'),
  [
    (
      # MVTec's folders are kept wherever they lie.
      ['/a/bottle/test/good/0.png', '/a/cable/test/cut/1.png'],
      ['bottle/test/good/0', 'cable/test/cut/1'],
    ),
    (['/data/bottle/test/good/000.png'], ['bottle/test/good/000']),
    (['/a/in/1/x.png', '/a/in/2/x.png', '/a/in/y.tif'], ['1/x', '2/x', 'y']),
    (['/x.png', '/y.png'], ['x', 'y']),
    (['/test/good/x.png'], ['x']),
    # Names that differ by their suffix keep it.
    (['/a/x.png', '/a/x.jpg', '/a/y.png'], ['x.png', 'x.jpg', 'y']),
    (['/a/x.1.png', '/a/x.2.png'], ['x.1', 'x.2']),
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


@given(st.lists(st.tuples(FOLDERS, NAMES), min_size=1, unique_by=str))
def test_no_two_files_share_a_place(names):
  paths = [Path('/', *folders, name) for folders, name in names]
  found = output.places(paths)
  assert list(found) == paths
  assert len(set(found.values())) == len(paths)
  for path, place in found.items():
    assert not place.is_absolute()
    assert '..' not in place.parts
    assert path.name.startswith(place.name)


def predict(path, thresholds=Thresholds(), score=1.5):  # noqa: B008
  image = Image.fromarray(np.full((40, 80, 3), 128, np.uint8))
  frame = Frame.of((40, 80), 40, 32)
  grid = np.linspace(-1, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
  return Prediction(path, score, thresholds, frame, grid, 0.25, image)


def test_a_prediction_leaves_a_picture_and_a_map(tmp_path):
  found = predict(tmp_path / 'x.png')
  place = Path('line.1/x.2')
  output.write_images(found, tmp_path, place, maps=True, normalise=False)
  names = ['maps/line.1/x.2.tiff', 'pictures/line.1/x.2.jpg']
  assert sorted(contents(tmp_path)) == names
  heat = np.asarray(Image.open(tmp_path / names[0]))
  assert heat.dtype == np.float32
  # MVTec's evaluator sorts all pixels: the unseen ones are the least anomalous.
  expected = np.nan_to_num(found.map, nan=float(found.input_map.min()))
  np.testing.assert_array_equal(heat, expected)


@pytest.mark.parametrize(
  ('limit', 'score', 'normalise', 'expected'),
  [
    (2.0, 2.0, False, ('2', '2', 'normal')),
    (2.0, 2.25, False, ('2.25', '2', 'anomalous')),
    (2.0, 2.25, True, ('1.25', '1', 'anomalous')),
    (2.0, 1.0, True, ('0', '1', 'normal')),
    (2.0, 1 / 3, False, ('0.3333333', '2', 'normal')),
    (None, 1.5, False, ('1.5', '', '')),
  ],
)
def test_the_verdict_fits_the_threshold(limit, score, normalise, expected):
  path = Path('=1+1.png')  # No name is a formula.
  found = predict(path, Thresholds(limit, 0.5, median=1.0), score)
  row = output.result(found)
  cells = output.table_cells(row, normalise)
  (region,) = found.regions  # The lower quarter of the map.
  assert cells == ('./=1+1.png', *expected, '', '0.250000', 1, *region.box)
  assert (row['path'], row['score']) == ('=1+1.png', score)
  assert json.loads(json.dumps(row))['threshold'] == limit
  good = tuple(GoodImage('', float(one), 0.0) for one in range(3))
  found = predict(path, Thresholds(limit, 0.5, median=1.0, good=good), score)
  p_value = (1 + sum(one.score >= score for one in good)) / 4
  row = output.result(found)
  assert row['p_value'] == found.p_value == p_value
  assert output.table_cells(row, normalise)[4] == f'{p_value:.4g}'
