"""Exports in int8 and float16: proven, with thresholds of their own."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image

from simplenet_jax.data import images
from simplenet_jax.detection import (
  assembly,
  conversion,
  engines,
  export,
  inputs,
  onnx_graph,
  onnx_nearest,
  quantise,
  rounding,
)
from simplenet_jax.detector import Detector
from simplenet_jax.models import simplenet
from tests import commands
from tests.detection import detectors
from tests.detection.test_export import KINDS
from tests.small import make_categories, make_config
from tests.test_train import run

KINDS = KINDS[1:]  # StableHLO has float32 alone.


@pytest.fixture(scope='module')
def good(tmp_path_factory):
  folder = tmp_path_factory.mktemp('good')
  for index, pixels in enumerate(detectors.parts(12, (32, 40))):
    Image.fromarray(pixels).save(folder / f'{index:02}.png')
  return sorted(folder.iterdir())


@pytest.fixture(scope='module')
def detector(good):
  made = detectors.make(heads=2, bank=40)
  return made.calibrate(good, 0.1)


def exported(detector, good, folder, kind='onnx', precision='int8', test=()):
  given = quantise.Images([(detector, good)], 'new images', test=test)
  return conversion.export_rounded(
    detector, kind, folder, precision, given, allowed=0.1
  )


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('precision', ['int8', 'float16'])
def test_a_rounded_model_judges_as_its_report_says(
  detector, good, tmp_path, kind, precision
):
  report = exported(detector, good, tmp_path, kind, precision)
  names = {path.name for path in tmp_path.iterdir()}
  assert {'conversion.json', 'conversion.md', 'conversion.png'} < names
  assert json.loads((tmp_path / 'conversion.json').read_text()) == report
  assert report['bytes']['rounded'] < 0.75 * report['bytes']['float32']
  counts = report['images']
  part = 6 if precision == 'int8' else 0
  assert counts['calibrate_the_rounding'] == part
  assert counts['set_the_thresholds'] == 12 - part
  card = json.loads((tmp_path / 'detector.json').read_text())
  assert card['precision'] == precision
  limits = card['thresholds']
  assert limits['image'] == report['thresholds']['after']['image']
  assert limits['images'] == 12
  load, name = engines.load_onnx, 'model.onnx'
  if kind == 'openvino':
    load, name = engines.load_openvino, 'model.xml'
  model = load(tmp_path / name)
  scores = {one['name']: one for one in map(_named, limits['good'])}
  for file in good:
    (one,) = inputs.ready(file, 8, detector.card.frame)
    found = model.run(one.pixels[None])
    known = scores['/'.join(file.parts[-2:])]['score']
    assert found['score'][0] == pytest.approx(known, abs=2e-3)
  # Half of the images calibrated the rounding: they set no limit.
  known = detector.score_good(good)
  own = quantise._lowest([one.name for one in known], known)
  assert not {*own} & {name for name, _ in limits['limiting_images']}


def _named(values):
  return dict(zip(('name', 'score', 'peak', 'look'), values, strict=True))


def ruined(detector, *names):
  """Returns the same detector for float32, not for 256 levels of values."""
  weights = dict(detector.weights)
  for name in names:
    for leaf in ('1.kernel', '1.bias'):
      weights[f'{name}{leaf}'] = weights[f'{name}{leaf}'].copy()
      weights[f'{name}{leaf}'][..., 0] *= 4096
    weights[f'{name}2.kernel'] = weights[f'{name}2.kernel'].copy()
    weights[f'{name}2.kernel'][:, :, 0] /= 4096
  return Detector(detector.card, weights)


def test_a_layer_that_rounding_ruins_stays_in_float(detector, good, tmp_path):
  found = exported(ruined(detector, 'layer2.0.conv'), good, tmp_path)['layers']
  assert 'layer2.0.conv2' in found['float32']
  assert max(found['harm'], key=found['harm'].get) == 'layer2.0.conv2'
  assert 'layer3.0.conv2' in found['int8']


def test_a_model_that_rounds_badly_is_refused(
  detector, good, tmp_path, monkeypatch
):
  monkeypatch.setattr(quantise, '_NOISE', (1e9,))  # Every layer is rounded.
  names = [f'layer{i}.{j}.conv' for i in (1, 2, 3) for j in (0, 1)]
  bad = detectors.pictures(tmp_path / 'bad', 12)
  assert sum(one.anomalous for one in detector.predict(bad)) > 6
  with pytest.raises(
    ValueError, match=r'part cannot be exported in int8.*noth'
  ):
    exported(ruined(detector, *names), good, tmp_path / 'out', test=bad)
  assert not (tmp_path / 'out').exists()


def test_what_calibrates_the_rounding_sets_no_limit(
  detector, good, tmp_path, monkeypatch
):
  monkeypatch.setattr(quantise, '_lowest', lambda files, _: files[1:])
  with pytest.raises(ValueError, match='calibrated the rounding would set the'):
    exported(detector, good, tmp_path / 'out')


def test_too_few_good_images_are_refused(detector, good, tmp_path):
  with pytest.raises(ValueError, match=r'new images: 3 good images; four'):
    exported(detector, good[:3], tmp_path)


def test_a_threshold_set_by_hand_stays(detector, good, tmp_path):
  made = Detector(detector.card, detector.weights)
  made.threshold = 123.0
  report = exported(made, good, tmp_path, precision='float16')
  assert report['thresholds']['after']['image'] == 123.0
  told = (tmp_path / 'conversion.md').read_text()
  assert 'It was set by hand, and stays. 12 good images are compared.' in told


@pytest.mark.parametrize('milliseconds', [(9.0, 17.25), (27.0, 17.25)])
def test_int8_that_is_no_faster_is_told(
  detector, good, tmp_path, monkeypatch, caplog, milliseconds
):
  times = dict(zip(('rounded', 'float32'), milliseconds, strict=True))
  monkeypatch.setattr(quantise, '_timed', lambda *_: times)
  exported(detector, good, tmp_path)
  told = [one.getMessage() for one in caplog.records if one.name == 'absl']
  assert told == [
    'part: int8 takes 27.0 ms an image on this computer, float32 17.2 ms; '
    'take --precision=float32 or --format=openvino'
  ] * (milliseconds[0] > milliseconds[1])


@pytest.mark.parametrize('kind', KINDS)
def test_bytes_lose_nothing_in_int8(kind):
  made = detectors.make()
  weights, scale = dict(made.weights), np.ptp(images.NORMALIZED, axis=0) / 255
  levels = np.random.default_rng(0).integers(-127, 128, (7, 7, 3, 64))
  levels[0, 0, 0] = 127
  weights['conv1.kernel'] = (levels * 1e-4 / scale[:, None]).astype('f')
  made = Detector(made.card, weights)
  plan = onnx_graph.Plan(kind == 'onnx', layers=frozenset(['conv1']))
  form = export.FORMATS[kind]
  found = form.run(form.build(made, 0, plan))
  assert export.compare(made, found) <= export.TOLERANCE


@pytest.mark.parametrize('among', [(2, 3), (1, 2, 3)])
@pytest.mark.parametrize('kind', KINDS[1:])
def test_components_find_what_all_dimensions_find(monkeypatch, kind, among):
  monkeypatch.setattr(onnx_nearest, '_MANY', detectors.DIM)
  monkeypatch.setattr(onnx_nearest, '_SLAB', 7)
  made, random = detectors.make(bank=40, levels=among), np.random.default_rng(1)
  network, weights = made.card.network, made.weights
  pixels = random.integers(0, 256, (2, *made.size, 3), np.uint8)
  pixels[1] //= 8
  levels = simplenet.features(network, weights, pixels, 'float32')
  bank = np.array(network.merge(levels), 'd').reshape(-1, detectors.DIM)
  # Half of the axes span its plane, which other patches lie beside.
  plane = np.linalg.svd(bank, full_matrices=False)[2][: detectors.DIM // 2]
  bank = bank @ plane.T @ plane
  made = Detector(made.card, dict(weights) | {'nearest.bank': bank})
  ranges = rounding.ranges(made, False, [*pixels])
  plan = onnx_graph.Plan(False, False, frozenset(['nearest.bank']), ranges)
  form = export.FORMATS[kind]
  found = form.run(form.build(made, 0, plan))
  # To another row of the bank it would be several ranges.
  assert export.compare(made, found) <= 0.1


@pytest.mark.parametrize(('shape', 'axis'), [((9, 4, 3, 3), 0), ((50, 7), 1)])
def test_rounded_kernels_keep_their_sums(shape, axis):
  kernel = np.random.default_rng(0).normal(size=shape) + 0.1
  values, scale = onnx_graph.to_int8(kernel, axis)
  assert (values.dtype, np.abs(values.astype(int)).max()) == (np.int8, 127)
  others = tuple(i for i in range(kernel.ndim) if i != axis)
  steps = kernel / np.expand_dims(scale, others) - values
  assert np.abs(steps).max() < 1
  assert np.abs(steps.sum(others)).max() <= 0.5 + 1e-9


def test_layers_of_much_work_and_little_harm_are_chosen():
  harm = {'a': 3.0, 'b': 4.0, 'c': 0.5, 'd': 100.0}
  work = {'a': 10, 'b': 100, 'c': 1, 'd': 1000}
  assert rounding.choose(harm, work, 5.1) == {'a', 'b', 'c'}
  assert rounding.choose(harm, work, 4.5) == {'b', 'c'}
  assert rounding.choose(harm, work, 0.1) == set()


@pytest.mark.parametrize('adaptor', ['linear', 'mlp'])
def test_a_head_alone_beside_a_bank_without_its_images(adaptor):
  config = detectors.make_config(adaptor=adaptor)
  heads = [detectors.make_head(seed, adaptor) for seed in range(3)]
  patches = np.random.default_rng(1).random((20, detectors.DIM), np.float32)
  places, folds = np.arange(20) % 6, np.array([0, 1, 2, 2, 1, 0])
  config.nearest.head = 0.25
  bank = patches, (0.5, 0.25), places
  whole = assembly.assemble(
    config, 'part', (32, 40), detectors.loaded(), heads, {}, bank=bank
  )
  pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 40, 3), np.uint8)
  for part in range(3):
    folded = assembly._without(config, bank, [heads[part]], folds == part)
    maps, scores = Detector(whole.card, {**whole.weights, **folded}).infer(
      pixels
    )
    alone = assembly.without_part(whole, part, folds[places] == part)
    for value, truth in zip(alone.infer(pixels), (maps, scores), strict=True):
      np.testing.assert_allclose(value, truth, atol=1e-4 * np.ptp(maps))


def test_the_command_says_what_it_needs(detector, good, tmp_path):
  detector.save(tmp_path / 'part')
  flags = [f'--detector={tmp_path}/part', f'--output={tmp_path}/out']
  for more, told in (
    (['--precision=int8'], '--precision is for --format=onnx'),
    (
      ['--format=onnx', f'--input={good[0]}'],
      '--input is for --precision=int8',
    ),
    (['--format=onnx', '--allow_changed=0'], '--allow_changed is for --prec'),
    (['--format=onnx', '--precision=int8'], 'part lies in no work directory'),
  ):
    done = commands.run('export', *flags, *more)
    assert done.status != 0
    assert told in done.error
  assert not (tmp_path / 'out').exists()
  given = ['--format=onnx', '--precision=int8', f'--input={good[0].parent}']
  done = commands.run('export', *flags, *given, '--allow_changed=1')
  assert done.status == 0, done.errors
  told = 'from 12 good images, from --input: the 6 that score lowest calibrated'
  assert f'{told} the rounding, the 6 others set it.' in done.told
  assert 'computed anew; the detector itself has ' in done.told
  assert 'No defects were compared' in done.told
  model = onnx.load(tmp_path / 'out/model.onnx')
  assert any(one.op_type == 'QuantizeLinear' for one in model.graph.node)


def test_a_run_has_the_images(tmp_path, backbone):
  """Each image is scored without the head and the patches that saw it."""
  config = make_config(tmp_path / 'data', backbone)
  make_categories(tmp_path / 'data', {'part': 6})
  config.nearest.size, config.train.folds = 20, True
  found = run(config, tmp_path / 'work')
  made = Detector.load(found.work / 'detectors/part')
  given = f'--detector={found.work}/detectors/part', '--precision=int8'
  output = '--allow_changed=1', '--format=onnx', f'--output={tmp_path}/out'
  done = commands.run('export', *given, *output)
  assert done.status == 0, done.errors
  report = json.loads((tmp_path / 'out/conversion.json').read_text())
  before = report['thresholds']['before']
  assert before['image'] == pytest.approx(made.threshold, rel=1e-4)
  assert before['folds'] == 2
  assert report['images'] == {
    'origin': 'the run',
    'calibrate_the_rounding': 3,
    'set_the_thresholds': 3,
    'test': 6,
  }
  assert set(report['test']['after']) == {'I-AUROC', 'P-AUROC'}
  made.threshold = 3.0
  made.calibrate(found.work.parent / 'data/part/test/good')
  made.save(found.work / 'detectors/part')
  done = commands.run('export', *given, *output, '--overwrite')
  assert "its threshold comes from other images than the run's" in done.error
