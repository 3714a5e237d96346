"""Decoding images in threads, in order, never more than a few ahead."""

import collections
import itertools
import os
from collections.abc import Callable, Generator
from concurrent import futures

import numpy as np

Batches = Generator[tuple[int, np.ndarray], None, None]


def decode_batches(
  read: Callable[[int], np.ndarray],
  count: int,
  batch_size: int,
  *,
  workers: int | None = None,
  prefetch: int = 2,
) -> Batches:
  """Yields batches of decoded images while later ones are being decoded.

  Threads suffice, as PIL releases the interpreter lock while it decodes and
  resizes. At most `(prefetch + 1) * batch_size` images are held at a time:
  those being decoded or waiting, and the batch handed out. When the consumer
  stops early (or the generator is closed), what has not begun is cancelled
  and the threads end.

  Args:
    read: decodes image `i` of `0 .. count - 1`; called from several threads.
    count: the number of images.
    batch_size: images in a batch; the last one may be short.
    workers: threads; None for one per processor this process may use.
    prefetch: batches to decode ahead of the one handed out, at least 1.

  Returns:
    A generator of `(start, images)`: the index of the batch's first image and
    the stacked arrays, `[<= batch_size, ...]`.

  Raises:
    ValueError: `count` is negative or another number below 1; later, from the
      generator, when the images of a batch differ in shape or dtype. What
      `read` raises is raised when the batch with that image is asked for.
  """
  if workers is None:
    workers = _processors()
  if count < 0 or min(batch_size, workers, prefetch) < 1:
    raise ValueError(
      f'count={count}, batch_size={batch_size}, workers={workers},'
      f' prefetch={prefetch}: expected a count of at least 0, else 1'
    )
  return _generate(read, count, batch_size, workers, prefetch * batch_size)


def _generate(
  read: Callable[[int], np.ndarray],
  count: int,
  batch_size: int,
  workers: int,
  ahead: int,
) -> Batches:
  pool = futures.ThreadPoolExecutor(workers, thread_name_prefix='decode')
  waiting: collections.deque[futures.Future] = collections.deque()
  indices = iter(range(count))

  def submit() -> None:
    for index in itertools.islice(indices, ahead - len(waiting)):
      waiting.append(pool.submit(read, index))

  try:
    submit()
    for start in range(0, count, batch_size):
      size = min(batch_size, count - start)
      # No name is bound to the batch, so that it is freed with the consumer's.
      yield start, _collect(waiting, start, size, submit)
  finally:
    pool.shutdown(wait=True, cancel_futures=True)


def _collect(
  waiting: collections.deque[futures.Future],
  start: int,
  size: int,
  submit: Callable[[], None],
) -> np.ndarray:
  """Stacks the next images, each copied as it comes, then refills the queue."""
  first = waiting[0].result()
  batch = np.empty((size, *first.shape), first.dtype)
  for row in range(size):
    image = waiting.popleft().result()
    if image.shape != first.shape or image.dtype != first.dtype:
      raise ValueError(
        f'image {start + row} is {image.dtype}{list(image.shape)}, but image'
        f' {start} is {first.dtype}{list(first.shape)}; a batch needs one size'
      )
    batch[row] = image
  submit()
  return batch


def _processors() -> int:
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
