"""Decoding images in threads: PIL releases the interpreter lock meanwhile."""

import collections
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
from typing import Any, TypeVar

import numpy as np

_In = TypeVar('_In')
_Out = TypeVar('_Out')


def in_order(
  function: Callable[[_In], _Out],
  items: Iterable[_In],
  ahead: int,
  workers: int | None = None,
) -> Generator[_Out, None, None]:
  """Maps in threads, in order, with at most `ahead` under way or waiting.

  Items need not end. By default each processor that may be used has a thread.
  """
  results = _started(function, items, ahead, workers)
  next(results)
  yield from results


def _started(function, items, ahead, workers) -> Generator[Any, None, None]:
  """Yields once when threads have begun, then all results."""
  items = iter(items)
  pool = futures.ThreadPoolExecutor(
    workers or processors(), thread_name_prefix='in order'
  )
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


class Decoder(Iterator[tuple[int, np.ndarray]]):
  """Yields batches of decoded images while later ones are being decoded.

  Each item is the index of the batch's first image, and `[<= batch_size, ...]`.
  What `read` raises comes with its batch; who stops early calls `close`.
  """

  def __init__(
    self,
    read: Callable[[int], np.ndarray],
    count: int,
    batch_size: int,
    *,
    workers: int | None = None,
    prefetch: int = 2,
  ):
    self._size, self._position = batch_size, 0
    self._images = _started(read, range(count), prefetch * batch_size, workers)
    next(self._images)

  def __next__(self) -> tuple[int, np.ndarray]:
    """Returns the next batch, once it is decoded."""
    images = [*itertools.islice(self._images, self._size)]
    if not images:
      raise StopIteration
    start, self._position = self._position, self._position + len(images)
    return start, np.stack(images)

  def close(self) -> None:
    """Ends the threads; what is being decoded is waited for."""
    self._images.close()


def processors(neighbours: int = 1) -> int:
  """Returns how many processors this one of `neighbours` processes may use."""
  allowed = every = os.cpu_count() or 1
  if hasattr(os, 'sched_getaffinity'):
    allowed = len(os.sched_getaffinity(0))
  # Where a scheduler has divided them already, that is not done again.
  return max(1, min(allowed, every // neighbours))
