"""Decoding images in threads: PIL releases the interpreter lock meanwhile."""

import collections
import contextlib
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
from typing import Any, TypeVar

import numpy as np

_In = TypeVar('_In')
_Out = TypeVar('_Out')
Batches = Generator[tuple[int, np.ndarray]]


def in_order(
  function: Callable[[_In], _Out], items: Iterable[_In], ahead: int
) -> Generator[_Out]:
  """Maps items, perhaps without end, in threads, at most `ahead` at a time."""
  results = _started(function, items, ahead)
  next(results)
  yield from results


def _started(function, items, ahead, workers=None) -> Generator[Any]:
  """Yields once when threads have begun, then all results."""
  items = iter(items)
  pool = futures.ThreadPoolExecutor(workers or processors(), 'in order')
  try:
    waiting = collections.deque(
      pool.submit(function, item) for item in itertools.islice(items, ahead)
    )
    yield
    while waiting:
      result = waiting.popleft().result()
      for item in itertools.islice(items, 1):
        waiting.append(pool.submit(function, item))
      yield result
  finally:
    pool.shutdown(wait=True, cancel_futures=True)


def batches(
  read: Callable[[int], np.ndarray],
  count: int,
  size: int,
  *,
  workers: int | None = None,
  prefetch: int = 2,
) -> Batches:
  """Yields batches of images, each with the index of its first, in order.

  Threads begin at once to decode `prefetch` batches ahead. What `read` raises
  comes with its batch; who stops early calls `close`.
  """

  def stacked() -> Generator[Any]:
    images = _started(read, range(count), prefetch * size, workers)
    with contextlib.closing(images):
      yield next(images)
      for start in range(0, count, size):
        yield start, np.stack([*itertools.islice(images, size)])

  found = stacked()
  next(found)
  return found


def late(items: Iterable[_Out], count: int) -> Iterator[_Out]:
  """Yields each item once `count` more have been asked for, or all have."""
  waiting = collections.deque[_Out]()
  for item in items:
    waiting.append(item)
    if len(waiting) > count:
      yield waiting.popleft()
  yield from waiting


def processors(neighbours: int = 1) -> int:
  """Returns how many processors this one of `neighbours` processes may use."""
  allowed = every = os.cpu_count() or 1
  if hasattr(os, 'sched_getaffinity'):
    allowed = len(os.sched_getaffinity(0))
  # Where a scheduler has divided them already, that is not done again.
  return max(1, min(allowed, every // neighbours))
