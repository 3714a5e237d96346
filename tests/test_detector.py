"""Detectors as programs use them: images in, predictions out."""

import subprocess
import sys
import threading
import weakref
from concurrent import futures

import jax
import numpy as np
import pytest
from PIL import Image

from simplenet_jax.data import images
from simplenet_jax.detector import Detector
from simplenet_jax.models import simplenet
from tests.detection import detectors

SIZE = (32, 40)
CROP = 32  # Of images resized to 40.


@pytest.fixture(scope='module')
def detector():
  """Of one level only, as it is compiled for many kinds of batches."""
  return detectors.make(heads=2, levels=(1,))


@pytest.fixture(scope='module')
def cropping():
  return detectors.make(crop=CROP, thresholds=True)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('images')
  detectors.pictures(folder / 'line')
  return folder / 'line'


def another(detector, **options):
  """The same detector, computed in another manner or to be changed."""
  return Detector(detector.card, detector.weights, **options)


def assert_equal(found, expected):
  for one, other in zip(found, expected, strict=True):
    assert one.score == pytest.approx(other.score, abs=1e-6)
    np.testing.assert_allclose(one.input_map, other.input_map, atol=1e-6)


@pytest.fixture(scope='module')
def line(detector, folder):
  paths = sorted(folder.iterdir())
  found = list(detector.predict(paths))
  assert len({p.score for p in found}) == len(paths) == 6
  assert [p.source for p in found] == paths
  return found


def test_a_folder_and_paths_are_named_by_their_paths(detector, folder, line):
  paths = sorted(folder.iterdir())
  for given in (folder, str(folder), folder.parent, map(str, paths)):
    found = list(detector.predict(given))
    assert [p.source for p in found] == paths
    assert_equal(found, line)
  (found,) = detector.predict(paths[3])
  assert found.source == paths[3]
  assert_equal([found], line[3:4])


def test_nothing_gives_nothing(detector, tmp_path):
  assert list(detector.predict([])) == []
  assert list(detector.predict(np.zeros((0, 9, 9, 3), np.uint8))) == []
  with pytest.raises(FileNotFoundError, match='no images'):
    next(detector.predict(tmp_path))


def test_the_map_lies_where_the_image_does(cropping):
  pixels = np.full((90, 60, 3), 120, np.uint8)
  changed = pixels.copy()
  changed[24:36, 42:52] = 0
  plain, marked = (p.map for p in cropping.predict([pixels, changed]))
  moved = np.nan_to_num(np.abs(marked - plain))
  row, column = np.unravel_index(moved.argmax(), moved.shape)
  assert (row, column) == pytest.approx((30, 47), abs=8)


COUNT = 13  # A multiple of no batch size.


@pytest.fixture(scope='module')
def alone(detector):
  """Each image alone, as CPUs compute."""
  return [next(detector.predict(one)) for one in detectors.arrays(COUNT)]


@pytest.mark.parametrize(
  ('precision', 'tolerance', 'sizes'),
  [('float32', 1e-5, (8,)), ('bfloat16', 1e-2, (2, 3, 8))],
)
def test_the_size_of_batches_changes_nothing(
  detector, alone, precision, tolerance, sizes
):
  def run(batch_size):
    found = detectors.as_on_accelerators(
      detector, precision, batch_size
    ).predict(detectors.arrays(COUNT))
    return list(found)

  before, single = simplenet.run._cache_size(), run(1)
  # What accelerators compute agrees with what CPUs do, if to fewer digits.
  for batch_size, reference in ((1, alone), *((n, single) for n in sizes)):
    allowed = tolerance * (5 if reference is alone else 1)
    found = run(batch_size)
    assert [p.source for p in found] == list(range(COUNT))
    for one, other in zip(found, reference, strict=True):
      assert one.score == pytest.approx(other.score, abs=allowed)
      np.testing.assert_allclose(one.input_map, other.input_map, rtol=allowed)
  # 13 images are 8 and 5, and 5 are padded to 8.
  assert simplenet.run._cache_size() - before <= 1 + len(sizes)


def test_a_warm_detector_compiles_nothing():
  # A size of its own, so that nothing is compiled before.
  cold = detectors.as_on_accelerators(
    detectors.make(size=(32, 32), levels=(1,)), 'float32', 8
  )
  before = simplenet.run._cache_size()
  cold.warm_up(17)
  assert simplenet.run._cache_size() == before + 2  # For 8 and for 1.
  assert len(list(cold.predict(np.zeros((17, 9, 9, 3), np.uint8)))) == 17
  assert simplenet.run._cache_size() == before + 2


def test_pixels_of_the_inputs_size_need_no_reading(detector):
  pixels = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)
  maps, scores = detector.infer(pixels)
  assert maps.dtype == scores.dtype == np.float32
  for found, grid, score in zip(
    detector.predict(pixels), maps, scores, strict=True
  ):
    np.testing.assert_allclose(found.input_map, grid, atol=1e-6)
    assert found.score == pytest.approx(score, abs=1e-6)
  maps, scores = detector.infer(pixels[:0])
  assert maps.shape == (0, *SIZE)
  assert scores.shape == (0,)


class Stream:
  """Tiny images that know how many were taken, and how many still live."""

  def __init__(self, count):
    self._count, self.taken, self._gone = count, 0, 0
    self._watched = []

  def __iter__(self):
    for index in range(self._count):
      image = np.full((9, 11, 3), index % 256, np.uint8)
      self._watched.append(weakref.ref(image, self._on_gone))
      self.taken += 1
      yield image

  def _on_gone(self, _):
    self._gone += 1

  @property
  def alive(self):
    return self.taken - self._gone


def workers():
  """Threads that read images."""
  return {
    thread for thread in threading.enumerate() if 'in order' in thread.name
  }


def streaming(detector, batch):
  """The same detector, in batches if there are to be any."""
  if batch == 1:
    return detector
  return detectors.as_on_accelerators(detector, 'float32', batch)


@pytest.mark.parametrize(('batch', 'count'), [(1, 600), (8, 541)])
def test_a_few_images_are_held_however_many_there_are(detector, batch, count):
  stream = Stream(count)
  held, ahead, done = 0, 0, 0
  for _ in streaming(detector, batch).predict(stream, lookahead=10**9):
    done += 1
    ahead = max(ahead, stream.taken - done)
    held = max(held, stream.alive)
  assert done == stream.taken == count
  # What is read ahead, and two batches on the device.
  assert ahead <= 2 * batch + 2 + 2 * batch
  assert held <= ahead + 1


@pytest.mark.parametrize('batch', [1, 64])
@pytest.mark.parametrize('lookahead', [None, 0, 1, 2, 3, 4, 7, 11, 30, 256])
def test_no_more_is_asked_for_than_is_allowed(
  detector, batch, lookahead, monkeypatch
):
  """Nor is less: the last of the images is one that may be asked for."""
  stream, allowed = Stream(60), lookahead or 0
  most, done, sizes = 0, 0, []
  given = streaming(detector, batch)
  start = given._start
  monkeypatch.setattr(
    given, '_start', lambda pixels: sizes.append(len(pixels)) or start(pixels)
  )
  for _ in given.predict(iter(stream), lookahead=lookahead):
    most = max(most, stream.taken - done - 1)
    done += 1
  assert done == 60
  busy = 4 * batch + 1
  assert min(allowed, busy, 59) - 3 <= most <= min(allowed, busy)
  assert max(sizes) <= allowed + 1


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'lookahead': -1}, 'lookahead is -1, expected at least 0'),
    ({'channels': 'gbr'}, "channels is 'gbr', expected 'rgb' or 'bgr'"),
  ],
)
def test_wrong_options_are_told_at_once(detector, options, message):
  with pytest.raises(ValueError, match=message):
    detector.predict([], **options)


def test_bgr_is_rgb_exchanged(detector, folder):
  pixels = list(detectors.arrays(3))
  expected = list(detector.predict(pixels))
  exchanged = [image[..., ::-1] for image in pixels]
  assert_equal(detector.predict(exchanged, channels='bgr'), expected)
  pil = [Image.fromarray(image) for image in exchanged]
  assert_equal(detector.predict(pil, channels='bgr'), expected)
  path = folder / '0.png'
  (found,) = detector.predict(path, channels='bgr')
  (right,) = detector.predict(
    np.asarray(images.read_image(path))[..., ::-1].copy()
  )
  assert found.score == right.score
  changed = another(detector).calibrate(exchanged, channels='bgr')
  assert changed.thresholds == another(detector).calibrate(pixels).thresholds


def test_a_thumbnail_is_kept_where_it_is_wanted(detector):
  pixels = np.full((400, 100, 3), (9, 80, 200), np.uint8)
  (found,) = detector.predict(pixels, thumbnail=60)
  assert found.thumbnail.size == (15, 60)
  assert np.asarray(found.thumbnail)[7, 7].tolist() == [9, 80, 200]
  (found,) = detector.predict(pixels)
  assert found.thumbnail is None


@pytest.mark.parametrize('batch', [1, 8])
def test_closing_early_ends_the_threads(detector, batch):
  before = workers()
  predictions = streaming(detector, batch).predict(
    Stream(10**9), lookahead=4 * batch
  )
  next(predictions)
  assert workers() - before
  predictions.close()
  assert not workers() - before


def test_eight_threads_give_the_scores_of_one(detector):
  given = list(detectors.arrays(24))
  expected = [p.score for p in detector.predict(given)]
  barrier = threading.Barrier(8)

  def run(index):
    barrier.wait(timeout=10)
    turned = given[index:] + given[:index]
    found = [p.score for p in detector.predict(turned)]
    return found[len(given) - index :] + found[: len(given) - index]

  with futures.ThreadPoolExecutor(8) as pool:
    for scores in pool.map(run, range(8)):
      np.testing.assert_allclose(scores, expected, atol=1e-6)


@pytest.fixture
def given(folder, tmp_path):
  """Six images, four things that are none between them."""
  paths = sorted(folder.iterdir())
  broken = tmp_path / 'broken.png'
  broken.write_bytes(paths[0].read_bytes()[:200])
  missing = tmp_path / 'missing.png'
  gray, floats = np.zeros((40, 40), np.int16), np.zeros((40, 40, 3))
  return [
    broken,
    *paths[:2],
    missing,
    paths[2],
    gray,
    floats,
    *paths[3:],
    'text',
  ]


@pytest.mark.parametrize('batch', [1, 8])
def test_what_cannot_be_used_is_told_and_left_out(
  detector, given, folder, batch
):
  told = []
  many = streaming(detector, batch)
  found = list(many.predict(given, on_error=lambda *error: told.append(error)))
  paths = sorted(folder.iterdir())
  assert [p.source for p in found] == paths
  assert_equal(found, many.predict(paths))
  sources = [source for source, _ in told]
  assert [str(source) for source in sources] == [
    str(given[0]),
    str(given[3]),
    '5',
    '6',
    'text',
  ]
  assert isinstance(told[1][1], FileNotFoundError)
  assert 'broken.png: cannot be read' in str(told[0][1])
  assert 'an array is int16[40, 40], expected uint8[' in str(told[2][1])
  assert 'an array is float64[40, 40, 3]' in str(told[3][1])


def test_a_saved_detector_is_the_same(cropping, folder, tmp_path):
  calibrated = another(cropping).calibrate(folder, 0.3)
  assert calibrated.thresholds.limiting_images
  calibrated.save(tmp_path / 'part.v2')
  assert [p.name for p in tmp_path.iterdir()] == ['part.v2.safetensors']
  expected = list(calibrated.predict(folder))
  for name in ('part.v2', 'part.v2.safetensors'):
    loaded = Detector.load(tmp_path / name)
    assert loaded.card == calibrated.card
    assert loaded.thresholds == calibrated.thresholds
    assert loaded.size == (CROP, CROP)
    assert loaded.heads == 1
    for one, other in zip(loaded.predict(folder), expected, strict=True):
      assert one.score == other.score
      assert one.anomalous == other.anomalous
      np.testing.assert_array_equal(one.mask, other.mask)


def test_options_are_passed_on(detector, tmp_path):
  detector.save(tmp_path / 'part')
  loaded = Detector.load(tmp_path / 'part', precision='bfloat16')
  assert loaded.precision == 'bfloat16'
  assert loaded.device == jax.devices()[0].device_kind
  with pytest.raises(ValueError, match="precision is 'half'"):
    Detector.load(tmp_path / 'part', precision='half')


def test_a_larger_input_is_tiles_without_seams():
  """Away from its borders a tile looks as it does in the whole image."""
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (224, 576, 3), np.uint8)
  left, width, seen = 64, 448, 160  # No patch sees farther than that.
  whole, _ = detectors.make(size=image.shape[:2]).infer(image[None])
  tile = image[:, left : left + width]
  alone, _ = detectors.make(size=tile.shape[:2]).infer(tile[None])
  inside = np.s_[0, :, seen : width - seen]
  np.testing.assert_allclose(
    alone[inside],
    whole[:, :, left : left + width][inside],
    atol=1e-5 * np.ptp(whole),
  )
  # The tile's borders are another matter.
  assert np.abs(alone[0] - whole[0, :, left : left + width]).max() > (
    1e-2 * np.ptp(whole)
  )


class Late:
  """Stands for results of which it turns out late that there are none."""

  def copy_to_host_async(self):
    pass

  def __array__(self, *_, **__):
    raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory')


@pytest.mark.parametrize('late', [False, True])
def test_out_of_memory_names_the_flag_that_helps(detector, monkeypatch, late):
  def run(*_):
    return (Late(), Late()) if late else np.asarray(Late())

  monkeypatch.setattr(simplenet, 'run', run)
  message = r'with 8 images of 32 x 40 at a time; lower --batch_size'
  many = detectors.as_on_accelerators(detector, batch_size=8)
  with pytest.raises(MemoryError, match=message):
    many.infer(np.zeros((9, *SIZE, 3), np.uint8))


def test_a_detector_is_loaded_without_tensorflow_datasets():
  code = (
    'import sys; from simplenet_jax.detector import Detector; '
    "sys.exit('tensorflow_datasets' in sys.modules)"
  )
  assert (
    subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
  )


def test_wrong_pixels_and_options_are_refused(detector):
  for shape, dtype in (
    ((1, *SIZE, 3), np.float32),
    ((1, *SIZE[::-1], 3), np.uint8),
    (SIZE, np.uint8),
  ):
    with pytest.raises(ValueError, match=r'expected uint8\[images, 32, 40, 3'):
      detector.infer(np.zeros(shape, dtype))
  with pytest.raises(ValueError, match="precision is 'half'; choose one of fl"):
    another(detector, precision='half')
  with pytest.raises(ValueError, match='batch_size is 0, expected at least 1'):
    another(detector, batch_size=0)
