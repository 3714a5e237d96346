"""Decoding images in threads, in order, never more than a few ahead.

Threads suffice, as PIL releases the interpreter lock while it decodes and
resizes.
"""

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
  """Maps in threads, in order, never more than a few results ahead.

  Args:
    function: Called from several threads; what it raises is raised here.
    items: Taken one by one, as results are; need not end.
    ahead: How many may be under way or waiting.
    workers: Threads; None for one per processor this process may use.
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

  Each item is `(start, images)`: the index of the batch's first image and the
  stacked arrays, `[<= batch_size, ...]`. At most `(prefetch + 1) * batch_size`
  images are held at a time. A consumer that stops early calls `close`.
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
    """Prepares; nothing is decoded before `start` or the first batch.

    Args:
      read: Decodes image `i` of `0 .. count - 1`; called from several threads.
        What it raises is raised when the batch with that image is asked for.
      count: The number of images.
      batch_size: Images in a batch; the last one may be short.
      workers: Threads; None for one per processor this process may use.
      prefetch: Batches to decode ahead of the one handed out, at least 1.
    """
    self._count, self._size = count, batch_size
    self._starts = iter(range(0, count, batch_size))
    self._images = _started(read, range(count), prefetch * batch_size, workers)
    self._begun = False

  def start(self) -> None:
    """Begins to decode ahead."""
    if not self._begun:
      self._begun = True
      next(self._images)

  def __next__(self) -> tuple[int, np.ndarray]:
    """Returns the next batch, once it is decoded."""
    self.start()
    start = next(self._starts, None)
    if start is None:
      self.close()
      raise StopIteration
    # No name is bound to the batch: it is freed with the consumer's.
    return start, self._stack(start)

  def close(self) -> None:
    """Ends the threads; what is being decoded is waited for."""
    self._images.close()

  def _stack(self, start: int) -> np.ndarray:
    """Copies a batch's images into one array, each as it comes."""
    first = next(self._images)
    batch = np.empty(
      (min(self._size, self._count - start), *first.shape), first.dtype
    )
    batch[0] = first
    for row in range(1, len(batch)):
      image = next(self._images)
      if image.shape != first.shape or image.dtype != first.dtype:
        self.close()
        raise ValueError(
          f'image {start + row} is {image.dtype}{list(image.shape)}, but '
          f'image {start} is {first.dtype}{list(first.shape)}; a batch needs '
          'one size'
        )
      batch[row] = image
    return batch


def processors(neighbours: int = 1) -> int:
  """Returns how many processors this process may use.

  Args:
    neighbours: Processes like it on this machine, itself included.
  """
  every = os.cpu_count() or 1
  allowed = every
  if hasattr(os, 'sched_getaffinity'):
    allowed = len(os.sched_getaffinity(0))
  # Where a scheduler has divided them already, that is not done again.
  return max(1, min(allowed, every // neighbours))
