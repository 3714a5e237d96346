"""A camera of 12 bits, from the config to what is shipped."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.detection import assembly, bundle, session
from simplenet_jax.detector import Detector
from tests.detection import detectors


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
  config = detectors.make_config()
  config.data.bits = 12
  made = assembly.assemble(
    config,
    'part',
    (32, 40),
    detectors.backbone(),
    [detectors.make_head(0)],
    {},
  )
  path = tmp_path_factory.mktemp('detector') / 'part'
  made.save(path)
  return Detector.load(path)


@pytest.fixture
def paths(tmp_path):
  """The same picture as of a 12-bit camera, and in 8 bits."""
  deep = np.random.default_rng(0).integers(0, 4096, (40, 52), np.uint16)
  paths = [tmp_path / name for name in ('deep.png', 'shallow.png')]
  Image.fromarray(deep).save(paths[0])
  Image.fromarray((deep >> 4).astype(np.uint8)).save(paths[1])
  return paths


def test_a_detector_reads_them_right(detector, paths):
  assert detector.card.bits == 12
  deep, shallow = detector.predict(paths)
  assert deep.score == shallow.score
  np.testing.assert_array_equal(deep.input_map, shallow.input_map)
  [opened] = detector.predict(Image.open(paths[0]))
  assert opened.score == deep.score


def test_its_pictures_are_as_bright(detector, paths, tmp_path):
  session.predict(detector, paths, tmp_path / 'out')
  deep, shallow = (
    Image.open(tmp_path / f'out/pictures/{path.stem}.png') for path in paths
  )
  np.testing.assert_array_equal(deep, shallow)


def test_its_recipe_reads_them_right_and_refuses_more(
  detector, paths, tmp_path
):
  (tmp_path / 'recipe.py').write_text(bundle.recipe(detector.card))
  spec = importlib.util.spec_from_file_location(
    'recipe', tmp_path / 'recipe.py'
  )
  recipe = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(recipe)
  deep, shallow = (recipe.preprocess(path) for path in paths)
  np.testing.assert_array_equal(deep, shallow)
  assert deep.max() > 100
  Image.fromarray(np.full((40, 52), 4096, np.uint16)).save(paths[0])
  with pytest.raises(ValueError, match=r'deep\.png.*expected at most 12 bits'):
    recipe.preprocess(paths[0])
  with pytest.raises(ValueError, match=r'deep\.png.*expected at most 12 bits'):
    list(detector.predict(paths[0]))
