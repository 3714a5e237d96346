"""The examples, and training from Python, as users start them."""

import doctest
import inspect
import pathlib
import runpy
import shutil
import sys
import types

import numpy as np
import pytest
from PIL import Image

from simplenet_jax import Detector
from tests import commands
from tests.detection import detectors
from tests.small import SMALL, make_categories, make_category

ROOT = pathlib.Path(__file__).parents[1]


def test_the_camera_loop_runs_on_a_folder(tmp_path, capsys, monkeypatch):
  detectors.make(thresholds=True).save(tmp_path / 'part')
  detectors.pictures(tmp_path / 'line', 4)
  main = runpy.run_path(str(ROOT / 'examples/camera.py'))['main']
  main(tmp_path / 'part', tmp_path / 'line')
  told = capsys.readouterr().out
  assert told.startswith('<Prediction 0.png: ')
  assert told.count('<Prediction') == 4
  assert ' pixels at x = ' in told
  frame = np.asarray(Image.open(tmp_path / 'line/0.png'))[..., ::-1]
  reads = iter([(True, frame), (False, None)])
  camera = types.SimpleNamespace(read=lambda: next(reads))
  cv2 = types.SimpleNamespace(VideoCapture=lambda number: camera)
  monkeypatch.setitem(sys.modules, 'cv2', cv2)
  main(tmp_path / 'part')
  first = told.splitlines()[0].replace('0.png', 'image 0')
  assert capsys.readouterr().out.startswith(first)
  monkeypatch.setitem(sys.modules, 'cv2', None)  # As if it were not there.
  with pytest.raises(SystemExit, match='pip install opencv'):
    main(tmp_path / 'part')


def test_the_examples_of_docstrings_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  detectors.make(thresholds=True).save('runs/parts/detectors/parts')
  detectors.pictures(tmp_path, 1)[0].rename('part.png')
  texts = (
    inspect.getdoc(Detector),
    *map(inspect.getdoc, vars(Detector).values()),
  )
  shown = doctest.DocTestParser().get_examples('\n'.join(filter(None, texts)))
  assert len(shown) == 4
  known = {'Detector': Detector}
  for one in shown:  # Their values are those of other parts.
    exec(one.source, known)
  assert known['found'].source.name == 'part.png'


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
  path = tmp_path / 'first_hour.ipynb'
  shutil.copy(ROOT / 'examples' / path.name, path)
  run = 'from nbclient.cli import main; main()'
  done = commands.python('-c', run, '--inplace', str(path))
  assert done.returncode == 0, done.stderr
  text = path.read_text()
  assert '<Prediction 000.png: NOT OK ' in text
  assert 'set by hand' in text


def test_training_from_python(tmp_path, backbone, monkeypatch):
  monkeypatch.chdir(tmp_path)
  make_category(pathlib.Path('gear'))
  settings = {**SMALL, 'nearest.size': 20, 'backbone.weights': str(backbone)}
  settings |= {'engine.tensorboard': False, 'data.categories': ['gear']}
  given = {'config': 'folder:nearest', 'workdir': 'run', 'settings': settings}
  detector = Detector.train('.', **given)
  assert detector.card.name == 'gear'
  assert detector.threshold is not None
  assert detector.workdir == tmp_path / 'run'
  last = detector.results['categories']['gear']['last']
  assert 0 <= last['image_auroc']['mean'] <= 1
  assert (tmp_path / 'run/report.html').exists()
  assert detector('gear/test/spot/0.png').source.name == '0.png'
  # A finished run is taken as it is; one of other settings is refused.
  assert Detector.train('.', **given).card == detector.card
  settings['data.resize'] = 48
  with pytest.raises(ValueError, match=r'data\.resize'):
    Detector.train('.', **given)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'data.resiz': 32}, r'no --config\.data\.resiz; did you mean .*\.resize'),
    ({'data.resize': -1}, r'data\.resize is -1, expected'),
    ({}, 'holds several categories: bolt, gear; choose one by the set'),
  ],
)
def test_what_cannot_be_trained_leaves_nothing(
  tmp_path, settings, message, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  make_categories(tmp_path / 'parts', {'bolt': 3, 'gear': 3})
  with pytest.raises(ValueError, match=message):
    Detector.train('parts', settings=settings)
  assert not list(tmp_path.glob('runs/*'))
