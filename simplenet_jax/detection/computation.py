"""A network on a device: batches of images in, maps and scores out."""

import collections
import contextlib
import functools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from simplenet_jax import environment
from simplenet_jax.models import simplenet
from simplenet_jax.models.precision import PRECISIONS

BATCH = 64  # Images at a time on an accelerator, at most.


class Computation:
  """Scores images that are of the network's size already."""

  def __init__(
    self,
    structure: simplenet.Network,
    weights: Mapping[str, np.ndarray],
    precision: str,
    batch_size: int,
    shrink: bool,
  ):
    """Prepares; weights go to the default device with the first images.

    Args:
      structure: What to compute.
      weights: Folded, float32, on the host.
      precision: See `Detector`.
      batch_size: See `Detector`.
      shrink: See `Detector`.

    Raises:
      ValueError: For another precision, a batch size below 1, or where JAX
        finds no device.
    """
    if precision not in PRECISIONS:
      raise ValueError(
        f'precision is {precision!r}; choose one of {", ".join(PRECISIONS)}'
      )
    if batch_size < 1:
      raise ValueError(f'batch_size is {batch_size}, expected at least 1')
    # CPUs gain nothing by bfloat16; it is there to see what it does elsewhere.
    try:
      backend = jax.default_backend()
    except Exception as error:  # JAX asserts, too.
      raise ValueError(environment.missing_backend()) from error
    winograd = backend == 'cpu' and precision != 'bfloat16'
    mode = 'float32' if winograd else precision
    self._network, self._weights = structure, weights
    self._mode = simplenet.ComputeMode(mode, winograd)
    self._batch_size = 1 if winograd else batch_size
    self._may_shrink = shrink

  @property
  def batch_size(self) -> int:
    """Images at a time, at most."""
    return self._batch_size

  @property
  def precision(self) -> str:
    """What it computes in."""
    return self._mode.precision

  @property
  def device(self) -> str:
    """The kind of device that computes."""
    return next(iter(self._on_device['head.tail'].devices())).device_kind

  @functools.cached_property
  def _on_device(self) -> dict[str, Any]:
    prepared = simplenet.prepare(self._network, self._mode, self._weights)
    try:
      return jax.device_put(prepared)
    except RuntimeError as error:
      if not environment.is_out_of_memory(error):
        raise
      raise MemoryError(
        "the device has no memory for the detector's weights; stop what else "
        'uses it'
      ) from None

  def infer(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores images, however many; see `Detector.infer`."""
    maps = np.empty((len(pixels), *self._network.size), np.float32)
    scores = np.empty(len(pixels), np.float32)
    done = 0
    parts = ((None, part) for part in self.parts(pixels))
    for _, some_maps, some_scores, _ in self.batches(parts):
      rows = slice(done, done + len(some_maps))
      maps[rows], scores[rows] = some_maps, some_scores
      done = rows.stop
    return maps, scores

  def parts(self, pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Yields images as many at a time as are computed together."""
    size = self._batch_size  # It may shrink meanwhile.
    for i in range(0, len(pixels), size):
      yield pixels[i : i + size]

  def batches(
    self, given: Iterable[tuple[Any, np.ndarray]], under_way: int = 2
  ) -> Iterator[tuple[Any, np.ndarray, np.ndarray, float]]:
    """Runs batches, the next one queued before the last one's results are read.

    Args:
      given: Something to know each by, and its pixels.
      under_way: Batches that are asked for before the first one's results are
        read. With 1, the device waits while the next one is prepared.

    Yields:
      That, the maps, the scores and each image's share of the seconds that the
      host spent on them; what the device did meanwhile is not in it.
    """
    queue = collections.deque()

    def results():
      name, pixels, seconds, values = queue.popleft()
      start = time.perf_counter()
      found = self._read(pixels, values)
      if not found:  # With nothing else in memory, then.
        for *_, later in queue:
          with contextlib.suppress(RuntimeError):  # It is told when it is read.
            jax.block_until_ready(later)
        found = self._alone(pixels)
      seconds += time.perf_counter() - start
      return name, *found, seconds / len(pixels)

    for name, pixels in given:
      start = time.perf_counter()
      values = self._started(pixels)
      seconds = time.perf_counter() - start
      queue.append((name, pixels, seconds, values))
      if len(queue) >= under_way:
        yield results()
    while queue:
      yield results()

  def _started(self, pixels: np.ndarray) -> tuple[jax.Array, ...] | None:
    """Begins to compute a batch; None if memory does not hold it now."""
    if len(pixels) > self._batch_size:  # It has shrunk meanwhile.
      return None
    try:
      return self.start(pixels)
    except RuntimeError as error:
      if not environment.is_out_of_memory(error):
        raise
      return None

  def _read(
    self, pixels: np.ndarray, values: tuple[jax.Array, ...] | None
  ) -> tuple[np.ndarray, np.ndarray] | None:
    """Waits for a batch's results; None if memory did not hold it."""
    if not values:
      return None
    try:
      maps, scores = (np.asarray(value)[: len(pixels)] for value in values)
    except RuntimeError as error:
      if not environment.is_out_of_memory(error):
        raise
      return None
    return maps, scores

  def _alone(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes a batch, in smaller ones if memory does not hold it."""
    if found := self._read(pixels, self._started(pixels)):
      return found
    if len(pixels) <= self._batch_size:
      self._shrink(len(pixels))
    return self.infer(pixels)

  def _shrink(self, images: int) -> None:
    """Halves the batches, for good; raises if it must not, or cannot."""
    height, width = self._network.size
    if images == 1:
      raise MemoryError(
        f'{self.device} has no memory for an image of {height} x {width}; stop '
        'what else uses it'
      )
    if not self._may_shrink:
      raise MemoryError(
        f'{self.device} is out of memory with {images} images of {height} x '
        f'{width} at a time; lower --batch_size, or give --shrink'
      )
    self._batch_size = min(self._batch_size, (images + 1) // 2)
    logging.warning(
      'out of memory with %d images at a time; goes on with %d',
      images,
      self._batch_size,
    )

  def start(self, pixels: Any) -> tuple[jax.Array, jax.Array]:
    """Begins to compute a batch; see `Detector.start`."""
    bucket = min(1 << (len(pixels) - 1).bit_length(), self._batch_size)
    missing = bucket - len(pixels)
    if missing > 0:  # Less if batches have shrunk meanwhile.
      pixels = np.pad(pixels, [(0, missing), (0, 0), (0, 0), (0, 0)])
    values = simplenet.run(self._network, self._mode, self._on_device, pixels)
    for value in values:
      value.copy_to_host_async()
    return values
