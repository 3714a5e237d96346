"""Exports run without jax: as the detector, and from files of their own."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from simplenet_runtime import Detector

import simplenet_jax
from simplenet_jax.detection import export
from tests.detection import detectors

PACKAGE = Path(simplenet_jax.__file__).parent
RUNTIME = PACKAGE.parent / 'runtime'
# What prediction must not need.
HEAVY = (
  *('jax', 'jaxlib', 'flax', 'ml_collections', 'matplotlib', 'safetensors'),
  *('simplenet_jax', 'sklearn', 'huggingface_hub', 'orbax', 'optax', 'jinja2'),
)


@pytest.fixture(scope='module')
def detector():
  made = detectors.make(crop=32)
  return made.calibrate(detectors.parts(12), 0.3)


@pytest.fixture(scope='module')
def exported(detector, tmp_path_factory):
  """Returns the folder of the detector's export."""
  folder = tmp_path_factory.mktemp('export')
  export.export(detector, 'onnx', folder)
  return folder


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """Returns a folder with the package as a wheel holds it."""
  folder = tmp_path_factory.mktemp('built')
  command = 'setup.py', '-q', 'build', '--build-base', folder / 'build'
  subprocess.run(
    [sys.executable, *command, '--build-lib', folder / 'lib'],
    check=True,
    cwd=RUNTIME,
    capture_output=True,
  )
  return folder / 'lib'


def away(built, *arguments):
  """Runs Python with the built package, as if nothing heavy was installed."""
  head = f'import sys; sys.modules |= dict.fromkeys({HEAVY})\n'
  return subprocess.run(
    [sys.executable, '-c', head + arguments[0], *map(str, arguments[1:])],
    env={**os.environ, 'PYTHONPATH': str(built)},
    cwd=built,
    capture_output=True,
    text=True,
    check=False,
  )


def test_predictions_are_the_detectors(detector, exported, tmp_path):
  mine = Detector.load(exported)
  assert repr(mine) == repr(detector)
  assert mine.thresholds == detector.thresholds
  paths = detectors.pictures(tmp_path / 'line')
  with Image.open(paths[3]) as image:
    frame = np.asarray(image)
  for given in (tmp_path / 'line', paths, [frame]):
    pairs = zip(mine.predict(given), detector.predict(given), strict=True)
    for found, expected in pairs:
      assert found.source == expected.source
      span = float(np.ptp(expected.input_map))
      assert found.score == pytest.approx(expected.score, abs=1e-4 * span)
      np.testing.assert_allclose(found.map, expected.map, atol=1e-4 * span)
      assert found.anomalous == expected.anomalous
      assert found.p_value == expected.p_value
      assert len(found.regions) == len(expected.regions)
      assert found.frame == expected.frame
      assert found.look == expected.look
  blue_first = mine(frame[..., ::-1], channels='bgr')
  assert blue_first.score == mine(frame).score
  blue_first.save(tmp_path / 'found.png')
  with Image.open(tmp_path / 'found.png') as drawn:
    assert min(drawn.size) > 500


def test_thresholds_are_set_and_misspelt_names_refused(exported):
  mine = Detector.load(exported, threads=1)
  frame = np.zeros((50, 50, 3), np.uint8)
  score = mine(frame).score
  mine.threshold, mine.pixel_threshold = score - 0.5, -1e9
  assert mine(frame).anomalous and mine(frame).mask[25, 25]
  mine.threshold = score + 0.5
  assert not mine(frame).anomalous
  for name in ('thresholdz', 'roi'):
    with pytest.raises(AttributeError, match=name):
      setattr(mine, name, None)
  with pytest.raises(ValueError, match='expected a finite number or None'):
    mine.threshold = '2'


def test_a_region_of_interest_is_the_exports(tmp_path):
  seen = np.zeros((32, 40), bool)
  seen[:, :24] = True
  made = detectors.make(levels=(1,), thresholds=True)
  made.roi = seen
  export.export(made, 'onnx', tmp_path)
  mine, frame = Detector.load(tmp_path), next(detectors.arrays(1))
  np.testing.assert_array_equal(mine.roi, made.roi)
  mine.pixel_threshold = -1e9
  assert not mine(frame).mask[:, 36:].any()
  made.roi = None
  export.export(made, 'onnx', tmp_path, overwrite=True)
  assert Detector.load(tmp_path).roi is None


@pytest.mark.parametrize('kind', ['onnx', 'openvino'])
def test_fixed_batches_and_openvino_agree(detector, exported, tmp_path, kind):
  # Not imported here, as it would then send usage data to its makers.
  if kind == 'openvino' and not importlib.util.find_spec('openvino'):
    pytest.skip('OpenVINO is absent')
  export.export(detector, kind, tmp_path, images=2)
  frames = list(detectors.arrays(3))
  mine = Detector.load(tmp_path, threads=1)
  assert mine.batch_size == 2
  for found, expected in zip(
    mine.predict(frames), Detector.load(exported).predict(frames), strict=True
  ):
    assert found.score == pytest.approx(expected.score, abs=1e-4)
    assert found.anomalous == expected.anomalous
  if kind == 'openvino':
    (tmp_path / 'model.bin').unlink()
    with pytest.raises(ValueError, match=r'cannot be run: .*bin file'):
      Detector.load(tmp_path)


def test_wrong_exports_are_refused(exported, tmp_path):
  def spoiled(name, content):
    folder = tmp_path / 'spoiled'
    shutil.copytree(exported, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(content)
    return folder

  with pytest.raises(FileNotFoundError, match=r'no such export; .*--format'):
    Detector.load(tmp_path / 'missing')
  with pytest.raises(FileNotFoundError, match=r'holds no model\.onnx or'):
    Detector.load(tmp_path)
  with pytest.raises(ValueError, match=r'cannot be run: .*export the det'):
    Detector.load(spoiled('model.onnx', b'onnx'))
  model = onnx.load(exported / 'model.onnx')
  del model.graph.output[0]
  with pytest.raises(ValueError, match=r"cannot be run: 'anomaly_map'"):
    Detector.load(spoiled('model.onnx', model.SerializeToString()))
  shutil.copy(exported / 'model.onnx', tmp_path / 'spoiled')
  with pytest.raises(ValueError, match=r'detector\.json: damaged'):
    Detector.load(spoiled('detector.json', b'{"format": '))
  told = json.loads((exported / 'detector.json').read_text())
  other = {**told, 'format': 'simplenet-jax detector 9'}
  with pytest.raises(ValueError, match=r'detector\.json: its format.*upgrade'):
    Detector.load(spoiled('detector.json', json.dumps(other).encode()))


def test_the_wheel_has_the_same_texts_and_needs_nothing_heavy(
  built, exported, detector, tmp_path
):
  placed = sorted((built / 'simplenet_runtime').rglob('*.*'))
  assert len(placed) > 20
  for path in placed:
    name = path.relative_to(built / 'simplenet_runtime')
    sources = RUNTIME / 'simplenet_runtime' / name, PACKAGE / name
    expected = next(one for one in sources if one.exists()).read_text()
    assert 'from simplenet_jax' not in path.read_text()
    assert path.read_text() == expected.replace(
      'from simplenet_jax', 'from simplenet_runtime'
    ), name
  paths = detectors.pictures(tmp_path / 'in', 3)
  program = (
    'from simplenet_runtime import Detector\n'
    'detector = Detector.load(sys.argv[1])\n'
    'for found in detector.predict(sys.argv[2]):\n'
    '  found.save(sys.argv[3])\n'
    '  print(found.score, len(found.regions), found.anomalous)\n'
  )
  drawn = tmp_path / 'drawn.png'
  done = away(built, program, exported, tmp_path / 'in', drawn)
  assert done.returncode == 0, done.stderr
  assert drawn.stat().st_size > 10_000
  for line, one in zip(
    done.stdout.splitlines(), detector.predict(paths), strict=True
  ):
    score, regions, anomalous = line.split()
    assert float(score) == pytest.approx(one.score, abs=1e-4)
    assert (int(regions), anomalous) == (len(one.regions), str(one.anomalous))


def test_the_command_leaves_what_predict_leaves(built, exported, tmp_path):
  detectors.pictures(tmp_path / 'in', 3)
  (tmp_path / 'in' / 'broken.png').write_bytes(b'no image')
  program = 'from simplenet_runtime.__main__ import main; main()'
  flags = f'--model={exported}', f'--input={tmp_path / "in"}'
  output = tmp_path / 'out'
  done = away(built, program, 'predict', *flags, f'--output={output}')
  assert done.returncode == 1
  assert done.stderr.startswith('error: 1 of 4 images could not be used; ')
  assert len(done.stderr.splitlines()) == 1
  names = {'pictures', 'predictions.csv', 'predictions.jsonl'}
  assert {path.name for path in output.iterdir()} == names
  rows = (output / 'predictions.jsonl').read_text().splitlines()
  assert [Path(json.loads(row)['path']).name for row in rows] == [
    *('0.png', '1.png', '2.png')
  ]
  done = away(built, program, 'predict', *flags, f'--output={output}')
  assert done.returncode == 1
  assert 'predictions.csv exists already; ' in done.stderr
  for output in ('--output=/dev/null/x', '--outputs=x'):
    done = away(built, program, 'predict', *flags, output)
    assert done.returncode in (1, 2)
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: ') and '--output' in line
