"""The features of categories: on the device, or streamed to it.

Every image passes the frozen backbone once: images are not augmented, so every
head, epoch and evaluation reads the same features, coarse levels at their own
resolution. A device has a fixed number of rows, one per image, that categories
take and give back: programs that read them are compiled once. A category that
does not fit is kept in host memory, or in a file where that is too small, and
the images of the next steps are copied to the device while it computes.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simplenet_jax import environment
from simplenet_jax.console import Signalled
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.data.loading import Batches, batches, late, processors
from simplenet_jax.training import bank, layout
from simplenet_jax.training.levels import Levels

BLOCK = 32  # Images written at a time; larger blocks would pad more.
_AHEAD = 512  # Images decoded ahead, at most; one of 288 x 288 takes 250 kB.
# What features depend on beside settings, weights, images and the device.
_PACKAGES = ('jax', 'jaxlib', 'numpy', 'pillow', 'simplenet-jax')

HostLevels = Sequence[np.ndarray]  # `[images, h, w, channels]` each.


@dataclasses.dataclass
class Features:
  """One category's features, all on the device or streamed to it."""

  # The rows that they have, int32: one for each image or, where they are
  # streamed, a window for each of the heads that may read at a time.
  taken: np.ndarray
  levels: HostLevels | None = None  # On the host, where they are streamed.
  limit: int = sys.maxsize  # Images in a window; there is none for all.
  spread: float = 1.0  # The unit of relative noise, see `bank.spread`.


_merge = jax.jit(bank.Extraction.merge, static_argnums=0)


@functools.partial(jax.jit, static_argnames='network')
def _merged(network, levels, rows):
  return network.merge(levels.images(rows))


class FeatureStore:
  """The features of the categories that train on one device."""

  def __init__(self, run: layout.RunInputs, task: layout.DeviceTask):
    self._run, self._task = run, task
    self._network = bank.Extraction.of(run.config)
    # Every write replaces them, so they must be read anew each time.
    self.levels = Levels.empty(task.shapes, task.rows, task.device)
    self._free = list(range(task.rows))
    self._waiting = {one.name: one for one in task.categories}
    self._decoders: dict[str, Batches] = {}
    self._keys: dict[str, str] = {}
    self._open: dict[str, Features] = {}
    asked, self._cache = run.config.bank, None
    if asked.cache:
      self._cache = bank.FeatureCache(Path(asked.cache), asked.cache_gb)

  @functools.cached_property
  def _weights(self) -> Any:
    state, device = self._run.weights.state, self._task.device
    return bank.on_device(self._network, state, device)

  def can_open(self, name: str) -> bool:
    """Says whether there is room for a category, or it is there already."""
    if name in self._open:
      return True
    # One that is streamed has the device to itself.
    return min(self._waiting[name].images, self._task.rows) <= len(self._free)

  def open(self, name: str) -> Features:
    """Returns the features of a category for which `can_open` holds."""
    if name not in self._open:
      self._load(self._waiting.pop(name))
      self._decode_ahead()
    return self._open[name]

  def release(self, name: str) -> None:
    """Gives a category's rows back, if it has any."""
    if features := self._open.pop(name, None):
      features.levels = None
      self._free = sorted([*self._free, *features.taken.tolist()])

  def close(self) -> None:
    """Ends what is still being decoded."""
    for decoder in self._decoders.values():
      decoder.close()

  def rows(
    self, features: Features, lane: int, images: np.ndarray
  ) -> np.ndarray:
    """Returns the rows of images; streamed ones go to the lane's window."""
    if features.levels is None:
      return features.taken[images]
    wanted, places = np.unique(images, return_inverse=True)
    start = lane * features.limit
    rows = features.taken[start : start + features.limit][: len(wanted)]
    self._write(features.levels, wanted, rows)
    return rows[places].reshape(images.shape)

  def patches(self, features: Features, images: np.ndarray) -> jax.Array:
    """Returns the patches of a few images, float32 `[images, H, W, dim]`."""
    if self._run.stop.is_set():
      raise Signalled
    rows = self.rows(features, 0, images)
    return _merged(self._network, self.levels, rows)

  def patches_of(self, pixels: np.ndarray) -> jax.Array:
    """Returns the patches of a batch of images that are not a category's."""
    if self._run.stop.is_set():
      raise Signalled
    levels = bank.extract(self._network, self._weights, pixels)
    return _merge(self._network, levels)

  def _put(self, values: Sequence[Any], rows: np.ndarray) -> None:
    """Writes a batch's features to rows; beyond these it is padding."""
    self.levels = self.levels.put(values, rows)

  def _write(
    self, levels: HostLevels, images: np.ndarray, rows: np.ndarray
  ) -> None:
    # Not all at once: host memory would hold as much as the window again.
    for start in range(0, len(rows), BLOCK):
      part = slice(start, start + BLOCK)
      values = [bank.padded(level[images[part]], BLOCK) for level in levels]
      self._put(values, rows[part])

  def _load(self, inputs: Inputs) -> None:
    count = min(inputs.images, self._task.rows)
    levels = self._from_cache(self._cache, inputs) if self._cache else None
    features = Features(np.array(self._free[:count], np.int32))
    if streamed := count < inputs.images:
      features.levels = levels or self._on_host(inputs)
      features.limit = self._task.rows // self._task.lanes
    self._free, self._open[inputs.name] = self._free[count:], features
    try:
      if levels and not streamed:
        self._write(levels, np.arange(count), features.taken)
      elif not streamed:
        self._extract(
          inputs, lambda part, found: self._put(found, features.taken[part])
        )
      if self._run.config.train.noise == 'relative':
        features.spread = self._spread(features, len(inputs.train))
    except BaseException:
      self.release(inputs.name)
      raise

  def _spread(self, features: Features, images: int) -> float:
    moments, size = [], min(BLOCK, features.limit)
    for start in range(0, images, size):
      some = np.arange(start, min(start + size, images))
      rows = bank.padded(self.rows(features, 0, some), BLOCK)
      found = bank.moments(self.levels, rows)
      moments.append([np.asarray(one)[: len(some)] for one in found])
    return bank.spread(moments)

  def _from_cache(
    self, cache: bank.FeatureCache, inputs: Inputs
  ) -> HostLevels | None:
    """Returns features from the cache, which is filled where it lacks them."""
    key, kind = self._key(inputs), layout.row_type(self._task.shapes)
    found = cache.read(key, kind)
    if found is not None:
      self._run.on_batch(inputs.name, inputs.images, inputs.images)
      return _levels(found)
    with cache.filled(key, kind, inputs.images) as empty:
      return None if empty is None else self._fill(inputs, empty)

  def _key(self, inputs: Inputs) -> str:
    """Returns a digest of a category's images and of what makes features."""
    if inputs.name not in self._keys:
      config, versions = self._run.config, environment.versions()
      backbone = config.backbone.to_dict() | {'weights': ''}  # A mere name.
      made_by = [
        *(self._run.weights.sha256, backbone, config.patch.to_dict()),
        *(self._network.dtype, config.data.bits, self._task.device.device_kind),
        *(versions[name] for name in _PACKAGES),
      ]
      digest = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode())
      test = [sample.path for sample in inputs.category.test]
      files = [*inputs.category.train, *test]
      frames = [*inputs.train, *inputs.test]
      for file, frame in zip(files, frames, strict=True):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f'{content} {frame}\n'.encode())
      self._keys[inputs.name] = digest.hexdigest()
    return self._keys[inputs.name]

  def _on_host(self, inputs: Inputs) -> HostLevels:
    """Extracts to host memory, or to a file where they do not fit there."""
    run, kind = self._run, layout.row_type(self._task.shapes)
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

  def _fill(self, inputs: Inputs, records: np.ndarray) -> HostLevels:
    levels = _levels(records)

    def keep(part: slice, found: Sequence[jax.Array]) -> None:
      for level, value in zip(levels, jax.device_get(found), strict=True):
        level[part] = value[: part.stop - part.start]

    self._extract(inputs, keep)
    return levels

  def _extract(
    self, inputs: Inputs, keep: Callable[[slice, Sequence[jax.Array]], None]
  ) -> None:
    """Calls `keep` with the images and the features, padded, of each batch."""
    run, size = self._run, self._run.config.backbone.batch_size
    decoder = self._decoders.pop(inputs.name, None) or self._decoder(inputs)

    def extracted() -> Iterator[tuple[slice, Sequence[jax.Array]]]:
      for start, pixels in decoder:
        if run.stop.is_set():
          raise Signalled
        batch = bank.padded(pixels, size)
        found = bank.extract(self._network, self._weights, batch)
        yield slice(start, start + len(pixels)), found

    with contextlib.closing(decoder):
      # The device always has the next batch to do before one is handed out.
      for part, found in late(extracted(), 1):
        jax.block_until_ready(found)
        run.on_batch(inputs.name, part.stop, inputs.images)
        keep(part, found)

  def _decode_ahead(self) -> None:
    """Begins to decode the category that comes next."""
    inputs = next(iter(self._waiting.values()), None)
    if inputs is None or inputs.name in self._decoders:
      return
    # An image that cannot be read is told when its category is opened.
    with contextlib.suppress(OSError, ValueError):
      if not (self._cache and self._cache.find(self._key(inputs))):
        self._decoders[inputs.name] = self._decoder(inputs)

  def _decoder(self, inputs: Inputs) -> Batches:
    run, size = self._run, self._run.config.backbone.batch_size
    return batches(
      inputs.pixels,
      inputs.images,
      size,
      workers=run.config.data.workers or processors(run.neighbours),
      prefetch=max(2, _AHEAD // size),
    )


def _levels(records: np.ndarray) -> HostLevels:
  return [records[name] for name in records.dtype.names or ()]
