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

from simplenet_jax import environment
from simplenet_jax.data.decoding import CHANNELS
from simplenet_jax.data.loading import in_order
from simplenet_jax.detection import file, inputs, thresholds
from simplenet_jax.detection.appearance import Watch, other_aspect
from simplenet_jax.detection.card import Card
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

    Args:
      card: The detector's description.
      weights: Folded, float32, on the host.
      precision: 'float32', 'tensorfloat32' (float32 on CPUs) or 'bfloat16'.
      batch_size: Images at a time, at most. CPUs take one after the other,
        which is faster, except in bfloat16.
    """
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
    self.card, self.weights = card, weights
    self.precision = 'float32' if winograd else precision
    self._winograd = winograd
    self._batch_size = 1 if winograd else batch_size
    self._watch = Watch(card.appearance, card.cautions)

  @classmethod
  def load(cls, path: str | Path, **options: Any) -> 'Detector':
    """Reads a detector from a file, whose `.safetensors` may be left out.

    Args:
      path: The file.
      **options: `precision` and `batch_size`, see `Detector`.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is not a detector, damaged, or of a later version.
    """
    return cls(*file.load(Path(path)), **options)

  def save(self, path: str | Path) -> None:
    """Writes the detector to a file; appends `.safetensors` if missing."""
    file.save(Path(path), self.card, self.weights)

  @property
  def size(self) -> tuple[int, int]:
    """Height and width of the network's input, in pixels."""
    return self.card.network.size

  @property
  def heads(self) -> int:
    """How many heads' scores are averaged."""
    return self.card.heads

  @property
  def device(self) -> str:
    """The kind of device that computes."""
    return next(iter(self._on_device['head.tail'].devices())).device_kind

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
    """Scores images that have the network's size already.

    Args:
      pixels: RGB, uint8 `[images, *size, 3]`, any number of them.

    Returns:
      Anomaly maps `[images, *size]` and image scores `[images]`, float32.
    """
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (*self.size, 3):
      raise ValueError(
        f'pixels are {pixels.dtype}{list(pixels.shape)}, expected uint8[images,'
        f' {self.size[0]}, {self.size[1]}, 3]'
      )
    maps = np.empty((len(pixels), *self.size), np.float32)
    scores = np.empty(len(pixels), np.float32)
    starts = range(0, len(pixels), self._batch_size)
    given = ((i, pixels[i : i + self._batch_size]) for i in starts)
    for i, some_maps, some_scores, _ in self._computed(given):
      rows = slice(i, i + len(some_maps))
      maps[rows], scores[rows] = some_maps, some_scores
    return maps, scores

  def caution(self) -> None:
    """Warns, once, of what was found wrong when the detector was trained."""
    self._watch.caution()

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
        or several. An array is RGB, uint8 `[height, width, 3]`, or gray, uint8
        or uint16 `[height, width]` or `[height, width, 1]`; with four axes it
        is several.
      lookahead: How many more images may be asked for before the verdict on
        one is given. With 0 each verdict comes before the next image is asked
        for, as a line needs it: the default for what has no length, such as a
        camera's generator. Else the default keeps the device busy.
      channels: 'rgb', or 'bgr' as OpenCV gives them, for files, too.
      thumbnail: The longer side to which predictions keep their images, in
        pixels; 0 keeps none.
      on_error: Called with the source of an image that cannot be used and why;
        the image is left out. Without it the iterator raises what is wrong with
        an image when it comes to it.

    Raises:
      FileNotFoundError: If a file is missing, or a folder holds no images.
      ValueError: If an image cannot be used, or for other options.
      TypeError: If something is not an image.
      MemoryError: If the device is out of memory; the message says what helps.
    """
    if channels not in CHANNELS:
      raise ValueError(f"channels is {channels!r}, expected 'rgb' or 'bgr'")
    if lookahead is None and not inputs.is_counted(given):
      lookahead = 0
    images, under_way, ahead = inputs.pace(lookahead, self._batch_size)
    self.caution()

    def read(one: tuple[inputs.Source, Any]) -> inputs.Ready | inputs.Unusable:
      return inputs.prepare(self.card, *one, channels, thumbnail)

    def predictions() -> Iterator[Prediction]:
      sources = inputs.sources(given)
      # Where nothing may be read ahead, threads would be of no use.
      prepared = (
        in_order(read, sources, ahead) if ahead else (read(x) for x in sources)
      )
      usable = inputs.usable(prepared, on_error)
      batches = iter(lambda: list(itertools.islice(usable, images)), [])
      pixels = ((some, np.stack([x.pixels for x in some])) for some in batches)
      with contextlib.closing(prepared):
        for some, maps, scores, share in self._computed(pixels, under_way):
          for one, grid, score in zip(some, maps, scores, strict=True):
            size = one.frame.original
            self._watch.look(one.source, one.small, size, channels)
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

    Args:
      given: The images, with `channels` and `on_error` as of `predict`.
      false_alarm_rate: Share of normal images that may be called anomalous, in
        (0, 1); `thresholds` says what can be guaranteed.
      channels: See `predict`.
      any_aspect: Whether images may have another aspect than those trained on;
        else that is a ValueError.
      on_error: See `predict`.

    Returns:
      This detector.
    """
    known, found = self.card.appearance, []
    for one in self.predict(
      given, lookahead=sys.maxsize, channels=channels, on_error=on_error
    ):
      size = one.frame.original
      if known and not any_aspect and not known.has_aspect_of(size):
        raise ValueError(
          f'{one.source}: {other_aspect(known, size)}; calibrate with images '
          'as they will be, or allow it (--any_aspect, any_aspect=True)'
        )
      found.append((one.source, one.score, float(one.input_map.max())))
    sources, scores, peaks = zip(*found, strict=True) if found else ((), (), ())
    made = thresholds.calibrate(
      inputs.names(sources), scores, peaks, false_alarm_rate
    )
    self.thresholds = dataclasses.replace(made, precision=self.precision)
    return self

  @functools.cached_property
  def _on_device(self) -> dict[str, Any]:
    return jax.device_put(
      simplenet.prepare(
        self.card.network, self.weights, self.precision, self._winograd
      )
    )

  def _start(self, pixels: Any) -> tuple[jax.Array, jax.Array]:
    """Begins to compute a batch, in the host's memory or the device's.

    Batches are padded to powers of two, so that other numbers compile nothing;
    the maps and scores, which are on their way, end with those of padding.
    """
    bucket = min(1 << (len(pixels) - 1).bit_length(), self._batch_size)
    if missing := bucket - len(pixels):
      pixels = np.pad(pixels, [(0, missing), (0, 0), (0, 0), (0, 0)])
    values = simplenet.run(
      self.card.network, self._on_device, pixels, self.precision
    )
    for value in values:
      value.copy_to_host_async()
    return values

  def _computed(
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
        values = self._start(pixels)
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
      height, width = self.size
      raise MemoryError(
        f'the device is out of memory with {images} images of {height} x '
        f'{width} at a time; lower --batch_size (of a run: '
        '--config.backbone.batch_size), or stop what else uses the device'
      ) from None
