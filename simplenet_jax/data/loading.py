"""Decoding images in threads, in order, never more than a few ahead."""

import collections
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
from typing import TypeVar

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
    function: called from several threads.
    items: taken one by one, as results are; need not end.
    ahead: how many may be under way or waiting.
    workers: threads; None for one per processor this process may use.

  Yields:
    `function(item)` for each item; what it raises is raised here.
  """
  items = iter(items)
  pool = futures.ThreadPoolExecutor(
    workers or processors(), thread_name_prefix='in order'
  )
  try:
    waiting = collections.deque(
      pool.submit(function, item) for item in itertools.islice(items, ahead)
    )
    while waiting:
      result = waiting.popleft().result()
      for item in itertools.islice(items, 1):
        waiting.append(pool.submit(function, item))
      yield result
  finally:
    pool.shutdown(wait=True, cancel_futures=True)


class Decoder(Iterator[tuple[int, np.ndarray]]):
  """Yields batches of decoded images while later ones are being decoded.

  Threads suffice, as PIL releases the interpreter lock while it decodes and
  resizes. At most `(prefetch + 1) * batch_size` images are held at a time:
  those being decoded or waiting, and the batch handed out. When the consumer
  stops early and closes it, what has not begun is cancelled and the threads
  end.

  Each item is `(start, images)`: the index of the batch's first image and the
  stacked arrays, `[<= batch_size, ...]`.
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
      read: decodes image `i` of `0 .. count - 1`; called from several threads.
      count: the number of images.
      batch_size: images in a batch; the last one may be short.
      workers: threads; None for one per processor this process may use.
      prefetch: batches to decode ahead of the one handed out, at least 1.

    Raises:
      ValueError: `count` is negative or another number below 1; later, with a
        batch, when its images differ in shape or dtype. What `read` raises is
        raised when the batch with that image is asked for.
    """
    if workers is None:
      workers = processors()
    if count < 0 or min(batch_size, workers, prefetch) < 1:
      raise ValueError(
        f'count={count}, batch_size={batch_size}, workers={workers},'
        f' prefetch={prefetch}: expected a count of at least 0, else 1'
      )
    self._read, self._workers = read, workers
    self._ahead = prefetch * batch_size
    self._indices = iter(range(count))
    self._waiting: collections.deque[futures.Future] = collections.deque()
    self._pool: futures.ThreadPoolExecutor | None = None
    self._batches = self._generate(count, batch_size)

  def start(self) -> None:
    """Begins to decode ahead."""
    if self._pool is None:
      self._pool = futures.ThreadPoolExecutor(
        self._workers, thread_name_prefix='decode'
      )
      self._submit(self._pool)

  def __next__(self) -> tuple[int, np.ndarray]:
    """Returns the next batch, once it is decoded."""
    self.start()
    return next(self._batches)

  def close(self) -> None:
    """Ends the threads; what is being decoded is waited for."""
    self._batches.close()
    if self._pool:
      self._pool.shutdown(wait=True, cancel_futures=True)

  def _submit(self, pool: futures.ThreadPoolExecutor) -> None:
    for index in itertools.islice(
      self._indices, self._ahead - len(self._waiting)
    ):
      self._waiting.append(pool.submit(self._read, index))

  def _generate(self, count: int, batch_size: int) -> Generator:
    try:
      for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        # No name is bound to the batch: it is freed with the consumer's.
        yield start, self._collect(start, size)
    finally:
      if self._pool:
        self._pool.shutdown(wait=True, cancel_futures=True)

  def _collect(self, start: int, size: int) -> np.ndarray:
    """Stacks the next images, each copied as it comes; refills the queue."""
    first = self._waiting[0].result()
    batch = np.empty((size, *first.shape), first.dtype)
    for row in range(size):
      image = self._waiting.popleft().result()
      if image.shape != first.shape or image.dtype != first.dtype:
        raise ValueError(
          f'image {start + row} is {image.dtype}{list(image.shape)}, but '
          f'image {start} is {first.dtype}{list(first.shape)}; a batch needs '
          'one size'
        )
      batch[row] = image
    if self._pool:
      self._submit(self._pool)
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
