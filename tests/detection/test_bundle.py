"""Exported folders: compared before they are written, and complete."""

import ast
import dataclasses
import json
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from simplenet_jax.detection import bundle, inputs
from simplenet_jax.detector import Detector
from simplenet_jax.models import channels_first
from tests import commands
from tests.detection import detectors


@pytest.fixture(scope='module')
def detector():
  return detectors.make(crop=32, thresholds=True)


@pytest.fixture(scope='module')
def exported(detector, tmp_path_factory):
  """What the command leaves, and what it says."""
  folder = tmp_path_factory.mktemp('exported')
  detector.save(folder / 'part')
  done = commands.run(
    'export',
    f'--detector={folder / "part"}',
    '--format=stablehlo',
    f'--output={folder / "out"}',
  )
  assert done.status == 0, done.errors
  return folder / 'out', done.told


def test_the_command_writes_three_files(exported):
  folder, told = exported
  assert sorted(path.name for path in folder.iterdir()) == [
    'detector.json',
    'model.stablehlo',
    'preprocess.py',
  ]
  lines = told.splitlines()
  assert lines[0] == f'Exports part as stablehlo to {folder}/'
  assert 'threshold ' in lines[1]
  difference = float(lines[2].removeprefix('  equals the detector to ')[:7])
  assert 0 <= difference <= 1e-5


def test_the_description_is_the_card(exported, detector):
  told = json.loads((exported[0] / 'detector.json').read_text())
  assert told == json.loads(detector.card.to_json())
  assert told['thresholds']['image'] == detector.thresholds.image
  assert told['provenance']['seeds'] == [0]


def test_the_files_alone_give_the_detectors_verdicts(
  exported, detector, tmp_path
):
  """As README.md tells, but in this process."""
  folder, _ = exported
  run = jax.export.deserialize(
    bytearray((folder / 'model.stablehlo').read_bytes())
  ).call
  preprocess = load(folder / 'preprocess.py')
  limit = json.loads((folder / 'detector.json').read_text())['thresholds']
  found = list(detector.predict(detectors.pictures(tmp_path, 3)))
  for one in found:
    maps, scores = run(preprocess(one.source))
    np.testing.assert_allclose(maps[0], one.input_map, atol=1e-5)
    assert float(scores[0]) == pytest.approx(one.score, abs=1e-5)
    assert (float(scores[0]) > limit['image']) == one.anomalous


def load(path):
  """Executes a recipe; returns its function."""
  names = {}
  exec(compile(path.read_text(), str(path), 'exec'), names)
  return names['preprocess']


def scaled(maps, scores, pixels):
  return maps, scores + 1e-3 * np.ptp(maps)


def moved(maps, scores, pixels):
  return np.roll(maps, 1, axis=2), scores


def one_pixel(maps, scores, pixels):
  maps = maps.copy()
  maps[-1, -1, -1] += 2e-4 * np.ptp(maps)
  return maps, scores


def wrong_alone(maps, scores, pixels):
  return (maps, scores * 1.01) if len(pixels) == 1 else (maps, scores)


def wrong_in_company(maps, scores, pixels):
  return (maps, scores[::-1]) if len(pixels) > 1 else (maps, scores)


def not_finite(maps, scores, pixels):
  return maps, np.where(np.arange(len(scores)) == len(scores) - 1, np.nan, 1)


def not_finite_alone(maps, scores, pixels):
  return (maps * np.nan, scores) if len(pixels) == 1 else (maps, scores)


WRONG = [
  scaled,
  moved,
  one_pixel,
  wrong_alone,
  wrong_in_company,
  not_finite,
  not_finite_alone,
]


def runner_of(detector, change):
  def run(pixels):
    return change(*detector.infer(pixels), pixels)

  return run


@pytest.mark.parametrize('change', WRONG, ids=lambda change: change.__name__)
def test_a_wrong_model_is_found_out_and_nothing_written(
  detector, tmp_path, monkeypatch, change
):
  run = runner_of(detector, change)
  form = types.SimpleNamespace(
    FILE='model.x', build=lambda _: b'model', runner=lambda _: run
  )
  monkeypatch.setitem(bundle.FORMATS, 'x', form)
  with pytest.raises(ValueError, match=r'differs from the detector.*nothing'):
    bundle.export(detector, 'x', tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_a_right_model_is_written(detector, tmp_path, monkeypatch):
  run = runner_of(detector, lambda maps, scores, pixels: (maps, scores))
  form = types.SimpleNamespace(
    FILE='model.x', build=lambda _: b'model', runner=lambda _: run
  )
  monkeypatch.setitem(bundle.FORMATS, 'x', form)
  assert bundle.export(detector, 'x', tmp_path / 'out') == 0
  assert (tmp_path / 'out/model.x').read_bytes() == b'model'


@pytest.mark.parametrize('padding', ['reflect', 'zeros'])
def test_one_operator_changed_is_found_out(detector, padding):
  """Borders of zeros where the detector has reflected ones."""
  assert detector.card.network.padding == 'reflect'
  structure = dataclasses.replace(detector.card.network, padding=padding)

  @jax.jit
  def three(pixels):
    return channels_first.detect(structure, detector.weights, pixels)

  def run(pixels):  # Always three, which compiles once.
    found = three(np.concatenate([pixels] * 3)[:3])
    return tuple(np.asarray(value)[: len(pixels)] for value in found)

  difference = bundle.compare(detector, run)
  if padding == 'reflect':
    assert difference <= bundle.TOLERANCE
  else:
    assert difference > 100 * bundle.TOLERANCE


def test_the_command_tells_of_a_wrong_model_in_one_line(
  detector, tmp_path, monkeypatch
):
  detector.save(tmp_path / 'part')
  form = types.SimpleNamespace(
    FILE='model.x',
    build=lambda _: b'model',
    runner=lambda _: runner_of(detector, scaled),
  )
  monkeypatch.setitem(bundle.FORMATS, 'stablehlo', form)
  done = commands.run(
    'export', f'--detector={tmp_path / "part"}', f'--output={tmp_path / "out"}'
  )
  assert done.status == 1
  assert 'by 1.0e-03 of the range of scores, more than 1e-04' in done.error
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('package', ['jax2onnx', 'onnxruntime'])
def test_missing_packages_are_named(detector, tmp_path, monkeypatch, package):
  detector.save(tmp_path / 'part')
  # None makes its import fail.
  monkeypatch.setitem(sys.modules, package, None)
  monkeypatch.setattr(
    bundle.onnx,
    'build' if package == 'onnxruntime' else 'runner',
    lambda _: b'model',
  )
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


def test_an_unknown_format_is_a_wrong_flag():
  done = commands.run('export', '--detector=a', '--format=tf', '--output=b')
  assert done.status == 2
  assert '--format=tf' in done.error


def test_writing_anew_replaces_the_files(detector, tmp_path, monkeypatch):
  form = types.SimpleNamespace(
    FILE='model.x',
    build=lambda _: b'new',
    runner=lambda _: detector.infer,
  )
  monkeypatch.setitem(bundle.FORMATS, 'x', form)
  (tmp_path / 'model.x').write_bytes(b'old')
  (tmp_path / 'notes.txt').write_text('mine')
  with pytest.raises(ValueError, match=r'model\.x is there already.*overwrite'):
    bundle.export(detector, 'x', tmp_path)
  assert len(list(tmp_path.iterdir())) == 2
  bundle.export(detector, 'x', tmp_path, overwrite=True)
  assert (tmp_path / 'model.x').read_bytes() == b'new'
  assert len(list(tmp_path.iterdir())) == 4


def test_one_folder_holds_one_detector(detector, tmp_path, monkeypatch):
  for name in ('x', 'y'):
    form = types.SimpleNamespace(
      FILE=f'model.{name}',
      build=lambda _: b'model',
      runner=lambda _: detector.infer,
    )
    monkeypatch.setitem(bundle.FORMATS, name, form)
  bundle.export(detector, 'x', tmp_path)
  bundle.export(detector, 'y', tmp_path)  # The same one in another format.
  assert len(list(tmp_path.iterdir())) == 4
  other = Detector(
    dataclasses.replace(detector.card, name='other'), detector.weights
  )
  (tmp_path / 'model.x').unlink()
  with pytest.raises(ValueError, match=r'detector\.json is there already'):
    bundle.export(other, 'x', tmp_path)
  bundle.export(other, 'x', tmp_path, overwrite=True)
  # The model of the detector that was there would be taken for the new one's.
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'detector.json',
    'model.x',
    'preprocess.py',
  ]


def test_exports_hold_no_folder_of_the_machine(tmp_path):
  """Nor do they where the detector is an old one, which does."""
  detector = detectors.make(levels=(1,), thresholds=True)
  private = str(tmp_path / 'secret')
  card = dataclasses.replace(
    detector.card,
    thresholds=dataclasses.replace(
      detector.thresholds, drivers=((f'{private}/a/0.png', 1.0),)
    ),
    provenance={
      'data': {'root': f'{private}/parts/'},
      'checkpoint': '~/secret/ckpt.pth',
      'config': {'backbone': {'weights': 'C:\\secret\\w.pth'}, 'x': [private]},
    },
  )
  old = Detector(card, detector.weights)
  bundle.export(old, 'stablehlo', tmp_path / 'out')
  here = str(Path(bundle.__file__).parents[2])
  packages = str(Path(np.__file__).parents[1])
  for path in (tmp_path / 'out').iterdir():
    content = path.read_bytes()
    for text in (f'{private}/', 'secret/', 'secret\\', here, packages):
      assert text.encode() not in content, (path, text)
  told = json.loads((tmp_path / 'out/detector.json').read_text())
  assert told['thresholds']['drivers'] == [['0.png', 1.0]]
  assert told['provenance'] == {
    'data': {'root': 'parts'},
    'checkpoint': 'ckpt.pth',
    'config': {'backbone': {'weights': 'w.pth'}, 'x': ['secret']},
  }


class Fed:
  """Keeps the pixels that a detector computes."""

  def __init__(self, detector, monkeypatch):
    self.pixels = []
    computation = detector._computation
    start = computation.start

    def listen(pixels):
      self.pixels.extend(pixels)
      return start(pixels)

    monkeypatch.setattr(computation, 'start', listen)


def test_the_recipe_brings_what_the_detector_computes(
  exported, detector, tmp_path, monkeypatch
):
  paths = detectors.pictures(tmp_path / 'images')
  fed = Fed(detector, monkeypatch)
  list(detector.predict(paths))
  preprocess = load(exported[0] / 'preprocess.py')
  for path, pixels in zip(paths, fed.pixels, strict=True):
    found = preprocess(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels[None])


SIZES = [(40, 40), (32, 32), (33, 47), (90, 31), (20, 20), (7, 19), (1, 3)]
SIZES += [(301, 200), (128, 511), (64, 65)]


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
    'gray_alpha.png': rgb.convert('LA'),
    'rgba.png': Image.fromarray(noise),
    'palette.png': rgb.convert('P'),
    'deep.png': Image.fromarray(deep),
    'deep.tiff': Image.fromarray(deep),
    'big_endian.tiff': Image.fromarray(deep.astype('>u2')),
    'wide.tiff': Image.fromarray(deep.astype(np.int32)),
    'gif.gif': rgb.convert('P'),
    'lossy.jpg': rgb,
    'cmyk.jpg': rgb.convert('CMYK'),
    'rgb.bmp': rgb,
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
  floats = rng.random((40, 52), np.float32)
  pages = [Image.fromarray(np.full((9, 9), i, np.uint8)) for i in range(2)]
  Image.fromarray(floats).save(folder / 'float.tiff')
  Image.fromarray(floats * 4080).save(folder / 'wide.tiff')
  pages[0].save(folder / 'a.tiff', save_all=True, append_images=pages[1:])
  pages[0].save(folder / 'a.gif', save_all=True, append_images=pages[1:])
  beyond = np.full((9, 9), 70_000, np.int32)
  Image.fromarray(beyond).save(folder / 'beyond.tiff')
  Image.fromarray(-beyond).save(folder / 'negative.tiff')
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
    (32, 32, (32, 32)),
    (30, 37, (37, 37)),  # Padded, by an odd number.
  ],
)
def test_recipes_do_what_detectors_do(detector, tmp_path, resize, crop, size):
  card = dataclasses.replace(
    detector.card,
    resize=resize,
    crop=crop,
    network=dataclasses.replace(detector.card.network, size=size),
  )
  preprocess = recipe_of(card, tmp_path)
  rng = np.random.default_rng(0)
  for index, shape in enumerate(SIZES):
    for path in files_of_every_mode(tmp_path / str(index), shape, rng):
      for name in (path, str(path)):
        assert assert_same(card, preprocess, name), path
      with Image.open(path) as opened:
        assert assert_same(card, preprocess, opened, 'bgr'), path
  for path in files_of_no_use(tmp_path / 'none', rng):
    assert not assert_same(card, preprocess, path), path
    if path.stat().st_size if path.is_file() else 0:
      try:
        opened = Image.open(path)
      except OSError:
        continue
      with opened:
        assert not assert_same(card, preprocess, opened), path


def recipe_of(card, folder):
  (folder / 'preprocess.py').write_text(bundle.recipe(card))
  return load(folder / 'preprocess.py')


def assert_same(card, preprocess, given, channels='rgb'):
  """Compares what a detector and its recipe make of an image.

  Returns:
    Whether they make anything of it.
  """
  path = Path(given) if isinstance(given, str) else given
  expected = inputs.prepare(card, 0, path, channels=channels)
  try:
    found = preprocess(given, channels)
  except (ValueError, OSError):
    assert isinstance(expected, inputs.Unreadable), given
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
  detector, tmp_path_factory, kind, shape, channels, turned, bits, crop
):
  card = dataclasses.replace(detector.card, bits=bits, crop=crop)
  names = {}
  exec(bundle.recipe(card), names)
  rng = np.random.default_rng(0)
  array = (rng.random(shape) * 300 % 256).astype(kind)
  array = array.T if turned else array
  taken = assert_same(card, names['preprocess'], array, channels)
  gray = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
  colour = array.ndim == 3 and array.shape[2] == 3
  assert taken == bool(
    array.size
    and (
      (gray and array.dtype in (np.uint8, np.uint16))
      or (colour and array.dtype == np.uint8)
    )
  )


def test_recipes_refuse_another_order_of_channels(detector, tmp_path):
  preprocess = recipe_of(detector.card, tmp_path)
  with pytest.raises(ValueError, match="channels is 'gbr', expected 'rgb'"):
    preprocess(np.zeros((9, 9, 3), np.uint8), 'gbr')


@pytest.mark.parametrize('crop', [0, 32])
def test_recipes_need_numpy_and_pillow_only(detector, crop):
  text = bundle.recipe(dataclasses.replace(detector.card, crop=crop))
  assert max(map(len, text.splitlines())) <= 80
  assert ast.get_docstring(ast.parse(text)).startswith('From an image to')
  packages = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      packages |= {name.name.split('.')[0] for name in node.names}
    elif isinstance(node, ast.ImportFrom):
      packages.add(node.module.split('.')[0])
  assert packages - sys.stdlib_module_names == {'numpy', 'PIL'}
