"""Where the features of categories live: on the device, or streamed to it.

A category that fits the bank is extracted into rows of its own. One that does
not is kept in host memory, or in a file where that is too small, and the images
of the next steps are copied to the device while it computes.
"""

import contextlib
import dataclasses
import json
import math
import os
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simplenet_jax import environment
from simplenet_jax.config import Config
from simplenet_jax.data import loading
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.data.loading import Decoder
from simplenet_jax.models.weights import Weights
from simplenet_jax.training import bank, cache, layout

# Images decoded ahead of the backbone, at most; at 288 x 288 they take 250 kB
# each.
_AHEAD = 512


class Interrupted(Exception):  # noqa: N818 - nothing went wrong.
  """A run is to stop, and the features are not complete."""


class Features:
  """One category's features, all on the device or streamed to it."""

  def __init__(
    self,
    home: bank.Bank,
    taken: np.ndarray,
    levels: Sequence[np.ndarray] | None = None,
    lanes: int = 1,
  ):
    """Notes the rows of the bank that they have, int32.

    These are one for each image or, where `levels` in host memory or a file are
    streamed, a window for each of the heads that may read at a time.
    """
    self.taken = taken
    # The training images', see `bank.spread`; None until it is measured.
    self.spread: float | None = None
    # Images that a lane can have on the device at a time; None for all.
    self.limit = None if levels is None else len(taken) // lanes
    self._home, self._levels = home, levels

  def release(self) -> None:
    """Gives the rows back and lets go of what is in host memory."""
    self._levels = None
    self._home.give(self.taken)

  def rows(self, lane: int, images: np.ndarray) -> np.ndarray:
    """Returns the rows of images, int32 of the shape of `images`.

    Where features are streamed, they are copied to the lane's window. What was
    there before is overwritten once programs that were started earlier have
    read it.
    """
    if self._levels is None or self.limit is None:
      return self.taken[images]
    wanted, places = np.unique(images, return_inverse=True)
    start = lane * self.limit
    rows = self.taken[start : start + self.limit][: len(wanted)]
    # Not all at once: host memory would hold as much as the window again.
    for first in range(0, len(wanted), bank.BLOCK):
      block = slice(first, first + bank.BLOCK)
      values = [level[wanted[block]] for level in self._levels]
      self._home.write(values, rows[block])
    return rows[places].reshape(images.shape)


@dataclasses.dataclass(frozen=True)
class ExtractionSettings:
  """How features are made, and where they are kept."""

  extractor: bank.Extractor
  weights: Any  # The backbone's state.
  batch_size: int  # Images per pass.
  workers: int | None  # Decoding threads, None for one per processor.
  host_bytes: int  # That one device's features may take; beyond, in a file.
  spill: Path  # The folder of such files, deleted when they are closed.
  made_by: str  # Names all but the images that features depend on.
  cache: cache.FeatureCache | None


def extraction_settings(
  config: Config,
  extractor: bank.Extractor,
  weights: Weights,
  workdir: Path,
  neighbours: int = 1,
) -> ExtractionSettings:
  """Returns how features are made, by a config.

  Features that fit into no memory go to `workdir`; so many `neighbours`, this
  process included, share the machine.
  """
  asked, backbone = config.bank, config.backbone.to_dict()
  del backbone['weights']  # A name; their checksum counts.
  versions = environment.versions()
  needed = ('jax', 'jaxlib', 'numpy', 'pillow', 'simplenet-jax')
  made_by = {
    'weights': weights.sha256,
    'backbone': backbone,
    'patch': config.patch.to_dict(),
    'dtype': asked.dtype,
    'bits': config.data.bits,
    'versions': [versions[name] for name in needed],
  }
  host_bytes = (
    int(asked.host_gb * 1e9) or layout.host_memory() // 4 // neighbours
  )
  shared = loading.processors(neighbours) if neighbours > 1 else None
  return ExtractionSettings(
    extractor=extractor,
    weights=weights.state,
    batch_size=config.backbone.batch_size,
    workers=config.data.workers or shared,
    # Every device of this process has a share.
    host_bytes=host_bytes // len(layout.chosen_devices(config)),
    spill=workdir / 'features',
    made_by=json.dumps(made_by, sort_keys=True),
    cache=cache.FeatureCache(Path(asked.cache), asked.cache_gb)
    if asked.cache
    else None,
  )


class FeatureStore:
  """The features of the categories that train on one device."""

  def __init__(
    self,
    home: bank.Bank,
    settings: ExtractionSettings,
    categories: Sequence[Inputs],
    lanes: int,
    on_batch: Callable[[str, int, int], None],
    stop: threading.Event,
  ):
    """Prepares to open categories of one input size, in the order of their use.

    `on_batch` is called with a category's name, how many of its images are
    through the backbone, and their number; `stop` ends an extraction.
    """
    self._home, self._settings, self._lanes = home, settings, lanes
    self._on_batch, self._stop = on_batch, stop
    self._waiting = {one.name: one for one in categories}
    self._decoders: dict[str, Decoder] = {}
    self._keys: dict[str, str] = {}
    self._open: dict[str, Features] = {}

  def can_open(self, name: str) -> bool:
    """Says whether there is room for a category, or it is there already."""
    if name in self._open:
      return True
    images = self._waiting[name].images
    if images > self._home.rows:  # Streamed, with the device to itself.
      return self._home.free == self._home.rows
    return images <= self._home.free

  def open(self, name: str) -> Features:
    """Returns the features of a category for which `can_open` holds.

    Raises:
      ValueError: If an image cannot be decoded.
      OSError: If one cannot be read, or the file of features not written.
      Interrupted: If the run is to stop.
    """
    if name not in self._open:
      self._open[name] = self._load(self._waiting.pop(name))
      self._decode_ahead()
    return self._open[name]

  def release(self, name: str) -> None:
    """Gives a category's rows back, if it has any."""
    if features := self._open.pop(name, None):
      features.release()

  def close(self) -> None:
    """Ends what is still being decoded."""
    for decoder in self._decoders.values():
      decoder.close()

  def _load(self, inputs: Inputs) -> Features:
    fits = inputs.images <= self._home.rows
    shapes = [
      jax.ShapeDtypeStruct((inputs.images, *level.shape[1:]), level.dtype)
      for level in self._home.levels
    ]
    levels = self._through_cache(inputs, shapes)
    if levels is None and not fits:
      levels = self._host_arrays(shapes)
      self._extract(inputs, levels)
    if levels is not None and not fits:
      rows = self._home.take(self._home.free)
      return Features(self._home, rows, levels, self._lanes)
    features = Features(self._home, self._home.take(inputs.images))
    try:
      if levels is None:
        with contextlib.closing(self._batches(inputs)) as batches:
          for part, found in batches:
            self._home.put(found, features.taken[part])
      else:
        self._home.write(levels, features.taken)
    except BaseException:
      features.release()
      raise
    return features

  def _through_cache(self, inputs, shapes) -> list[np.ndarray] | None:
    """Returns features from the cache, which is filled where it lacks them."""
    store = self._settings.cache
    if not store:
      return None
    key = self._key(inputs)
    levels = store.read(key, shapes)
    if levels is not None:
      self._on_batch(inputs.name, inputs.images, inputs.images)
      return levels
    with store.filled(key, shapes) as levels:
      if levels is not None:
        self._extract(inputs, levels)
    return levels

  def _key(self, inputs: Inputs) -> str:
    if inputs.name not in self._keys:
      kind = self._home.device.device_kind
      made_by = f'{self._settings.made_by} {kind}'
      self._keys[inputs.name] = cache.key(inputs, made_by)
    return self._keys[inputs.name]

  def _decode_ahead(self) -> None:
    """Begins to decode the category that comes next."""
    for name, inputs in list(self._waiting.items())[:1]:
      store = self._settings.cache
      # An image that cannot be read is told when its category is opened.
      with contextlib.suppress(OSError, ValueError):
        if name in self._decoders or (store and store.has(self._key(inputs))):
          continue
        self._decoders[name] = self._decoder(inputs)
        self._decoders[name].start()

  def _decoder(self, inputs: Inputs) -> Decoder:
    size = self._settings.batch_size
    return Decoder(
      inputs.pixels,
      inputs.images,
      size,
      workers=self._settings.workers,
      prefetch=max(2, _AHEAD // size),
    )

  def _extract(self, inputs: Inputs, levels: Sequence[np.ndarray]) -> None:
    """Fills arrays on the host with a category's features."""
    with contextlib.closing(self._batches(inputs)) as batches:
      for part, found in batches:
        count = part.stop - part.start
        for level, value in zip(levels, jax.device_get(found), strict=True):
          level[part] = value[:count]

  def _batches(
    self, inputs: Inputs
  ) -> Generator[tuple[slice, tuple[jax.Array, ...]], None, None]:
    """Yields the images and the features, padded, of one batch after another.

    The device always has the next batch to do before one is handed out.
    """
    settings, before = self._settings, None

    def through(part, found):
      jax.block_until_ready(found)
      self._on_batch(inputs.name, part.stop, inputs.images)
      return part, found

    decoder = self._decoders.pop(inputs.name, None) or self._decoder(inputs)
    try:
      for start, pixels in decoder:
        if self._stop.is_set():
          raise Interrupted
        batch = bank.padded(pixels, settings.batch_size)
        found = bank.extract(settings.extractor, settings.weights, batch)
        if before:
          yield through(*before)
        before = slice(start, start + len(pixels)), found
      if before:
        yield through(*before)
    finally:
      decoder.close()

  def _host_arrays(self, shapes) -> list[np.ndarray]:
    """Makes arrays in host memory, or in a file where they do not fit."""
    sizes = [math.prod(one.shape) * one.dtype.itemsize for one in shapes]
    if sum(sizes) <= self._settings.host_bytes:
      return [np.empty(one.shape, one.dtype) for one in shapes]
    self._settings.spill.mkdir(parents=True, exist_ok=True)
    arrays = []
    for one, size in zip(shapes, sizes, strict=True):
      # Without a name: it is gone when it is closed, however the run ends.
      with tempfile.TemporaryFile(dir=self._settings.spill) as file:
        # A full disk is told now, not by a crash when it is written to.
        os.posix_fallocate(file.fileno(), 0, size)
        arrays.append(np.memmap(file, one.dtype, 'w+', shape=one.shape))
    return arrays
