"""Exported folders: compared before they are written, and complete."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import pytest

from simplenet_jax.detection import export
from simplenet_jax.detection.export import FORMATS
from simplenet_jax.detector import Detector
from tests import commands
from tests.detection import detectors

SIZE = (32, 40)


@pytest.fixture(scope='module')
def detector():
  return detectors.make(crop=32, thresholds=True)


@pytest.fixture(scope='module')
def two_heads():
  # On accelerators second layers are groups of one convolution, which compiles
  # in a quarter of the time that a CPU's own way takes.
  return detectors.as_on_accelerators(detectors.make(heads=2, adaptor='mlp'))


# A fast run converts once to each: jax2onnx takes ten seconds at its first use.
@pytest.fixture(scope='module')
def stablehlo(two_heads):
  return export.to_stablehlo(two_heads)


@pytest.fixture(scope='module')
def onnx(two_heads):
  return export.to_onnx(two_heads)


@pytest.mark.parametrize('kind', ['stablehlo', 'onnx'])
def test_formats_agree_and_hold_no_folder_of_the_machine(
  two_heads, kind, request
):
  model = request.getfixturevalue(kind)
  run = FORMATS[kind][1](model)
  assert export.compare(two_heads, run) <= export.TOLERANCE
  pixels = np.zeros((2, *SIZE, 3), np.uint8)
  assert {np.asarray(value).dtype for value in run(pixels)} == {np.dtype('f')}
  for folder in (
    Path(export.__file__).parents[2],
    Path(np.__file__).parents[1],
  ):
    assert str(folder).encode() not in model


def test_the_signature_of_stablehlo(stablehlo):
  exported = jax.export.deserialize(bytearray(stablehlo))
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
  (pixels,), (maps, scores) = exported.in_avals, exported.out_avals
  images = pixels.shape[0]
  assert not isinstance(images, int)  # Any number of them.
  assert (pixels.shape, pixels.dtype) == ((images, *SIZE, 3), np.uint8)
  assert (maps.shape, scores.shape) == ((images, *SIZE), (images,))


def test_the_signature_of_onnx_and_its_card(onnx, two_heads):
  session = onnxruntime.InferenceSession(onnx)
  (pixels,) = session.get_inputs()
  assert (pixels.name, pixels.type) == ('pixels', 'tensor(uint8)')
  images, *rest = pixels.shape
  assert isinstance(images, str)  # Any number of them.
  assert rest == [*SIZE, 3]
  maps, scores = session.get_outputs()
  assert (maps.name, maps.shape) == ('anomaly_map', [images, *SIZE])
  assert (scores.name, scores.shape) == ('score', [images])
  told = session.get_modelmeta().custom_metadata_map['detector']
  assert told == two_heads.card.to_json()


def test_the_command_leaves_all_that_verdicts_need(detector, tmp_path):
  """As README.md tells, but in this process."""
  detector.save(tmp_path / 'part')
  folder = tmp_path / 'out'
  done = commands.run(
    'export', f'--detector={tmp_path / "part"}', f'--output={folder}'
  )
  assert done.status == 0, done.errors
  names = {'detector.json', 'model.stablehlo', 'preprocess.py'}
  assert {path.name for path in folder.iterdir()} == names
  lines = done.told.splitlines()
  assert lines[0] == f'Exports part as stablehlo to {folder}/'
  assert 'threshold ' in lines[1]
  assert float(lines[2].removeprefix('  equals the detector to ')[:7]) <= 1e-5
  told = json.loads((folder / 'detector.json').read_text())
  assert told == json.loads(detector.card.to_json())
  run = FORMATS['stablehlo'][1]((folder / 'model.stablehlo').read_bytes())
  recipe = {}
  exec((folder / 'preprocess.py').read_text(), recipe)
  for one in detector.predict(detectors.pictures(tmp_path / 'in', 3)):
    maps, scores = run(recipe['preprocess'](one.source))
    np.testing.assert_allclose(maps[0], one.input_map, atol=1e-5)
    assert float(scores[0]) == pytest.approx(one.score, abs=1e-5)
    verdict = float(scores[0]) > told['thresholds']['image']
    assert verdict == one.anomalous


def one_pixel(maps, scores, pixels):
  maps = maps.copy()
  maps[-1, -1, -1] += 2e-4 * np.ptp(maps)
  return maps, scores


WRONG = {
  'scaled': lambda maps, scores, _: (maps, scores + 1e-3 * np.ptp(maps)),
  'one pixel': one_pixel,
  'alone': lambda maps, scores, p: (maps, scores * (1.01 - 0.01 * len(p) / 3)),
  'in company': lambda maps, scores, _: (maps, scores[::-1]),
  'not finite': lambda maps, scores, _: (maps, scores * np.nan),
}


def fake(monkeypatch, run, name='x'):
  """Adds a format whose model computes what is given."""
  monkeypatch.setitem(FORMATS, name, (lambda _: b'model', lambda _: run))


@pytest.mark.parametrize('kind', WRONG)
def test_a_wrong_model_is_found_out_and_nothing_written(
  detector, tmp_path, monkeypatch, kind
):
  def run(pixels):
    return WRONG[kind](*detector.infer(pixels), pixels)

  fake(monkeypatch, run)
  with pytest.raises(ValueError, match=r'differs from the detector.*nothing'):
    export.export(detector, 'x', tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('package', ['jax2onnx', 'onnxruntime'])
def test_missing_packages_are_named(detector, tmp_path, monkeypatch, package):
  monkeypatch.setitem(sys.modules, package, None)  # Its import fails.
  if package == 'onnxruntime':
    run = FORMATS['onnx'][1]
    monkeypatch.setitem(FORMATS, 'onnx', (lambda _: b'model', run))
  with pytest.raises(ValueError, match=rf"'simplenet-jax\[onnx\]'.*{package}"):
    export.export(detector, 'onnx', tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_one_folder_holds_one_detector(detector, tmp_path, monkeypatch):
  for name in ('x', 'y'):
    fake(monkeypatch, detector.infer, name)
  (tmp_path / 'notes.txt').write_text('mine')
  assert export.export(detector, 'x', tmp_path) == 0
  export.export(detector, 'y', tmp_path)  # The same one in another format.
  assert len(list(tmp_path.iterdir())) == 5
  other = dataclasses.replace(detector.card, name='other')
  other = Detector(other, detector.weights)
  with pytest.raises(ValueError, match=r'model\.x is there already.*overwrite'):
    export.export(detector, 'x', tmp_path)
  (tmp_path / 'model.x').unlink()
  with pytest.raises(ValueError, match=r'detector\.json is there already'):
    export.export(other, 'x', tmp_path)
  export.export(other, 'x', tmp_path, overwrite=True)
  # The model of the detector that was there would be taken for the new one's.
  names = {'detector.json', 'model.x', 'notes.txt', 'preprocess.py'}
  assert {path.name for path in tmp_path.iterdir()} == names
