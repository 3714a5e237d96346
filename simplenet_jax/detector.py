"""A trained detector: load it, show it images, save it.

detector = Detector.load('runs/parts/detectors/gasket')
for found in detector.predict('line4/'):
  print(found.source, found.score, found.anomalous)
"""

import collections
import contextlib
import dataclasses
import functools
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax import environment
from simplenet_jax.data.decoding import CHANNELS
from simplenet_jax.data.frame import text
from simplenet_jax.data.images import place
from simplenet_jax.detection import file, inputs, thresholds
from simplenet_jax.detection.file import Card
from simplenet_jax.detection.inputs import OnError
from simplenet_jax.detection.thresholds import Prediction, Thresholds
from simplenet_jax.fields import PRECISIONS
from simplenet_jax.models import simplenet


class Detector:
  """Scores images of one category; `card` says what it is and where from."""

  def __init__(
    self,
    card: Card,
    weights: Mapping[str, np.ndarray],
    *,
    precision: str = 'float32',
    batch_size: int = 64,
  ):
    """Prepares; weights go to the default device with the first images.

    The weights are folded, float32, on the host. `precision` is 'float32',
    'tensorfloat32' (float32 on CPUs) or 'bfloat16'. At most `batch_size` images
    are computed at a time; on CPUs one, which is faster, except in bfloat16.
    """
    if precision not in PRECISIONS:
      raise ValueError(
        f'precision is {precision!r}; choose one of {", ".join(PRECISIONS)}'
      )
    if batch_size < 1:
      raise ValueError(f'batch_size is {batch_size}, expected at least 1')
    # CPUs gain nothing by bfloat16; there it shows what it does elsewhere.
    winograd = jax.default_backend() == 'cpu' and precision != 'bfloat16'
    self.card, self.weights = card, weights
    self.precision = 'float32' if winograd else precision
    self._winograd = winograd
    self._batch_size = 1 if winograd else batch_size
    self._warned: set[str] = set()

  @classmethod
  def load(cls, path: str | Path, **options: Any) -> 'Detector':
    """Reads a detector from a file, whose `.safetensors` may be left out.

    Takes the `precision` and `batch_size` of `Detector`. Warns of what was
    found wrong when the detector was trained.
    """
    card, weights = file.load(Path(path).expanduser())
    for caution in card.cautions:
      logging.warning('%s: %s', path, caution)
    return cls(card, weights, **options)

  def save(self, path: str | Path) -> None:
    """Writes the detector to a file; appends `.safetensors` if missing."""
    file.save(Path(path), self.card, self.weights)

  @property
  def size(self) -> tuple[int, int]:
    """Height and width of the network's input, in pixels."""
    return self.card.network.size

  @property
  def heads(self) -> int:
    """How many heads' scores are averaged; 0 where distances are all."""
    return self.card.heads

  @property
  def device(self) -> str:
    """The kind of device that computes."""
    weight = next(iter(self._on_device.values()))
    return next(iter(weight.devices())).device_kind

  @property
  def thresholds(self) -> Thresholds:
    """What verdicts are based on."""
    return self.card.thresholds

  @thresholds.setter
  def thresholds(self, value: Thresholds) -> None:
    self.card = dataclasses.replace(self.card, thresholds=value)

  def warm_up(self, images: int) -> None:
    """Compiles for a number of images, so that later times are steady."""
    for count in (min(images, self._batch_size), images % self._batch_size):
      self.infer(np.zeros((count, *self.size, 3), np.uint8))

  def infer(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores RGB images of the network's size, uint8 `[images, *size, 3]`.

    Returns anomaly maps `[images, *size]` and scores `[images]`, float32.
    """
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (*self.size, 3):
      raise ValueError(
        f'pixels are {pixels.dtype}{list(pixels.shape)}, expected '
        f'uint8[images, {self.size[0]}, {self.size[1]}, 3]'
      )
    starts = range(0, len(pixels), self._batch_size)
    batches = ((i, pixels[i : i + self._batch_size]) for i in starts)
    found = [(np.zeros((0, *self.size), 'f'), np.zeros(0, 'f'))]
    found += [(maps, scores) for _, maps, scores, _ in self._computed(batches)]
    maps, scores = zip(*found, strict=True)
    return np.concatenate(maps), np.concatenate(scores)

  def predict(
    self,
    given: Any,
    *,
    lookahead: int | None = None,
    channels: str = 'rgb',
    thumbnail: int = 0,
    on_error: OnError | None = None,
  ) -> Iterator[Prediction]:
    """Scores images of any size, in order; holds only a few of them.

    Args:
      given: A path, a folder (all images in and below), a PIL image, an array,
        or several. Arrays are RGB, uint8 `[height, width, 3]`, or gray, uint8
        or uint16 `[height, width]` or `[height, width, 1]`.
      lookahead: How many more images may be asked for before the verdict on
        one is given. The default is 0, as a line needs it, for what has no
        length, such as a camera's generator; else it keeps the device busy.
      channels: 'rgb', or 'bgr' as OpenCV gives them, for files, too.
      thumbnail: The longer side, in pixels, of the images that predictions
        keep; 0 keeps none.
      on_error: Called with the source of an image that cannot be used and why;
        the image is left out. Without it that is an OSError or a ValueError.
    """
    if channels not in CHANNELS:
      raise ValueError(f"channels is {channels!r}, expected 'rgb' or 'bgr'")
    counted = isinstance(given, str | Path | Image.Image)
    if lookahead is None and not counted and not hasattr(given, '__len__'):
      lookahead = 0
    # Images held at a time, at most, by default so many as keep a device busy.
    held = 4 * self._batch_size + 2 if lookahead is None else lookahead + 1
    if held < 1:
      raise ValueError(f'lookahead is {lookahead}, expected at least 0')
    images = min(self._batch_size, max(1, held // 4))  # Of a batch.
    under_way = 2 if held > 2 * images else 1  # Batches.
    ahead = min(held - under_way * images, 2 * images + 2)  # Images read.
    bits, frame = self.card.bits, self.card.frame
    ready = inputs.ready(
      given, bits, frame, ahead, channels, thumbnail, on_error
    )
    groups = iter(lambda: list(itertools.islice(ready, images)), [])
    batches = ((some, np.stack([x.pixels for x in some])) for some in groups)

    def predictions():  # Wrong options are told at the call.
      with contextlib.closing(ready):
        for some, maps, scores, share in self._computed(batches, under_way):
          for one, grid, score in zip(some, maps, scores, strict=True):
            self._look(one, channels)
            yield Prediction(
              source=one.source,
              score=float(score),
              thresholds=self.thresholds,
              frame=one.frame,
              input_map=grid,
              seconds=one.seconds + share,
              thumbnail=one.picture,
            )

    return predictions()

  def calibrate(
    self,
    given: Any,
    false_alarm_rate: float = 0.01,
    *,
    channels: str = 'rgb',
    any_aspect: bool = False,
    on_error: OnError | None = None,
  ) -> 'Detector':
    """Sets the thresholds by normal images that were not trained on.

    Images are given as to `predict`. At most a share `false_alarm_rate`, in
    (0, 1), of normal images may be called anomalous; `thresholds` says what can
    be guaranteed. Images of another aspect than those trained on are a
    ValueError, unless `any_aspect`. Returns this detector.
    """
    found = self.score_good(
      given, channels=channels, any_aspect=any_aspect, on_error=on_error
    )
    made = thresholds.calibrate(found, false_alarm_rate)
    self.thresholds = dataclasses.replace(made, precision=self.precision)
    return self

  def score_good(
    self,
    given: Any,
    *,
    channels: str = 'rgb',
    any_aspect: bool = True,
    on_error: OnError | None = None,
  ) -> list[tuple[str, float, float]]:
    """Returns names, scores and highest values of maps of normal images.

    They are given, and refused, as by `calibrate`.
    """
    known, found = self.card.appearance, []
    for one in self.predict(
      given, lookahead=sys.maxsize, channels=channels, on_error=on_error
    ):
      source = one.source
      other = known and known.other_aspect(one.frame.original)
      if other and not any_aspect:
        raise ValueError(
          f'{source}: {other}; calibrate with images as they will be, or allow '
          'it (--any_aspect, any_aspect=True)'
        )
      name = str(source if isinstance(source, int) else place(source))
      found.append((name, one.score, float(one.input_map.max())))
    return found

  def _look(self, image: inputs.Ready, channels: str) -> None:
    """Warns, once of each kind, if an image has changed beside training's."""
    if known := self.card.appearance:
      number = 'image ' if isinstance(image.source, int) else ''
      size = image.frame.original
      for kind, told in known.changes(image.small, size, channels):
        if kind not in self._warned:
          self._warned.add(kind)
          logging.warning('%s%s: %s', number, image.source, told)

  @functools.cached_property
  def _on_device(self) -> dict[str, Any]:
    prepared = simplenet.prepare(
      self.card.network, self.weights, self.precision, self._winograd
    )
    return jax.device_put(prepared)

  def _computed(
    self, batches: Iterable[tuple[Any, np.ndarray]], under_way: int = 2
  ) -> Iterator[tuple[Any, np.ndarray, np.ndarray, float]]:
    """Yields what batches are known by, maps, scores and an image's seconds."""
    # Of `under_way` batches the last is asked for before the first one is read.
    queue = collections.deque()

    def results():
      name, count, seconds, values = queue.popleft()
      start = time.perf_counter()
      maps, scores = (np.asarray(value)[:count] for value in values)
      return name, maps, scores, (seconds + time.perf_counter() - start) / count

    try:
      for name, pixels in batches:
        start, count = time.perf_counter(), len(pixels)
        # Padded to powers of two, so that other numbers compile nothing.
        bucket = min(1 << (count - 1).bit_length(), self._batch_size)
        if count < bucket:
          pixels = np.pad(pixels, [(0, bucket - count), *[(0, 0)] * 3])
        values = simplenet.run(
          self.card.network, self._on_device, pixels, self.precision
        )
        for value in values:
          value.copy_to_host_async()
        queue.append((name, count, time.perf_counter() - start, values))
        if len(queue) >= under_way:
          yield results()
      while queue:
        yield results()
    except RuntimeError as error:
      if not environment.is_out_of_memory(error):
        raise
      raise MemoryError(
        f'the device is out of memory with {self._batch_size} images of '
        f'{text(self.size)} at a time; lower --batch_size (of a run: '
        '--config.backbone.batch_size), or stop what else uses the device'
      ) from None
