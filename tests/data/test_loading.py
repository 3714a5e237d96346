"""Parallel decoding: order, bound, errors, clean ends."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_jax.data import loading


def _read(index: int) -> np.ndarray:
  return np.full((2, 3), index, np.uint8)


def _threads() -> list[str]:
  names = (thread.name for thread in threading.enumerate())
  return [name for name in names if name.startswith('decode')]


@settings(max_examples=30, deadline=None)
@given(
  st.integers(0, 20), st.integers(1, 8), st.integers(1, 4), st.integers(1, 3)
)
def test_every_image_once_and_in_order(count, size, workers, prefetch):
  batches = list(
    loading.Decoder(_read, count, size, workers=workers, prefetch=prefetch)
  )
  assert [start for start, _ in batches] == list(range(0, count, size))
  for start, images in batches:
    expected = np.arange(start, min(start + size, count))
    assert images.dtype == np.uint8
    assert images.shape == (len(expected), 2, 3)
    np.testing.assert_array_equal(images[:, 0, 0], expected)
  assert not _threads()


def test_slow_images_do_not_change_the_order():
  def read(index):
    time.sleep(0.02 if index % 3 == 0 else 0)
    return _read(index)

  batches = loading.Decoder(read, 10, 4, workers=4)
  values = np.concatenate([images for _, images in batches])
  np.testing.assert_array_equal(values[:, 0, 0], np.arange(10))


@pytest.mark.parametrize('prefetch', [1, 3])
def test_a_slow_consumer_bounds_the_images_held(prefetch):
  size, started, finished = 4, [0], threading.Semaphore(0)
  lock = threading.Lock()

  def read(index):
    with lock:
      started[0] += 1
    finished.release()
    return _read(index)

  batches = loading.Decoder(read, 40, size, workers=3, prefetch=prefetch)
  assert started[0] == 0  # nothing begins before the first batch is asked for
  expected = 0
  for done, _ in enumerate(batches):
    # All that may be decoded ahead is, while the consumer sits on its batch.
    reachable = min((done + 1 + prefetch) * size, 40)
    while expected < reachable:
      assert finished.acquire(timeout=10)
      expected += 1
    time.sleep(0.01)
    assert started[0] == reachable


def test_reads_run_side_by_side():
  barrier = threading.Barrier(3)

  def read(index):
    barrier.wait(timeout=10)  # passes only when three are in here together
    return _read(index)

  assert len(list(loading.Decoder(read, 6, 3, workers=3))) == 2


def test_an_error_comes_unchanged_with_its_own_batch():
  error = ValueError('image 5 is broken')

  def read(index):
    if index == 5:
      raise error
    return _read(index)

  batches = loading.Decoder(read, 12, 2, workers=2)
  assert next(batches)[0] == 0
  assert next(batches)[0] == 2
  with pytest.raises(ValueError, match='image 5 is broken') as caught:
    next(batches)
  assert caught.value is error
  assert not _threads()


def test_a_consumer_that_stops_early_ends_the_threads():
  calls, closing = [], threading.Event()

  def read(index):
    calls.append(index)
    if index == 1:
      assert closing.wait(timeout=10)
    return _read(index)

  batches = loading.Decoder(read, 99, 1, workers=1, prefetch=5)
  next(batches)
  assert _threads()
  # The read that is under way ends after the generator began to close; those
  # behind it never begin.
  threading.Timer(0.1, closing.set).start()
  batches.close()
  assert closing.is_set()
  assert not _threads()
  assert set(calls) <= {0, 1}


@pytest.mark.parametrize(
  'odd', [np.zeros((3, 2), np.uint8), np.zeros((2, 3), np.float32)]
)
def test_images_that_do_not_stack_are_refused(odd):
  def read(index):
    return odd if index == 3 else _read(index)

  batches = loading.Decoder(read, 4, 4)
  with pytest.raises(ValueError, match=r'image 3 .* image 0 is uint8\[2, 3\]'):
    next(batches)


@pytest.mark.parametrize(
  'changed',
  [{'count': -1}, {'batch_size': 0}, {'workers': 0}, {'prefetch': 0}],
)
def test_wrong_numbers_are_refused_at_once(changed):
  arguments = {'count': 4, 'batch_size': 2, 'workers': 1, 'prefetch': 1}
  with pytest.raises(ValueError, match='expected a count of at least 0'):
    loading.Decoder(_read, **{**arguments, **changed})
