"""Where the features of categories live: on the device, or streamed to it.

A category that fits the bank is extracted into rows of its own. Another is kept
in host memory, or in a file where that is too small, and the images of the next
steps are copied to the device while it computes.
"""

import collections
import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from simplenet_jax import environment
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.data.loading import Decoder, processors
from simplenet_jax.training import bank, cache, layout
from simplenet_jax.training.layout import DeviceTask, RunInputs

# Images decoded ahead of the backbone, at most; at 288 x 288 they take 250 kB
# each.
_AHEAD = 512
# What features depend on beside settings, weights, images and the device.
_PACKAGES = ('jax', 'jaxlib', 'numpy', 'pillow', 'simplenet-jax')

Levels = Sequence[np.ndarray]


class Interrupted(Exception):  # noqa: N818 - nothing went wrong.
  """A run is to stop, and the features are not complete."""


@dataclasses.dataclass
class Features:
  """One category's features, all on the device or streamed to it."""

  home: bank.Bank
  # The rows that they have, int32: one for each image or, where they are
  # streamed, a window for each of the heads that may read at a time.
  taken: np.ndarray
  levels: Levels | None = None  # On the host, where they are streamed.
  limit: int | None = None  # Images in a window; None for all.
  spread: float | None = None  # See `measure_spread`.

  def release(self) -> None:
    """Gives the rows back and lets go of what is in host memory."""
    self.levels = None
    self.home.give(self.taken)

  def rows(self, lane: int, images: np.ndarray) -> np.ndarray:
    """Returns the rows of images, int32 of the shape of `images`.

    Streamed features are copied to the lane's window, once programs that were
    started earlier have read what was there.
    """
    if self.levels is None or self.limit is None:
      return self.taken[images]
    wanted, places = np.unique(images, return_inverse=True)
    start = lane * self.limit
    rows = self.taken[start : start + self.limit][: len(wanted)]
    # Not all at once: host memory would hold as much as the window again.
    for first in range(0, len(wanted), bank.BLOCK):
      block = slice(first, first + bank.BLOCK)
      values = [level[wanted[block]] for level in self.levels]
      self.home.write(values, rows[block])
    return rows[places].reshape(images.shape)

  def measure_spread(self, lane: int, images: int) -> float:
    """Returns `bank.spread` of the first `images`, the training images."""
    if self.spread is None:
      size = self.limit or images
      starts = range(0, images, size)
      parts = (np.arange(at, min(at + size, images)) for at in starts)
      rows = (self.rows(lane, part) for part in parts)
      self.spread = bank.spread(self.home, rows)
    return self.spread


class FeatureStore:
  """The features of the categories that train on one device."""

  def __init__(self, run: RunInputs, task: DeviceTask):
    """Prepares to open a task's categories in the order of their use."""
    self.home = bank.Bank(task.shapes, task.rows, task.device)
    self._run, self._lanes = run, task.lanes
    self._weights = jax.device_put(run.weights.state, task.device)
    self._waiting = {one.name: one for one in task.categories}
    self._decoders: dict[str, Decoder] = {}
    self._keys: dict[str, str] = {}
    self._open: dict[str, Features] = {}
    asked, self._cache = run.config.bank, None
    if asked.cache:
      self._cache = cache.FeatureCache(Path(asked.cache), asked.cache_gb)

  def can_open(self, name: str) -> bool:
    """Says whether there is room for a category, or it is there already."""
    if name in self._open:
      return True
    images = self._waiting[name].images
    if images > self.home.rows:  # Streamed, with the device to itself.
      return len(self.home.free) == self.home.rows
    return images <= len(self.home.free)

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
    home, fits = self.home, inputs.images <= self.home.rows
    levels = self._from_cache(inputs) if self._cache else None
    if not fits:
      levels = levels or self._on_host(inputs)
      window = home.rows // self._lanes
      return Features(home, home.take(home.rows), levels, window)
    features = Features(home, home.take(inputs.images))
    try:
      if levels:
        home.write(levels, features.taken)
      else:
        self._extract(
          inputs, lambda part, found: home.put(found, features.taken[part])
        )
    except BaseException:
      features.release()
      raise
    return features

  def _from_cache(self, inputs: Inputs) -> Levels | None:
    """Returns features from the cache, which is filled where it lacks them."""
    key, kind = self._key(inputs), self.home.row_type
    found = self._cache.read(key, kind, inputs.images)
    if found is not None:
      self._run.on_batch(inputs.name, inputs.images, inputs.images)
      return _levels(found)
    with self._cache.filled(key, kind, inputs.images) as empty:
      return None if empty is None else self._fill(inputs, empty)

  def _key(self, inputs: Inputs) -> str:
    if inputs.name not in self._keys:
      config, versions = self._run.config, environment.versions()
      backbone = config.backbone.to_dict() | {'weights': ''}  # A mere name.
      made_by = [
        *(self._run.weights.sha256, backbone, config.patch.to_dict()),
        *(config.bank.dtype, config.data.bits, self.home.device.device_kind),
        *(versions[name] for name in _PACKAGES),
      ]
      described = json.dumps(made_by, sort_keys=True)
      self._keys[inputs.name] = cache.key(inputs, described)
    return self._keys[inputs.name]

  def _on_host(self, inputs: Inputs) -> Levels:
    """Extracts to host memory, or to a file where they do not fit there."""
    run, kind = self._run, self.home.row_type
    asked, size = run.config.bank.host_gb, inputs.images * kind.itemsize
    room = int(asked * 1e9) or layout.host_memory() // 4 // run.neighbours
    # Every device of this process has a share.
    if size <= room // len(layout.chosen_devices(run.config)):
      return self._fill(inputs, np.empty(inputs.images, kind))
    folder = run.workdir / 'features'
    folder.mkdir(parents=True, exist_ok=True)
    # Without a name: it is gone when it is closed, however the run ends.
    with tempfile.TemporaryFile(dir=folder) as file:
      # A full disk is told now, not by a crash when it is written to.
      os.posix_fallocate(file.fileno(), 0, size)
      records = np.memmap(file, kind, 'r+', shape=(inputs.images,))
    return self._fill(inputs, records)

  def _fill(self, inputs: Inputs, records: np.ndarray) -> Levels:
    levels = _levels(records)

    def keep(part: slice, found: Sequence[jax.Array]) -> None:
      for level, value in zip(levels, jax.device_get(found), strict=True):
        level[part] = value[: part.stop - part.start]

    self._extract(inputs, keep)
    return levels

  def _extract(
    self, inputs: Inputs, keep: Callable[[slice, Sequence[jax.Array]], None]
  ) -> None:
    """Calls `keep` with the images and the features, padded, of each batch.

    The device always has the next batch to do before one is handed out.
    """
    run, under_way = self._run, collections.deque()
    size = run.config.backbone.batch_size

    def hand_out() -> None:
      part, found = under_way.popleft()
      jax.block_until_ready(found)
      run.on_batch(inputs.name, part.stop, inputs.images)
      keep(part, found)

    decoder = self._decoders.pop(inputs.name, None) or self._decoder(inputs)
    with contextlib.closing(decoder):
      for start, pixels in decoder:
        if run.stop.is_set():
          raise Interrupted
        batch = bank.padded(pixels, size)
        found = bank.extract(run.extractor, self._weights, batch)
        under_way.append((slice(start, start + len(pixels)), found))
        if len(under_way) > 1:
          hand_out()
      while under_way:
        hand_out()

  def _decode_ahead(self) -> None:
    """Begins to decode the category that comes next."""
    inputs = next(iter(self._waiting.values()), None)
    if inputs is None or inputs.name in self._decoders:
      return
    # An image that cannot be read is told when its category is opened.
    with contextlib.suppress(OSError, ValueError):
      if not (self._cache and self._cache.has(self._key(inputs))):
        self._decoders[inputs.name] = self._decoder(inputs)
        self._decoders[inputs.name].start()

  def _decoder(self, inputs: Inputs) -> Decoder:
    run, size = self._run, self._run.config.backbone.batch_size
    return Decoder(
      inputs.pixels,
      inputs.images,
      size,
      workers=run.config.data.workers or processors(run.neighbours),
      prefetch=max(2, _AHEAD // size),
    )


def _levels(records: np.ndarray) -> Levels:
  """Returns the features `[images, h, w, channels]` of each level, as views."""
  return [records[name] for name in records.dtype.names or ()]
