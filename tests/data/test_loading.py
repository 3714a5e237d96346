"""Parallel decoding: order, bound, errors, clean ends."""

import itertools
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_jax.data import loading


def _read(index: int) -> np.ndarray:
  return np.full((2, 3), index, np.uint8)


def _mapping() -> int:
  """How many threads there are."""
  names = (thread.name for thread in threading.enumerate())
  return sum(name.startswith('in order') for name in names)


@settings(max_examples=30, deadline=None)
@given(
  st.integers(0, 20), st.integers(1, 8), st.integers(1, 4), st.integers(1, 3)
)
def test_every_image_once_and_in_order(count, size, workers, prefetch):
  batches = list(
    loading.batches(_read, count, size, workers=workers, prefetch=prefetch)
  )
  assert [start for start, _ in batches] == list(range(0, count, size))
  for start, images in batches:
    expected = np.arange(start, min(start + size, count))
    assert images.dtype == np.uint8
    assert images.shape == (len(expected), 2, 3)
    np.testing.assert_array_equal(images[:, 0, 0], expected)
  assert not _mapping()


def test_an_error_comes_unchanged_with_its_own_batch():
  error = ValueError('image 5 is broken')

  def read(index):
    if index == 5:
      raise error
    return _read(index)

  batches = loading.batches(read, 12, 2, workers=2)
  assert [next(batches)[0] for _ in range(2)] == [0, 2]
  with pytest.raises(ValueError, match='image 5 is broken') as caught:
    next(batches)
  assert caught.value is error
  assert not _mapping()


def test_items_are_worked_on_side_by_side(monkeypatch):
  monkeypatch.setattr(loading, 'processors', lambda: 3)
  barrier = threading.Barrier(3)

  def wait(item):
    barrier.wait(timeout=10)  # passes only when three are in here together
    return item

  assert list(loading.in_order(wait, range(6), 3)) == list(range(6))


@pytest.mark.parametrize('ahead', [1, 2, 5])
def test_no_more_are_started_than_the_consumer_allows(ahead):
  asked = []

  def endless():
    for item in itertools.count():
      asked.append(item)
      yield item

  found = loading.in_order(lambda item: item, endless(), ahead)
  assert not asked  # Nothing begins before the first result is asked for.
  for taken, result in enumerate(itertools.islice(found, 9), start=1):
    assert result == taken - 1
    assert len(asked) == taken + ahead
  assert _mapping()
  found.close()
  assert not _mapping()


@pytest.mark.parametrize(
  ('allowed', 'every', 'neighbours', 'expected'),
  [
    *((8, 8, 1, 8), (8, 8, 4, 2), (3, 8, 1, 3), (2, 2, 4, 1)),
    (2, 8, 4, 2),  # A scheduler has divided them already.
  ],
)
def test_processes_of_a_machine_share_its_processors(
  monkeypatch, allowed, every, neighbours, expected
):
  monkeypatch.setattr(os, 'cpu_count', lambda: every)
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(allowed)))
  assert loading.processors(neighbours) == expected
