"""A detector's network on a device, fed with batches of images."""

import collections
import contextlib
import functools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from simplenet_jax import environment
from simplenet_jax.models import simplenet
from simplenet_jax.models.precision import PRECISIONS


class Computation:
  """Scores images that have the network's size already."""

  def __init__(
    self,
    structure: simplenet.Network,
    weights: Mapping[str, np.ndarray],
    precision: str,
    batch_size: int,
  ):
    """Prepares; the options are those of `Detector`."""
    if precision not in PRECISIONS:
      raise ValueError(
        f'precision is {precision!r}; choose one of {", ".join(PRECISIONS)}'
      )
    if batch_size < 1:
      raise ValueError(f'batch_size is {batch_size}, expected at least 1')
    try:
      on_cpu = jax.default_backend() == 'cpu'
    except Exception as error:  # JAX raises assertion errors, too.
      raise ValueError(environment.missing_backend()) from error
    # CPUs gain nothing by bfloat16; there it shows what it does elsewhere.
    winograd = on_cpu and precision != 'bfloat16'
    self.precision = 'float32' if winograd else precision
    self.batch_size = 1 if winograd else batch_size
    self._structure, self._weights = structure, weights
    self._mode = simplenet.ComputeMode(self.precision, winograd)

  @property
  def device(self) -> str:
    """The kind of device that computes."""
    return next(iter(self._on_device['head.tail'].devices())).device_kind

  @functools.cached_property
  def _on_device(self) -> dict[str, Any]:
    return jax.device_put(
      simplenet.prepare(self._structure, self._mode, self._weights)
    )

  def start(self, pixels: Any) -> tuple[jax.Array, jax.Array]:
    """Begins to compute a batch, in the host's memory or the device's.

    Batches are padded to powers of two, so that other numbers compile nothing;
    the maps and scores, which are on their way, end with those of padding.
    """
    bucket = min(1 << (len(pixels) - 1).bit_length(), self.batch_size)
    if missing := bucket - len(pixels):
      pixels = np.pad(pixels, [(0, missing), (0, 0), (0, 0), (0, 0)])
    values = simplenet.run(self._structure, self._mode, self._on_device, pixels)
    for value in values:
      value.copy_to_host_async()
    return values

  def run(
    self, given: Iterable[tuple[Any, np.ndarray]], under_way: int = 2
  ) -> Iterator[tuple[Any, np.ndarray, np.ndarray, float]]:
    """Runs batches of pixels, each with something to know it by.

    Of `under_way` batches the last is asked for before the first one's results
    are read; with 1, the device waits while the next one is prepared.

    Yields:
      That something, the maps, the scores, and each image's share of the
      seconds that the host spent on them.
    """
    queue = collections.deque()

    def results():
      name, pixels, seconds, values = queue.popleft()
      start = time.perf_counter()
      with self._out_of_memory(len(pixels)):
        maps, scores = (np.asarray(value)[: len(pixels)] for value in values)
      seconds += time.perf_counter() - start
      return name, maps, scores, seconds / len(pixels)

    for name, pixels in given:
      start = time.perf_counter()
      with self._out_of_memory(len(pixels)):
        values = self.start(pixels)
      queue.append((name, pixels, time.perf_counter() - start, values))
      if len(queue) >= under_way:
        yield results()
    while queue:
      yield results()

  @contextlib.contextmanager
  def _out_of_memory(self, images: int) -> Iterator[None]:
    """Turns a device's error into one that says what helps."""
    try:
      yield
    except RuntimeError as error:
      if not environment.is_out_of_memory(error):
        raise
      height, width = self._structure.size
      raise MemoryError(
        f'the device is out of memory with {images} images of {height} x '
        f'{width} at a time; lower --batch_size (of a run: '
        '--config.backbone.batch_size), or stop what else uses the device'
      ) from None
