"""Judges images for many clients: threads decode, and one computes batches.

A request keeps the detector that its name stood for when it came. So detectors
are swapped while requests wait, and none of them is lost or mixed up.
"""

import asyncio
import collections
import contextlib
import dataclasses
import datetime
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import prometheus_client as prometheus
from absl import logging

from simplenet_jax.data import loading
from simplenet_jax.detection import file, inputs, output
from simplenet_jax.detection.drift import Drift
from simplenet_jax.detection.thresholds import Prediction
from simplenet_jax.detector import Detector

_KEPT = 100  # Images.
_SIZES = [2**power for power in range(9)]
_SIDE = 640  # Of their thumbnails, in pixels, at most.

Judged = tuple[dict[str, Any], Prediction]  # The first is told as JSON.


class Slot:
  """A name, its detector's file, and the detector once it is loaded."""

  def __init__(self, name: str, path: Path, options: dict[str, Any]):
    """`options` are those of `Detector.load`."""
    self.name, self._options = name, options
    self.path = path if path.is_file() else file.with_suffix(path)
    self.detector: Detector | None = None
    self.drift: Drift | None = None
    self._loaded = self._seen = (0, 0)  # Time of the last change, and size.

  def is_changed(self) -> bool:
    """Returns whether the file is another one, and as it was a look ago."""
    before, self._seen = self._seen, self._look()
    return self._seen == before != self._loaded

  def load(self) -> None:
    """Loads and compiles; the name stands for the new detector only then."""
    self._loaded = self._seen = self._look()  # A bad file is tried once.
    detector = Detector.load(self.path, **self._options)
    for power in range(detector.batch_size.bit_length() + 1):
      size = min(2**power, detector.batch_size)  # As batches are padded.
      detector.infer(np.zeros((size, *detector.size, 3), np.uint8))
    judges = detector.threshold is not None
    self.drift = detector.watch(self.path) if judges else None
    self.detector = detector

  def _look(self) -> tuple[int, int]:
    with contextlib.suppress(OSError):  # While it is being replaced.
      found = self.path.stat()
      return found.st_mtime_ns, found.st_size
    return self._loaded


class Engine:
  """Takes images in an event loop; `recent` are the last ones, newest first."""

  def __init__(self, max_wait_s: float, most: int):
    """Holds at most so many images; a batch waits so long for more of them."""
    self._max_wait, self._most = max_wait_s, most
    self._held = self._count = 0
    self.recent = collections.deque[Judged](maxlen=_KEPT)
    self._waiting = asyncio.Queue[tuple[Detector, np.ndarray, asyncio.Future]]()
    self._decoders = futures.ThreadPoolExecutor(loading.processors())
    self._computer = futures.ThreadPoolExecutor(1)
    self.registry = to = prometheus.CollectorRegistry()
    prometheus.ProcessCollector(registry=to)
    held = prometheus.Gauge('simplenet_images_held', 'Now.', registry=to)
    held.set_function(lambda: self._held)
    self._sizes = prometheus.Histogram(
      'simplenet_batch_images', 'At a time.', buckets=_SIZES, registry=to
    )
    self._verdicts = prometheus.Counter(
      'simplenet_images', 'Judged.', ['detector', 'verdict'], registry=to
    )

  def check_room(self) -> None:
    """Raises `asyncio.QueueFull` where another image would be refused."""
    if self._held >= self._most:
      raise asyncio.QueueFull

  async def judge(
    self, slot: Slot, read: Callable[[], Any], name: str, channels: str = 'rgb'
  ) -> Judged:
    """Judges an image that the client calls `name`.

    A thread that decodes calls `read`, which returns what `Detector.predict`
    takes. Raises what `read` does, and as `check_room`.
    """
    self.check_room()
    detector, drift = slot.detector, slot.drift
    loop = asyncio.get_running_loop()
    assert detector

    def prepared() -> tuple[inputs.Ready, list[str]]:
      card = detector.card
      (ready,) = inputs.ready(
        [read()], card.bits, card.frame, channels=channels, side=_SIDE
      )
      known, size = card.appearance, ready.frame.original
      changes = known.changes(ready.small, size, channels) if known else ()
      return ready, [told for _, told in changes]

    self._held += 1
    try:
      ready, cautions = await loop.run_in_executor(self._decoders, prepared)
      future = loop.create_future()
      self._waiting.put_nowait((detector, ready.pixels, future))
      computed = await future
    finally:
      self._held -= 1
    # Names of files, and of clients, need not be text, but JSON has to be.
    name = name.encode(errors='replace').decode() or 'image'
    ready = dataclasses.replace(ready, source=Path(name))
    found = detector.prediction(ready, *computed)
    # What the client sent is not kept, only its thumbnail.
    found = dataclasses.replace(found, photograph=None)
    self._count += 1
    if drift and (changed := drift.update(found)):
      logging.warning('%s: %s', slot.name, changed)
    told = {
      'id': self._count,
      'time': datetime.datetime.now(datetime.UTC).isoformat(),
      'detector': slot.name,
      **output.result(found),
      'height': found.frame.original[0],
      'width': found.frame.original[1],
      'cautions': cautions,
    }
    self._verdicts.labels(slot.name, told['verdict']).inc()
    self.recent.appendleft((told, found))
    return told, found

  async def run(self) -> None:
    """Computes what `judge` is given, until it is cancelled."""
    loop, other = asyncio.get_running_loop(), None
    while True:
      batch, other = [other or await self._waiting.get()], None
      detector = batch[0][0]
      with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(self._max_wait):
          while len(batch) < detector.batch_size and not other:
            one = await self._waiting.get()
            if one[0] is detector:
              batch.append(one)
            else:
              other = one
      # Nobody waits any more for those that are done: they were cancelled.
      if not (batch := [one for one in batch if not one[2].done()]):
        continue
      start, pixels = time.perf_counter(), np.stack([one[1] for one in batch])
      work = loop.run_in_executor(self._computer, detector.infer, pixels)
      await asyncio.wait([work])
      error, seconds = work.exception(), time.perf_counter() - start
      self._sizes.observe(len(batch))
      for index, (_, _, future) in enumerate(batch):
        if future.done():
          continue
        if error:
          future.set_exception(error)
        else:
          maps, scores = work.result()
          future.set_result((maps[index], scores[index], seconds / len(batch)))
