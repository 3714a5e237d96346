"""Where the features of categories live: on the device, or streamed to it.

A category that fits the bank is extracted into rows of its own. One that does
not is kept in host memory, or in a file where that is too small, and the images
of the next steps are copied to the device while it computes.
"""

import dataclasses
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simplenet_jax.data.inputs import Inputs
from simplenet_jax.data.loading import Decoder
from simplenet_jax.training import bank

# Images decoded ahead of the backbone, at most; at 288 x 288 they take 250 kB
# each.
_AHEAD = 512


class Interrupted(Exception):  # noqa: N818 - nothing went wrong.
  """A run is to stop, and the features are not complete."""


class Resident:
  """Features that lie on the device for as long as they are needed.

  Attributes:
    spread: Of those of the training images, once it was measured.
  """

  limit = None

  def __init__(self, rows: np.ndarray):
    """Notes the rows of all images, int32 `[images]`."""
    self.taken = rows
    self.spread: float | None = None

  def release(self) -> None:
    """Has nothing in host memory."""

  def rows(self, lane: int, images: np.ndarray) -> np.ndarray:
    """Returns the rows of images, int32 of the shape of `images`."""
    del lane
    return self.taken[images]


class Streamed:
  """Features in host memory or in a file, of which few are on the device.

  Attributes:
    limit: How many images a lane can have on the device at a time.
    spread: Of those of the training images, once it was measured.
  """

  def __init__(self, home: bank.Bank, levels: Sequence[np.ndarray], lanes: int):
    """Takes all rows that are free, as a window for each lane.

    Args:
      home: The bank on the device.
      levels: The features of all images, `[images, h, w, channels]` each.
      lanes: How many heads may read at a time.
    """
    self.taken = home.take(home.free)
    self.spread: float | None = None
    self.limit = len(self.taken) // lanes
    self._home, self._levels = home, list(levels)

  def release(self) -> None:
    """Lets go of the features in host memory."""
    self._levels = []

  def rows(self, lane: int, images: np.ndarray) -> np.ndarray:
    """Copies images to the lane's window and returns their rows.

    What was there before is overwritten once programs that were started
    earlier have read it.
    """
    wanted, places = np.unique(images, return_inverse=True)
    start = lane * self.limit
    rows = self.taken[start : start + self.limit][: len(wanted)]
    # Not all at once: host memory would hold as much as the window again.
    for first in range(0, len(wanted), bank.BLOCK):
      block = slice(first, first + bank.BLOCK)
      values = [level[wanted[block]] for level in self._levels]
      self._home.write(values, rows[block])
    return rows[places].reshape(images.shape)


Features = Resident | Streamed


@dataclasses.dataclass(frozen=True)
class Source:
  """How features are made.

  Attributes:
    extractor: From pixels to features.
    weights: The backbone's state, on the device.
    batch_size: Images per pass.
    workers: Decoding threads, None for one per processor.
    host_bytes: Host memory that one device's features may take; beyond, they go
      to a file.
    spill: The folder of such files; they are deleted when they are closed.
  """

  extractor: bank.Extractor
  weights: Any
  batch_size: int
  workers: int | None
  host_bytes: int
  spill: Path


class Store:
  """The features of the categories that train on one device."""

  def __init__(
    self,
    home: bank.Bank,
    source: Source,
    categories: Sequence[Inputs],
    lanes: int,
    on_batch: Callable[[str, int, int], None],
    stop: threading.Event,
  ):
    """Prepares; nothing is extracted yet.

    Args:
      home: The bank on the device.
      source: How features are made.
      categories: In the order in which they will be opened, more or less; all
        of one input size.
      lanes: How many heads may read at a time.
      on_batch: Called with a category's name, how many of its images are
        through the backbone, and their number.
      stop: Ends an extraction when it is set.
    """
    self._home, self._source, self._lanes = home, source, lanes
    self._on_batch, self._stop = on_batch, stop
    self._waiting = {one.name: one for one in categories}
    self._decoders: dict[str, Decoder] = {}
    self._open: dict[str, Features] = {}
    self._kept: frozenset[str] = frozenset()

  def keep(self, names: Iterable[str]) -> None:
    """Notes what is needed later: closing these does nothing, for now."""
    self._kept = frozenset(names)

  def can_open(self, name: str) -> bool:
    """Says whether there is room for a category, or it is there already."""
    if name in self._open:
      return True
    images = self._waiting[name].images
    if images > self._home.rows:  # Streamed, with the device to itself.
      return self._home.free == self._home.rows
    return images <= self._home.free

  def open(self, name: str) -> Features:
    """Returns a category's features, extracted where they are not there.

    Args:
      name: Of a category for which `can_open` holds, and that was not closed.

    Raises:
      ValueError: If an image cannot be decoded.
      OSError: If one cannot be read, or the file of features not written.
      Interrupted: If the run is to stop.
    """
    if name not in self._open:
      inputs = self._waiting.pop(name)
      decoder = self._decoders.pop(name, None) or self._decoder(inputs)
      try:
        self._open[name] = self._extract(inputs, decoder)
      except BaseException:
        if name in self._kept:  # It is asked for again, and tells it again.
          self._waiting = {name: inputs, **self._waiting}
        raise
      finally:
        decoder.close()
      self._decode_ahead()
    return self._open[name]

  def close(self, name: str) -> None:
    """Gives a category's rows back, if it has any and is not kept."""
    if name in self._kept:
      return
    if features := self._open.pop(name, None):
      features.release()
      self._home.give(features.taken)

  def shut(self) -> None:
    """Ends what is still being decoded."""
    for decoder in self._decoders.values():
      decoder.close()

  def _decode_ahead(self) -> None:
    """Begins to decode the category that comes next."""
    for name, inputs in list(self._waiting.items())[:1]:
      if name not in self._decoders:
        self._decoders[name] = self._decoder(inputs)
        self._decoders[name].start()

  def _decoder(self, inputs: Inputs) -> Decoder:
    size = self._source.batch_size
    return Decoder(
      inputs.pixels,
      inputs.images,
      size,
      workers=self._source.workers,
      prefetch=max(2, _AHEAD // size),
    )

  def _extract(self, inputs: Inputs, decoder: Decoder) -> Features:
    if inputs.images > self._home.rows:
      return self._extract_to_host(inputs, decoder)
    rows = self._home.take(inputs.images)
    source, before = self._source, None
    try:
      for start, pixels in self._until_stopped(decoder):
        done = start + len(pixels)
        through = self._home.extract(
          source.extractor,
          source.weights,
          pixels,
          rows[start:done],
          source.batch_size,
        )
        # The device always has a batch to do while the next one is prepared.
        if before:
          jax.block_until_ready(before[1])
          self._on_batch(inputs.name, before[0], len(rows))
        before = done, through
      jax.block_until_ready(self._home.levels)
      self._on_batch(inputs.name, len(rows), len(rows))
    except BaseException:
      self._home.give(rows)
      raise
    return Resident(rows)

  def _until_stopped(self, decoder: Decoder) -> Iterator:
    for batch in decoder:
      if self._stop.is_set():
        raise Interrupted
      yield batch

  def _extract_to_host(self, inputs: Inputs, decoder: Decoder) -> Streamed:
    source, images = self._source, inputs.images
    levels = [
      self._host_array((images, *level.shape[1:]), level.dtype)
      for level in self._home.levels
    ]
    for start, pixels in self._until_stopped(decoder):
      done = start + len(pixels)
      batch = bank.padded(pixels, source.batch_size)
      found = bank.extract(source.extractor, source.weights, batch)
      for level, part in zip(levels, jax.device_get(found), strict=True):
        level[start:done] = part[: len(pixels)]
      self._on_batch(inputs.name, done, images)
    return Streamed(self._home, levels, self._lanes)

  def _host_array(self, shape, dtype) -> np.ndarray:
    images = shape[0]
    shapes = [
      jax.ShapeDtypeStruct(level.shape[1:], level.dtype)
      for level in self._home.levels
    ]
    if images * bank.row_bytes(shapes) <= self._source.host_bytes:
      return np.empty(shape, dtype)
    self._source.spill.mkdir(parents=True, exist_ok=True)
    # Without a name: it is gone when it is closed, however the run ends.
    with tempfile.TemporaryFile(dir=self._source.spill) as file:
      size = math.prod(shape) * np.dtype(dtype).itemsize
      # A full disk is told now, not by a crash when it is written to.
      os.posix_fallocate(file.fileno(), 0, size)
      return np.memmap(file, dtype, 'w+', shape=shape)
