"""Detectors on many images: batches, streams, threads and what fails there."""

import threading
import weakref
from concurrent import futures

import numpy as np
import pytest

from simplenet_jax.models import simplenet
from tests.detection import detectors
from tests.test_detector import SIZE, assert_equal


@pytest.fixture(scope='module')
def detector():
  """Of one level only, as it is compiled for many kinds of batches."""
  return detectors.make(heads=2, levels=(1,))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('images') / 'line'
  detectors.pictures(folder)
  return folder


def streaming(detector, batch):
  """The same detector, in batches if there are to be any."""
  if batch == 1:
    return detector
  return detectors.as_on_accelerators(detector, 'float32', batch)


@pytest.mark.parametrize(
  ('precision', 'tolerance', 'sizes'),
  [('float32', 1e-5, (1, 8)), ('bfloat16', 1e-2, (1, 3, 8))],
)
def test_the_size_of_batches_changes_nothing(
  detector, precision, tolerance, sizes
):
  given = list(detectors.arrays(13))  # A multiple of no batch size.
  # What accelerators compute agrees with what CPUs do, if to fewer digits.
  expected, allowed = list(detector.predict(given)), 5 * tolerance
  before = simplenet.run._cache_size()
  for size in sizes:
    many = detectors.as_on_accelerators(detector, precision, size)
    found = list(many.predict(given))
    assert_equal(found, expected, allowed)
    expected, allowed = found, tolerance
  # 13 images are 8 and 5, and 5 are padded to 8.
  assert simplenet.run._cache_size() - before <= len(sizes)


def test_a_warm_detector_compiles_nothing():
  # A size of its own, so that nothing is compiled before.
  cold = detectors.make(size=(32, 32), levels=(1,))
  cold = detectors.as_on_accelerators(cold, 'float32', 8)
  before = simplenet.run._cache_size()
  cold.warm_up(17)
  assert simplenet.run._cache_size() == before + 2  # For 8 and for 1.
  assert len(list(cold.predict(np.zeros((17, 9, 9, 3), np.uint8)))) == 17
  cold.warm_up()  # For one image, which is compiled already.
  assert simplenet.run._cache_size() == before + 2


class Stream:
  """Tiny images that know how many were taken, and how many still live."""

  def __init__(self, count):
    self.count, self.taken, self.gone, self.watched = count, 0, 0, []

  def __iter__(self):
    for index in range(self.count):
      image = np.full((9, 11, 3), index % 256, np.uint8)
      self.watched.append(weakref.ref(image, self.on_gone))
      self.taken += 1
      yield image

  def on_gone(self, _):
    self.gone += 1


@pytest.mark.parametrize('batch', [1, 64])
@pytest.mark.parametrize('lookahead', [None, 0, 1, 3, 7, 30, 256, 10**9])
def test_no_more_is_asked_for_than_is_allowed(detector, batch, lookahead):
  """Nor is less: the last of the images is one that may be asked for."""
  stream, allowed = Stream(300), lookahead or 0
  most, held, done = 0, 0, 0
  many = streaming(detector, batch)
  for _ in many.predict(iter(stream), lookahead=lookahead):
    most = max(most, stream.taken - done - 1)
    held = max(held, stream.taken - stream.gone)
    done += 1
  assert done == stream.count
  busy = 4 * batch + 1
  assert min(allowed, busy, 299) - 3 <= most <= min(allowed, busy)
  assert held <= most + 3


def workers():
  """Threads that read images."""
  return {one for one in threading.enumerate() if 'in order' in one.name}


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
  given = list(detectors.arrays(16))
  expected = [p.score for p in detector.predict(given)]
  with futures.ThreadPoolExecutor(8) as pool:
    for found in pool.map(lambda _: list(detector.predict(given)), range(8)):
      scores = [p.score for p in found]
      np.testing.assert_allclose(scores, expected, atol=1e-6)


@pytest.mark.parametrize('batch', [1, 8])
def test_what_cannot_be_used_is_told_and_left_out(
  detector, folder, batch, tmp_path
):
  paths, broken = sorted(folder.iterdir()), tmp_path / 'broken.png'
  broken.write_bytes(paths[0].read_bytes()[:200])
  floats, missing = np.zeros((40, 40, 3)), tmp_path / 'missing.png'
  given = [broken, *paths[:3], floats, *paths[3:], missing]
  told = []
  many = streaming(detector, batch)
  found = list(many.predict(given, on_error=lambda *error: told.append(error)))
  assert [p.source for p in found] == paths
  assert_equal(found, many.predict(paths))
  assert [source for source, _ in told] == [broken, 4, missing]
  assert 'broken.png: cannot be read' in str(told[0][1])
  assert 'an array is float64[40, 40, 3], expected uint8[' in str(told[1][1])
  assert isinstance(told[2][1], FileNotFoundError)
  with pytest.raises(ValueError, match='broken'):
    list(many.predict(given))


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
  many = detectors.as_on_accelerators(detector, batch_size=8)
  with pytest.raises(MemoryError, match=r'8 images .* lower --batch_size'):
    many.infer(np.zeros((9, *SIZE, 3), np.uint8))
