"""Exported folders: compared before they are written, and complete."""

import dataclasses
import json
import re
import textwrap
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import pytest

from simplenet_jax.detection import export, onnx_nearest
from simplenet_jax.detection.export import FORMATS, Format
from simplenet_jax.detector import Detector
from tests import commands
from tests.detection import detectors

SIZE = (32, 40)
HAS_OPENVINO = find_spec('openvino') is not None
ABSENT = pytest.mark.skipif(not HAS_OPENVINO, reason='OpenVINO is absent')
KINDS = ['stablehlo', 'onnx', pytest.param('openvino', marks=ABSENT)]
ROOT = Path(export.__file__).parents[2]


@pytest.fixture(scope='module')
def detector():
  return detectors.make(crop=32, thresholds=True)


@pytest.fixture(scope='module')
def two_heads():
  # Its second layers compile in a quarter of the time of a CPU's own way.
  return detectors.as_on_accelerators(detectors.make(heads=2, adaptor='mlp'))


@pytest.fixture(scope='module')
def models(two_heads):
  return {
    kind: form.build(two_heads, 0)
    for kind, form in FORMATS.items()
    if kind != 'openvino' or HAS_OPENVINO
  }


@pytest.mark.parametrize('kind', KINDS)
def test_formats_agree_and_hold_no_folder_of_the_machine(
  two_heads, models, kind
):
  run = FORMATS[kind].run(models[kind])
  assert export.compare(two_heads, run) <= export.TOLERANCE
  pixels = np.zeros((2, *SIZE, 3), np.uint8)
  types = [np.asarray(value).dtype.char for value in run(pixels)]
  assert ''.join(types) == ('ff' if kind == 'stablehlo' else 'ff??f')
  for folder in (ROOT, Path(np.__file__).parents[1]):
    for content in models[kind].values():
      assert str(folder).encode() not in content


def test_the_signature_of_stablehlo(models):
  exported = jax.export.deserialize(bytearray(*models['stablehlo'].values()))
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
  (pixels,), (maps, scores) = exported.in_avals, exported.out_avals
  images = pixels.shape[0]
  assert not isinstance(images, int)  # Any number of them.
  assert (pixels.shape, pixels.dtype) == ((images, *SIZE, 3), np.uint8)
  assert (maps.shape, scores.shape) == ((images, *SIZE), (images,))


def test_the_signature_of_onnx_and_its_card(models, two_heads):
  session = onnxruntime.InferenceSession(*models['onnx'].values())
  (pixels,) = session.get_inputs()
  assert (pixels.name, pixels.type) == ('pixels', 'tensor(uint8)')
  images, *rest = pixels.shape
  assert isinstance(images, str)  # Any number of them.
  assert rest == [*SIZE, 3]
  assert [(one.name, one.shape) for one in session.get_outputs()] == [
    ('anomaly_map', [images, *SIZE]),
    ('score', [images]),
    ('anomalous', [images]),
    ('mask', [images, *SIZE]),
    ('normalised_score', [images]),
  ]
  told = session.get_modelmeta().custom_metadata_map['detector']
  assert told == two_heads.card.to_json()


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
  'padding', ['zeros', pytest.param('reflect', marks=pytest.mark.slow)]
)
def test_the_backbone_in_the_box_is_exported(kind, padding):
  made = detectors.make(padding=padding, architecture=detectors.LITE0)
  form = FORMATS[kind]
  run = form.run(form.build(made, 0))
  assert export.compare(made, run) <= export.TOLERANCE


@pytest.mark.parametrize('kind', KINDS)
def test_distances_are_exported(tmp_path, monkeypatch, kind):
  monkeypatch.setattr(onnx_nearest, '_SLAB', 7)  # The last of them is smaller.
  made = detectors.make(bank=20, score='map')
  assert export.export(made, kind, tmp_path) <= export.TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('padding', ['zeros', 'reflect'])
@pytest.mark.parametrize('adaptor', ['linear', 'mlp', 'identity'])
def test_every_kind_can_be_exported(tmp_path, kind, padding, adaptor):
  made = detectors.make(crop=48, padding=padding, adaptor=adaptor, heads=3)
  assert export.export(made, kind, tmp_path) <= export.TOLERANCE


@pytest.mark.parametrize('kind', ['stablehlo', 'onnx'])
def test_the_guides_programs_need_no_more_than_the_command_leaves(
  detector, tmp_path, monkeypatch, kind
):
  detector.save(tmp_path / 'part')
  folder = tmp_path / 'out'
  flags = f'--detector={tmp_path / "part"}', f'--format={kind}'
  done = commands.run('export', *flags, f'--output={folder}')
  assert done.status == 0, done.errors
  names = {'detector.json', f'model.{kind}', 'preprocess.py'}
  assert {path.name for path in folder.iterdir()} == names
  lines = done.told.splitlines()
  assert lines[0] == f'Exports part as {kind} to {folder}/'
  differs = f"  model.{kind}: its scores differ from the detector's by "
  assert float(lines[1].removeprefix(differs).split()[0]) <= 1e-5
  assert lines[2].startswith('  detector.json: threshold ')
  told = json.loads((folder / 'detector.json').read_text())
  assert told == json.loads(detector.card.to_json())
  paths = detectors.pictures(tmp_path / 'in', 3)
  guide = (ROOT / 'docs/export.md').read_text()
  (program,) = re.findall(
    rf'```python\n([^`]*preprocess\n[^`]*model.{kind}[^`]*)```', guide
  )
  program = program.replace("'part.png'", 'path') + 'print(float(scores[0]))\n'
  others = {'onnx': ['jax', 'scipy', 'absl'], 'stablehlo': ['flax', 'absl']}
  gone = dict.fromkeys(['simplenet_jax', *others[kind]])
  head = f'import sys\nsys.modules |= {gone}\nfor path in sys.argv[1:]:\n'
  monkeypatch.chdir(folder)
  done = commands.python('-c', head + textwrap.indent(program, '  '), *paths)
  assert done.returncode == 0, done.stderr
  scores = [float(line) for line in done.stdout.split()]
  for score, one in zip(scores, detector.predict(paths), strict=True):
    assert score == pytest.approx(one.score, abs=1e-5)
    assert (score > told['thresholds']['image']) == one.anomalous


@pytest.mark.parametrize('kind', KINDS)
def test_a_fixed_batch_takes_no_other_number(detector, tmp_path, kind):
  export.export(detector, kind, tmp_path, images=2)
  form = FORMATS[kind]
  files = {p.name: p.read_bytes() for p in tmp_path.glob('model.*')}
  run, pixels = form.run(files), np.zeros((3, *detector.size, 3), np.uint8)
  assert len(run(pixels[:2])[1]) == 2
  with pytest.raises(Exception, match=r'(?i)shape|dimension|expected'):
    run(pixels)


def test_the_graph_judges_as_the_detector_does(detector):
  numbers = np.random.default_rng(0)
  pixels = numbers.integers(0, 256, (4, *detector.size, 3), np.uint8)
  pixels[1:] //= np.array([[2], [4], [16]], np.uint8)[..., None, None]
  made = Detector(detector.card, detector.weights)
  made.roi = np.arange(32 * 32).reshape(32, 32) % 32 > 11
  maps, scores = made.infer(pixels)
  # A score that is the threshold's is none beyond it, also not in float32.
  made.threshold = float(np.sort(scores)[1]) + 1e-12
  made.pixel_threshold = float(np.median(maps))
  made.thresholds = dataclasses.replace(made.thresholds, median=-20.0)
  run = export.run_onnx(export.to_onnx(made))
  maps, scores, anomalous, mask, normalised = run(pixels)
  assert anomalous.tolist() == (scores > made.threshold).tolist()
  assert 0 < anomalous.sum() < 4
  assert (mask == ((maps > made.pixel_threshold) & made.roi)).all()
  known = [made.thresholds.normalised(one) for one in scores]
  np.testing.assert_allclose(normalised, known, rtol=1e-4, atol=1e-4)
  made.thresholds = dataclasses.replace(
    made.thresholds, image=None, pixel=None, median=None
  )
  *_, anomalous, mask, normalised = export.run_onnx(export.to_onnx(made))(
    pixels
  )
  assert not anomalous.any()
  assert not mask.any()
  assert np.isnan(normalised).all()


def test_limits_in_a_model_can_be_overwritten(tmp_path, detector):
  export.export(detector, 'onnx', tmp_path)
  path, pixels = tmp_path / 'model.onnx', np.zeros((1, 32, 32, 3), np.uint8)
  guide = (ROOT / 'docs/export.md').read_text()
  (program,) = re.findall(r'```python\n(import onnx\n.*?)```', guide, re.S)
  session = onnxruntime.InferenceSession(path)
  score = session.run(['score'], {'pixels': pixels})[0][0]
  for limit in (score - 1, score + 1):
    given = {'pixels': pixels, 'threshold': np.array(limit, np.float32)}
    assert session.run(['anomalous'], given)[0][0] == (score > limit)
    text = program.replace('2.1', str(limit)).replace('model.onnx', str(path))
    exec(text, {})
    changed = onnxruntime.InferenceSession(path)
    assert changed.run(['anomalous'], {'pixels': pixels})[0] == (score > limit)


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
  files = {f'model.{name}': b'model'}
  made = Format((f'model.{name}',), lambda *_: files, lambda _: run)
  monkeypatch.setitem(FORMATS, name, made)


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


def test_packages_that_are_missing_or_do_not_fit_are_told(
  detector, tmp_path, monkeypatch
):
  def build(*_):
    raise ImportError("cannot import name 'core' from 'jax'")

  monkeypatch.setitem(FORMATS, 'onnx', FORMATS['onnx']._replace(build=build))
  with pytest.raises(ValueError, match=r"onnx needs .*'\.\[onnx\]' .*'core'"):
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
  with pytest.raises(ValueError, match=r'model\.x exists already.*overwrite'):
    export.export(detector, 'x', tmp_path)
  (tmp_path / 'model.x').unlink()
  with pytest.raises(ValueError, match=r'detector\.json exists already'):
    export.export(other, 'x', tmp_path)
  export.export(other, 'x', tmp_path, overwrite=True)
  # The model of the detector that was there would be taken for the new one's.
  names = {'detector.json', 'model.x', 'notes.txt', 'preprocess.py'}
  assert {path.name for path in tmp_path.iterdir()} == names


def test_a_card_is_never_beside_another_detectors_model(
  detector, tmp_path, monkeypatch
):
  fake(monkeypatch, detector.infer)
  export.export(detector, 'x', tmp_path)
  other = dataclasses.replace(detector.card, name='other')
  other, written = Detector(other, detector.weights), export.atomic_write

  def full(path):
    if path.name == 'preprocess.py':
      raise OSError('No space left on device')
    return written(path)

  with monkeypatch.context() as patch, pytest.raises(OSError, match='No space'):
    patch.setattr(export, 'atomic_write', full)
    export.export(other, 'x', tmp_path, overwrite=True)
  assert [path.name for path in tmp_path.iterdir()] == ['model.x']
  # A model that no card tells of is no export's, and is not left beside one.
  fake(monkeypatch, detector.infer, 'y')
  with pytest.raises(ValueError, match=r'model\.x exists already'):
    export.export(detector, 'y', tmp_path)
