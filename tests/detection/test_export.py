"""Exported folders: compared before they are written, and complete."""

import ast
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from simplenet_jax.detection import export, inputs
from simplenet_jax.detection.export import FORMATS, Format
from simplenet_jax.detector import Detector
from tests import commands
from tests.detection import detectors

SIZE = (32, 40)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)


@pytest.fixture(scope='module')
def detector():
  return detectors.make(crop=32, thresholds=True)


@pytest.fixture(scope='module')
def two_heads():
  """A detector that remembers a folder, as old ones do."""
  # On accelerators second layers are groups of one convolution, which compiles
  # in a quarter of the time that a CPU's own way takes.
  made = detectors.as_on_accelerators(detectors.make(heads=2, adaptor='mlp'))
  old = {**made.card.provenance, 'checkpoint': '/secret/ckpt.pth'}
  made.card = dataclasses.replace(made.card, provenance=old)
  return made


# A fast run converts once to each: jax2onnx takes ten seconds at its first use.
@pytest.fixture(scope='module')
def stablehlo(two_heads):
  return export.to_stablehlo(two_heads)


@pytest.fixture(scope='module')
def onnx(two_heads):
  return export.to_onnx(two_heads)


@pytest.mark.parametrize('kind', ['stablehlo', 'onnx'])
def test_formats_agree_alone_and_in_company(two_heads, kind, request):
  run = FORMATS[kind].runner(request.getfixturevalue(kind))
  maps, scores = two_heads.infer(PIXELS)
  for count in (1, 2, 3):
    for found, truth in zip(run(PIXELS[:count]), (maps, scores), strict=True):
      assert found.dtype == np.float32
      np.testing.assert_allclose(
        found, truth[:count], rtol=0, atol=1e-4 * np.ptp(maps)
      )
  assert export.compare(two_heads, run) <= export.TOLERANCE


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
  assert told == two_heads.card.portable().to_json()
  # No folder of the machine is in the file.
  for text in ('secret/', str(Path(export.__file__).parents[2])):
    assert text.encode() not in onnx


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['stablehlo', 'onnx'])
@pytest.mark.parametrize('crop', [0, 48])
@pytest.mark.parametrize('padding', ['zeros', 'reflect'])
@pytest.mark.parametrize(
  ('adaptor', 'heads'), [('linear', 1), ('mlp', 3), ('identity', 2)]
)
def test_every_kind_of_detector_can_be_exported(
  tmp_path, kind, crop, padding, adaptor, heads
):
  detector = detectors.make(
    crop=crop, padding=padding, adaptor=adaptor, heads=heads
  )
  assert export.export(detector, kind, tmp_path) <= export.TOLERANCE


# What the README tells users to write.
STABLEHLO = """
import jax, sys
from preprocess import preprocess
with open('model.stablehlo', 'rb') as file:
  run = jax.export.deserialize(bytearray(file.read())).call
"""
ONNX = """
import onnxruntime, sys
from preprocess import preprocess
session = onnxruntime.InferenceSession('model.onnx')
run = lambda pixels: session.run(None, {'pixels': pixels})
"""
SCORES = """
import json
limit = json.load(open('detector.json'))['thresholds']['image']
found = [float(run(preprocess(path))[1][0]) for path in sys.argv[1:]]
print(json.dumps([[score, score > limit] for score in found]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
  ('kind', 'packages', 'program'),
  [
    ('stablehlo', [f'jax=={jax.__version__}', 'flatbuffers'], STABLEHLO),
    ('onnx', [f'onnxruntime=={onnxruntime.__version__}'], ONNX),
  ],
)
@pytest.mark.parametrize('crop', [0, 48])
def test_a_bare_machine_gives_the_same_verdicts(
  tmp_path, kind, packages, program, crop
):
  detector = detectors.make(crop=crop, thresholds=True)
  paths = detectors.pictures(tmp_path / 'images')
  expected = list(detector.predict(paths))
  export.export(detector, kind, tmp_path / 'out')
  python = tmp_path / 'venv' / 'bin' / 'python'
  subprocess.run([sys.executable, '-m', 'venv', tmp_path / 'venv'], check=True)
  subprocess.run(
    [python, '-m', 'pip', 'install', '--quiet', 'pillow', *packages], check=True
  )
  text = subprocess.run(
    [python, '-c', program + SCORES, *paths],
    cwd=tmp_path / 'out',
    check=True,
    capture_output=True,
    text=True,
  ).stdout
  found = json.loads(text)
  assert [verdict for _, verdict in found] == [p.anomalous for p in expected]
  assert [score for score, _ in found] == pytest.approx(
    [p.score for p in expected], abs=1e-4
  )


def load(text):
  """Executes a recipe; returns its function."""
  names = {}
  exec(text, names)
  return names['preprocess']


def test_the_command_leaves_all_that_verdicts_need(detector, tmp_path):
  """As README.md tells, but in this process."""
  detector.save(tmp_path / 'part')
  folder = tmp_path / 'out'
  done = commands.run(
    'export', f'--detector={tmp_path / "part"}', f'--output={folder}'
  )
  assert done.status == 0, done.errors
  assert sorted(path.name for path in folder.iterdir()) == [
    'detector.json',
    'model.stablehlo',
    'preprocess.py',
  ]
  lines = done.told.splitlines()
  assert lines[0] == f'Exports part as stablehlo to {folder}/'
  assert 'threshold ' in lines[1]
  assert float(lines[2].removeprefix('  equals the detector to ')[:7]) <= 1e-5
  told = json.loads((folder / 'detector.json').read_text())
  assert told == json.loads(detector.card.to_json())
  run = FORMATS['stablehlo'].runner((folder / 'model.stablehlo').read_bytes())
  preprocess = load((folder / 'preprocess.py').read_text())
  for one in detector.predict(detectors.pictures(tmp_path / 'in', 3)):
    maps, scores = run(preprocess(one.source))
    np.testing.assert_allclose(maps[0], one.input_map, atol=1e-5)
    assert float(scores[0]) == pytest.approx(one.score, abs=1e-5)
    verdict = float(scores[0]) > told['thresholds']['image']
    assert verdict == one.anomalous


def one_pixel(maps, scores, pixels):
  maps = maps.copy()
  maps[-1, -1, -1] += 2e-4 * np.ptp(maps)
  return maps, scores


def not_finite(maps, scores, pixels):
  return maps, np.where(np.arange(len(scores)) == len(scores) - 1, np.nan, 1)


WRONG = {
  'scaled': lambda maps, scores, _: (maps, scores + 1e-3 * np.ptp(maps)),
  'moved': lambda maps, scores, _: (np.roll(maps, 1, axis=2), scores),
  'one pixel': one_pixel,
  'alone': lambda maps, scores, pixels: (
    maps,
    scores * (1.01 if len(pixels) == 1 else 1),
  ),
  'in company': lambda maps, scores, _: (maps, scores[::-1]),
  'not finite': not_finite,
}


def fake(monkeypatch, run, name='x'):
  """Adds a format whose model computes what is given."""
  form = Format(f'model.{name}', lambda _: b'model', lambda _: run)
  monkeypatch.setitem(FORMATS, name, form)


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
  detector.save(tmp_path / 'part')
  monkeypatch.setitem(sys.modules, package, None)  # Its import fails.
  if package == 'onnxruntime':
    made = FORMATS['onnx']._replace(build=lambda _: b'model')
    monkeypatch.setitem(FORMATS, 'onnx', made)
  done = commands.run(
    'export',
    f'--detector={tmp_path / "part"}',
    '--format=onnx',
    f'--output={tmp_path / "out"}',
  )
  assert done.status == 1
  assert "pip install 'simplenet-jax[onnx]'" in done.error
  assert package in done.error
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
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'detector.json',
    'model.x',
    'notes.txt',
    'preprocess.py',
  ]


def test_exports_hold_no_folder_of_the_machine(tmp_path):
  """Nor do they where the detector is an old one, which does."""
  detector = detectors.make(levels=(1,), thresholds=True)
  private = str(tmp_path / 'secret')
  card = dataclasses.replace(
    detector.card,
    thresholds=dataclasses.replace(
      detector.thresholds, limiting_images=((f'{private}/a/0.png', 1.0),)
    ),
    provenance={'data': {'root': f'{private}/parts/'}, 'x': '~/secret/c.pth'},
  )
  old = Detector(card, detector.weights)
  export.export(old, 'stablehlo', tmp_path / 'out')
  here = str(Path(export.__file__).parents[2])
  packages = str(Path(np.__file__).parents[1])
  for path in (tmp_path / 'out').iterdir():
    content = path.read_bytes()
    for text in (f'{private}/', 'secret/', here, packages):
      assert text.encode() not in content, (path, text)
  told = json.loads((tmp_path / 'out/detector.json').read_text())
  assert told['thresholds']['drivers'] == [['0.png', 1.0]]
  assert told['provenance'] == {'data': {'root': 'parts'}, 'x': 'c.pth'}


SIZES = [(40, 40), (33, 47), (90, 31), (20, 20), (1, 3), (301, 200), (128, 511)]


def files_of_every_mode(folder, size, rng):
  """Writes an image in each mode that a camera or a tool may leave."""
  folder.mkdir(parents=True)
  height, width = size
  noise = rng.integers(0, 256, (height, width, 4), np.uint8)
  rgb = Image.fromarray(noise[..., :3])
  deep = noise[..., 0].astype(np.uint16) * 256 + noise[..., 1]
  images = {
    'rgb.png': rgb,
    'gray.png': rgb.convert('L'),
    'bilevel.png': rgb.convert('1'),
    'rgba.png': Image.fromarray(noise),
    'palette.png': rgb.convert('P'),
    'deep.png': Image.fromarray(deep),
    'big_endian.tiff': Image.fromarray(deep.astype('>u2')),
    'wide.tiff': Image.fromarray(deep.astype(np.int32)),
    'cmyk.jpg': rgb.convert('CMYK'),
    'rgba.webp': Image.fromarray(noise),
  }
  for name, image in images.items():
    image.save(folder / name)
  turned = Image.Exif()
  turned[0x0112] = 6  # To be turned by a quarter.
  rgb.save(folder / 'turned.jpg', exif=turned)
  return sorted(folder.iterdir())


def files_of_no_use(folder, rng):
  """Writes what looks like images and cannot be used as such."""
  folder.mkdir(parents=True)
  pages = [Image.fromarray(np.full((9, 9), i, np.uint8)) for i in range(2)]
  Image.fromarray(rng.random((40, 52), np.float32)).save(folder / 'float.tiff')
  pages[0].save(folder / 'a.tiff', save_all=True, append_images=pages[1:])
  Image.fromarray(np.full((9, 9), 70_000, np.int32)).save(folder / 'high.tiff')
  (folder / 'text.png').write_text('hello')
  (folder / 'empty.png').touch()
  pages[0].save(folder / 'half.png')
  content = (folder / 'half.png').read_bytes()
  (folder / 'half.png').write_bytes(content[: len(content) // 2])
  (folder / 'folder.png').mkdir()
  return [*sorted(folder.iterdir()), folder / 'missing.png']


@pytest.mark.parametrize(
  ('resize', 'crop', 'size'),
  [
    (40, 32, (32, 32)),
    (40, 0, (32, 56)),
    (33, 32, (32, 32)),  # Starts are halves.
    (30, 37, (37, 37)),  # Padded, by an odd number.
  ],
)
def test_recipes_do_what_detectors_do(detector, tmp_path, resize, crop, size):
  network = dataclasses.replace(detector.card.network, size=size)
  card = dataclasses.replace(
    detector.card, resize=resize, crop=crop, network=network
  )
  preprocess = load(export.recipe(card))
  rng = np.random.default_rng(0)
  for index, shape in enumerate(SIZES):
    for path in files_of_every_mode(tmp_path / str(index), shape, rng):
      assert assert_same(card, preprocess, path), path
      with Image.open(path) as opened:
        assert assert_same(card, preprocess, opened, 'bgr'), path
  for path in files_of_no_use(tmp_path / 'none', rng):
    assert not assert_same(card, preprocess, path), path


def assert_same(card, preprocess, given, channels='rgb'):
  """Compares what a detector and its recipe make of an image.

  Returns:
    Whether they make anything of it.
  """
  expected = inputs.prepare(card, 0, given, channels=channels)
  try:
    found = preprocess(given, channels)
  except (ValueError, OSError):
    assert isinstance(expected, inputs.Unusable), given
    return False
  assert isinstance(expected, inputs.Ready), expected.error
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found, expected.pixels[None])
  return True


TYPES = ['u1', 'i1', '<u2', '>u2', 'i2', 'i4', 'f2', 'f4', 'f8', '?']


@settings(max_examples=300, deadline=None)
@given(
  st.sampled_from(TYPES),
  st.lists(st.integers(0, 40) | st.sampled_from([1, 3, 4]), max_size=4),
  st.sampled_from(['rgb', 'bgr']),
  st.booleans(),
  st.sampled_from([8, 12, 16]),
  st.sampled_from([0, 32]),
)
def test_recipes_take_the_frames_that_detectors_take(
  detector, kind, shape, channels, turned, bits, crop
):
  card = dataclasses.replace(detector.card, bits=bits, crop=crop)
  rng = np.random.default_rng(0)
  array = (rng.random(shape) * 300 % 256).astype(kind)
  array = array.T if turned else array
  taken = assert_same(card, load(export.recipe(card)), array, channels)
  gray = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
  colour = array.ndim == 3 and array.shape[2] == 3
  assert taken == bool(
    array.size
    and (
      (gray and array.dtype in (np.uint8, np.uint16))
      or (colour and array.dtype == np.uint8)
    )
  )


@pytest.mark.parametrize('crop', [0, 32])
def test_recipes_need_numpy_and_pillow_only(detector, crop):
  text = export.recipe(dataclasses.replace(detector.card, crop=crop))
  assert max(map(len, text.splitlines())) <= 80
  assert ast.get_docstring(ast.parse(text)).startswith('From an image to')
  packages = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      packages |= {name.name.split('.')[0] for name in node.names}
    elif isinstance(node, ast.ImportFrom):
      packages.add(node.module.split('.')[0])
  assert packages - sys.stdlib_module_names == {'numpy', 'PIL'}
  with pytest.raises(ValueError, match="channels is 'gbr', expected 'rgb'"):
    load(text)(np.zeros((9, 9, 3), np.uint8), 'gbr')


def test_a_camera_of_12_bits_is_read_right_from_card_to_recipe(tmp_path):
  made = detectors.make(levels=(1,))
  card = dataclasses.replace(made.card, bits=12)
  deep = np.random.default_rng(0).integers(0, 4096, (40, 52), np.uint16)
  path, shallow = tmp_path / 'deep.png', tmp_path / 'shallow.png'
  Image.fromarray(deep).save(path)
  Image.fromarray((deep >> 4).astype(np.uint8)).save(shallow)
  detector, preprocess = Detector(card, made.weights), load(export.recipe(card))
  first, second, third = detector.predict([path, shallow, Image.open(path)])
  assert first.score == second.score == third.score
  np.testing.assert_array_equal(preprocess(path), preprocess(shallow))
  Image.fromarray(np.full((40, 52), 4096, np.uint16)).save(path)
  for read in (preprocess, lambda one: list(detector.predict(one))):
    with pytest.raises(ValueError, match=r'deep\.png.*at most 12 bits'):
      read(path)
