"""Detectors as programs use them: images in, predictions out."""

import threading
import weakref
from concurrent import futures

import jax
import numpy as np
import pytest
from PIL import Image

from simplenet_jax.data import images
from simplenet_jax.detection.thresholds import NONE
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


def test_arrays_are_numbered(detector, folder, line):
  pixels = [
    np.asarray(images.read_image(path)) for path in sorted(folder.iterdir())
  ]
  assert len({array.shape for array in pixels}) > 1
  for given in (pixels, iter(pixels), (array for array in pixels)):
    found = list(detector.predict(given))
    assert [p.source for p in found] == list(range(6))
    assert_equal(found, line)
  assert_equal(detector.predict(pixels[2]), line[2:3])
  batch = np.stack(pixels[::3])
  assert batch.ndim == 4
  assert_equal(detector.predict(batch), line[::3])


def test_pil_images_are_read_as_their_files(detector, folder, line):
  opened = [Image.open(path) for path in sorted(folder.iterdir())]
  assert {image.mode for image in opened} == {'RGB', 'L', 'I;16'}
  found = list(detector.predict(opened))
  assert [p.source for p in found] == list(range(6))
  assert_equal(found, line)
  (found,) = detector.predict(opened[0])
  assert found.source == 0


def test_kinds_can_be_mixed(detector, folder, line):
  paths = sorted(folder.iterdir())
  given = [paths[0], Image.open(paths[1]), str(paths[2])]
  found = list(detector.predict(given))
  assert [p.source for p in found] == [paths[0], 1, paths[2]]
  assert_equal(found, line[:3])


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGBA', 'CMYK', 'I'])
def test_pil_images_of_every_mode_are_read_as_their_files(
  detector, tmp_path, mode
):
  pixels = next(detectors.arrays())
  if mode == 'I':
    image = Image.fromarray(pixels[..., 0].astype(np.int32) * 257)
  else:
    image = Image.fromarray(pixels).convert(mode)
  if mode == 'P':
    image.info['transparency'] = bytes(range(256))
  image.save(tmp_path / 'image.tiff')
  expected = list(detector.predict(tmp_path))
  before = dict(image.info)
  assert_equal(detector.predict(image), expected)
  assert image.mode == mode  # The caller's image is left as it was.
  assert image.info == before


@pytest.mark.parametrize('given', [3, None])
def test_other_things_are_refused(detector, given):
  with pytest.raises(TypeError, match='expected images as arrays, paths'):
    next(detector.predict(given))


def test_nothing_gives_nothing(detector, tmp_path):
  assert list(detector.predict([])) == []
  assert list(detector.predict(np.zeros((0, 9, 9, 3), np.uint8))) == []
  with pytest.raises(FileNotFoundError, match='no images'):
    next(detector.predict(tmp_path))


def test_maps_are_in_the_images_pixels(detector, folder):
  for found in detector.predict(folder):
    assert found.input_map.shape == SIZE
    assert found.map.shape == images.image_size(found.source)
    assert found.map.dtype == np.float32
    assert np.isfinite(found.map).all()


def test_what_is_cropped_off_is_not_a_number(cropping):
  pixels = [*detectors.arrays(3), np.zeros((52, 31, 3), np.uint8)]
  for one, found in zip(pixels, cropping.predict(pixels), strict=True):
    height, width = one.shape[:2]
    short = min(height, width)
    seen = []
    for side in (height, width):
      resized = int(40 * side / short)
      start = round((resized - CROP) / 2)
      # Pixel i lies between i and i + 1 of `side`; some of it must be inside.
      edges = np.arange(side + 1) * resized / side
      seen.append((edges[1:] > start) & (edges[:-1] < start + CROP))
    inside = seen[0][:, None] & seen[1]
    assert 0 < inside.mean() < 1
    np.testing.assert_array_equal(np.isfinite(found.map), inside)


def test_the_map_lies_where_the_image_does(cropping):
  pixels = np.full((90, 60, 3), 120, np.uint8)
  changed = pixels.copy()
  changed[24:36, 42:52] = 0
  plain, marked = (p.map for p in cropping.predict([pixels, changed]))
  moved = np.nan_to_num(np.abs(marked - plain))
  row, column = np.unravel_index(moved.argmax(), moved.shape)
  assert (row, column) == pytest.approx((30, 47), abs=8)


def test_verdicts_follow_the_thresholds(cropping):
  found = list(cropping.predict(detectors.arrays()))
  limits = cropping.thresholds
  verdicts = [p.anomalous for p in found]
  assert verdicts == [p.score > limits.image for p in found]
  assert {*verdicts} == {True, False}
  for p in found:
    assert p.mask.dtype == bool
    np.testing.assert_array_equal(p.mask, p.map > limits.pixel)
    assert p.normalised == pytest.approx(
      (p.score - limits.median) / (limits.image - limits.median)
    )
  assert any(p.mask.any() for p in found)
  assert not all(p.mask.all() for p in found)


def test_without_thresholds_there_are_no_verdicts(detector):
  assert detector.thresholds == NONE
  for found in detector.predict(detectors.arrays(2)):
    assert found.anomalous is None
    assert found.mask is None
    assert found.seconds > 0
    with pytest.raises(ValueError, match='calibrated'):
      _ = found.normalised


def test_each_threshold_is_enough_for_its_own_verdict(detector):
  changed = another(detector)
  changed.thresholds = NONE.replace(image=0.0)
  (found,) = changed.predict(detectors.arrays(1))
  assert found.anomalous is (found.score > 0)
  assert found.mask is None
  changed.thresholds = NONE.replace(pixel=0.0)
  (found,) = changed.predict(detectors.arrays(1))
  assert found.anomalous is None
  np.testing.assert_array_equal(found.mask, found.map > 0)


def test_a_score_is_no_lower_than_its_map(detector):
  for found in detector.predict(detectors.arrays()):
    assert found.score >= found.input_map.max() - 1e-5


COUNT = 13  # A multiple of no batch size.


@pytest.fixture(scope='module')
def alone(detector):
  """Each image alone, as CPUs compute."""
  return [
    found
    for pixels in detectors.arrays(COUNT)
    for found in detector.predict(pixels)
  ]


def test_company_changes_nothing(detector, alone):
  found = list(detector.predict(detectors.arrays(COUNT)))
  assert_equal(found, alone)
  scores = [p.score for p in alone]
  assert np.ptp(scores) > 0.1


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


def test_odd_numbers_compile_nothing(detector):
  pixels = np.random.default_rng(0).integers(0, 256, (15, *SIZE, 3), np.uint8)
  many = detectors.as_on_accelerators(detector, 'float32', 8)
  maps, scores = many.infer(pixels)
  many.infer(pixels[:1])
  before, compiled = simplenet.run._cache_size(), Compilations()
  for count in (1, 5, 6, 7, 8, 9, 13, 14):
    some_maps, some_scores = many.infer(pixels[:count])
    assert some_maps.shape == (count, *SIZE)
    assert some_scores.shape == (count,)
    np.testing.assert_allclose(some_maps, maps[:count], atol=1e-5)
    np.testing.assert_allclose(some_scores, scores[:count], atol=1e-5)
  assert simplenet.run._cache_size() == before
  assert compiled.count == 0


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


def test_detectors_of_one_kind_share_what_is_compiled(detector):
  list(detector.predict(detectors.arrays(1)))
  other = detectors.make(heads=2, levels=(1,))
  other.weights['head.tail'] = -other.weights['head.tail']
  other = another(other)
  before = simplenet.run._cache_size()
  (found,) = other.predict(detectors.arrays(1))
  (first,) = detector.predict(detectors.arrays(1))
  assert simplenet.run._cache_size() == before
  np.testing.assert_allclose(found.input_map, -first.input_map, atol=1e-5)


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


@pytest.mark.parametrize(
  ('shape', 'dtype'),
  [
    ((1, *SIZE, 3), np.float32),
    ((1, *SIZE[::-1], 3), np.uint8),
    ((1, *SIZE, 4), np.uint8),
    ((1, *SIZE), np.uint8),
    ((*SIZE, 3), np.uint8),
  ],
)
def test_pixels_of_another_shape_are_refused(detector, shape, dtype):
  with pytest.raises(ValueError, match=r'expected uint8\[images, 32, 40, 3'):
    detector.infer(np.zeros(shape, dtype))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'precision': 'half'}, "precision is 'half'; choose one of float32"),
    ({'batch_size': 0}, 'batch_size is 0, expected at least 1'),
  ],
)
def test_other_manners_are_refused(detector, options, message):
  with pytest.raises(ValueError, match=message):
    another(detector, **options)


class Compilations:
  """Counts what is compiled from now on."""

  def __init__(self):
    self.count = 0
    jax.monitoring.register_event_duration_secs_listener(self._on_event)

  def _on_event(self, event, duration, **_):
    self.count += event == '/jax/core/compile/backend_compile_duration'


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
def test_no_more_is_asked_for_than_is_allowed(detector, batch, lookahead):
  """Nor is less: the last of the images is one that may be asked for."""
  stream, allowed = Stream(60), lookahead or 0
  most, done, sizes = 0, 0, []
  given = streaming(detector, batch)
  start = given._computation.start
  given._computation.start = lambda pixels: (
    sizes.append(len(pixels)) or start(pixels)
  )
  try:
    for _ in given.predict(iter(stream), lookahead=lookahead):
      most = max(most, stream.taken - done - 1)
      done += 1
  finally:
    del given._computation.start
  assert done == 60
  busy = 4 * batch + 1
  assert min(allowed, busy, 59) - 3 <= most <= min(allowed, busy)
  assert max(sizes) <= allowed + 1


@pytest.mark.parametrize('batch', [1, 64])
@pytest.mark.parametrize('lookahead', [None, 0, 1, 2, 5, 9])
def test_a_line_that_waits_for_verdicts_does_not_stand_still(
  detector, batch, lookahead
):
  """The next part comes when fewer than it allows are without a verdict."""
  told = threading.Semaphore((lookahead or 0) + 1)

  def line():
    for index in range(20):
      assert told.acquire(timeout=10), f'no verdict before part {index}'
      yield np.full((*SIZE, 3), index, np.uint8)

  found = streaming(detector, batch).predict(line(), lookahead=lookahead)
  for count, one in enumerate(found):
    assert one.source == count
    told.release()
  assert count == 19


def test_what_has_a_length_keeps_the_device_busy(detector):
  given = list(detectors.arrays(13))
  sizes, many = [], streaming(detector, 8)
  start = many._computation.start
  many._computation.start = lambda pixels: (
    sizes.append(len(pixels)) or start(pixels)
  )
  list(many.predict(given))
  assert sizes == [8, 5]


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


def test_an_endless_stream_is_read_as_it_is_asked_for(detector):
  stream = Stream(10**9)
  predictions = detector.predict(stream)
  assert stream.taken == 0
  for count in range(1, 20):
    next(predictions)
    assert stream.taken == count
  predictions.close()


def test_gray_frames_are_gray_images(detector, tmp_path):
  gray = next(detectors.arrays())[..., 0]
  deep = gray.astype(np.uint16) * 257
  Image.fromarray(gray).save(tmp_path / 'gray.png')
  (expected,) = detector.predict(tmp_path / 'gray.png')
  given = [gray, gray[..., None], deep, deep[..., None], gray[:, :, None]]
  for found in detector.predict(given):
    assert found.score == expected.score


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


def test_pil_images_are_turned_and_refused_as_files_are(detector, tmp_path):
  pixels = next(detectors.arrays())
  turned = Image.fromarray(np.rot90(pixels))  # As a camera held upright.
  exif = Image.Exif()
  exif[0x0112] = 6
  turned.save(tmp_path / 'turned.png', exif=exif)
  (found,) = detector.predict(Image.open(tmp_path / 'turned.png'))
  (expected,) = detector.predict(pixels)
  assert found.frame == expected.frame
  assert found.score == expected.score
  pages = [Image.fromarray(pixels)] * 2
  pages[0].save(tmp_path / 'pages.tiff', save_all=True, append_images=pages[1:])
  with (
    Image.open(tmp_path / 'pages.tiff') as opened,
    pytest.raises(ValueError, match='holds 2 pictures'),
  ):
    list(detector.predict(opened))


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


def test_the_end_and_an_error_end_the_threads(detector, tmp_path):
  before = workers()
  list(detector.predict(Stream(3)))
  assert not workers() - before
  with pytest.raises(FileNotFoundError):
    list(detector.predict([tmp_path / 'none.png']))
  assert not workers() - before


def test_an_error_of_the_source_is_raised(detector):
  def given():
    yield from detectors.arrays(5)
    raise RuntimeError('the camera is gone')

  before = workers()
  with pytest.raises(RuntimeError, match='the camera is gone'):
    list(detector.predict(given()))
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


@pytest.mark.parametrize(
  ('index', 'kind', 'message'),
  [
    (0, ValueError, r'broken\.png'),
    (3, FileNotFoundError, r'missing\.png'),
    (5, ValueError, r'int16\[40, 40\]'),
  ],
)
def test_without_a_listener_it_is_raised(detector, given, index, kind, message):
  with pytest.raises(kind, match=message):
    list(detector.predict([given[1], given[index]]))


def test_what_a_listener_raises_comes_through(detector, given):
  class EnoughError(Exception):
    pass

  def refuse(source, error):
    raise EnoughError

  before = workers()
  with pytest.raises(EnoughError):
    list(detector.predict(given, on_error=refuse))
  assert not workers() - before


def test_an_image_too_elongated_to_be_cropped_is_one_of_them(cropping):
  told = []
  long = np.zeros((1, 500_000, 3), np.uint8)
  assert not list(
    cropping.predict(long, on_error=lambda *error: told.append(error))
  )
  assert 'too elongated' in str(told[0][1])


@pytest.mark.parametrize(
  ('rate', 'beyond'),
  # Of 9 images and a new one, the k-th smallest of 9 is exceeded by the new
  # one with 1 - k / 10.
  [(0.01, 0), (0.1, 0), (0.11, 0), (0.2, 1), (0.35, 2), (0.5, 4), (0.99, 8)],
)
def test_thresholds_are_the_scores_of_their_rank(detector, rate, beyond):
  given = list(detectors.arrays(9))
  scores = sorted(p.score for p in detector.predict(given))
  peaks = sorted(p.input_map.max() for p in detector.predict(given))
  assert len(set(scores)) == len(set(peaks)) == 9
  calibrated = another(detector)
  assert calibrated.calibrate(given, rate) is calibrated
  limits = calibrated.thresholds
  assert limits.image == pytest.approx(scores[8 - beyond], abs=1e-6)
  assert limits.pixel == pytest.approx(peaks[8 - beyond], abs=1e-6)
  assert limits.promised == pytest.approx((beyond + 1) / 10)
  assert limits.promised <= max(rate, 0.1) + 1e-9
  assert (limits.asked, limits.images) == (rate, 9)
  assert limits.median == pytest.approx(scores[4], abs=1e-6)
  found = list(calibrated.predict(given))
  assert sum(p.anomalous for p in found) == beyond
  assert sum(p.input_map.max() > limits.pixel for p in found) == beyond
  drivers = {name for name, _ in limits.drivers}
  assert drivers == {
    str(p.source)
    for p in found
    if p.score >= limits.image or p.input_map.max() >= limits.pixel
  }
  values = [score for _, score in limits.drivers]
  assert values == sorted(values, reverse=True)


def test_nothing_to_calibrate_by_is_refused(detector):
  changed = another(detector)
  changed.thresholds = NONE.replace(image=1.0)
  with pytest.raises(ValueError, match='no normal images'):
    changed.calibrate([])
  with pytest.raises(ValueError, match=r'rate of false alarms is 1\.5'):
    changed.calibrate(detectors.arrays(2), 1.5)
  assert changed.thresholds == NONE.replace(image=1.0)


def test_images_that_cannot_be_used_are_raised_or_left_out(detector, folder):
  given = [*sorted(folder.iterdir()), folder / 'missing.png']
  changed = another(detector)
  with pytest.raises(FileNotFoundError, match=r'missing\.png'):
    changed.calibrate(given)
  assert changed.thresholds == NONE
  told = []
  changed.calibrate(given, on_error=lambda *error: told.append(error))
  assert changed.thresholds.images == 6
  assert [source for source, _ in told] == [folder / 'missing.png']


def test_a_saved_detector_is_the_same(cropping, folder, tmp_path):
  calibrated = another(cropping).calibrate(folder, 0.3)
  assert calibrated.thresholds.drivers
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
  pixels = np.zeros((100, *SIZE, 3), np.uint8)
  assert [len(part) for part in loaded.parts(pixels)] == [64, 36]
  loaded = Detector.load(tmp_path / 'part', precision='bfloat16', batch_size=30)
  assert [len(part) for part in loaded.parts(pixels)] == [30, 30, 30, 10]
  with pytest.raises(ValueError, match="precision is 'half'"):
    Detector.load(tmp_path / 'part', precision='half')


def test_what_is_set_later_is_saved(detector, tmp_path):
  changed = another(detector)
  changed.thresholds = NONE.replace(image=0.25, pixel=0.125)
  changed.save(tmp_path / 'part')
  limits = Detector.load(tmp_path / 'part').thresholds
  assert (limits.image, limits.pixel) == (0.25, 0.125)
  assert limits.promised is None
  assert detector.thresholds == NONE


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
