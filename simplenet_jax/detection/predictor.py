"""What maps and scores of images say: the part of a detector that judges."""

import abc
import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax.data.decoding import CHANNELS
from simplenet_jax.data.frame import text
from simplenet_jax.data.images import place
from simplenet_jax.detection import calibration, inputs
from simplenet_jax.detection.card import Card
from simplenet_jax.detection.drift import Drift
from simplenet_jax.detection.thresholds import GoodImage as Good
from simplenet_jax.detection.thresholds import Prediction, Thresholds


class Predictions(Iterator[Prediction]):
  """What `Detector.predict` returns: one prediction after the other."""

  def __init__(self, found: Generator[Prediction]):
    self._found, self.close = found, found.close

  def __next__(self) -> Prediction:
    return next(self._found)

  def __getattr__(self, name: str) -> Any:
    raise AttributeError(
      f'predict gives an iterator, which has no {name!r}: for one image it is '
      f'detector(image).{name}; for several, each prediction has its own'
    )


class Predictor(abc.ABC):
  """Judges images by the maps and scores that a subclass computes."""

  # Nothing else can be set: a name that is misspelt is an AttributeError.
  __slots__ = ('_warned', 'batch_size', 'card', 'precision')

  def __init__(self, card: Card, precision: str, batch_size: int):
    if batch_size < 1:
      raise ValueError(f'batch_size is {batch_size}, expected at least 1')
    self.card, self.precision, self.batch_size = card, precision, batch_size
    self._warned: set[str] = set()

  @property
  @abc.abstractmethod
  def roi(self) -> np.ndarray | None:
    """Where images are looked at, bool `[*size]`; None: everywhere."""

  @property
  @abc.abstractmethod
  def device(self) -> str:
    """What computes."""

  @abc.abstractmethod
  def _computed(
    self, batches: Iterable[tuple[Any, np.ndarray]], under_way: int = 2
  ) -> Iterator[tuple[Any, np.ndarray, np.ndarray, float]]:
    """Yields what batches are known by, maps, scores and an image's seconds."""

  @property
  def size(self) -> tuple[int, int]:
    """Height and width of the network's input, in pixels."""
    return self.card.network.size

  @property
  def thresholds(self) -> Thresholds:
    """What verdicts are based on."""
    return self.card.thresholds

  @thresholds.setter
  def thresholds(self, value: Thresholds) -> None:
    if not isinstance(value, Thresholds):
      raise ValueError(
        f'thresholds are {value!r}, expected Thresholds; a number is set as '
        'detector.threshold or detector.pixel_threshold'
      )
    self.card = self.card.judging_by(value)

  @property
  def threshold(self) -> float | None:
    """Scores beyond it are anomalous; a number set here promises nothing."""
    return self.thresholds.image

  @threshold.setter
  def threshold(self, value: float | None) -> None:
    self.thresholds = self.thresholds.replace(image=value)

  @property
  def pixel_threshold(self) -> float | None:
    """Pixels of maps beyond it are anomalous: masks and regions."""
    return self.thresholds.pixel

  @pixel_threshold.setter
  def pixel_threshold(self, value: float | None) -> None:
    self.thresholds = self.thresholds.replace(pixel=value)

  def __repr__(self) -> str:
    network, limit = self.card.network, self.threshold
    told = 'no threshold' if limit is None else f'threshold {limit:.4g}'
    made = f'{network.architecture}, input {text(network.size)}'
    return f'<Detector {self.card.name}: {made}, {told}>'

  def __call__(self, image: Any, *, channels: str = 'rgb') -> Prediction:
    """Scores one image, given as to `predict`; several are a ValueError."""
    one = self.predict(image, lookahead=0, channels=channels)
    if len(found := [*itertools.islice(one, 2)]) != 1:
      raise ValueError(
        'detector(...) takes one image; for several: detector.predict(...)'
      )
    return found[0]

  def predict(
    self,
    given: Any,
    *,
    lookahead: int | None = None,
    channels: str = 'rgb',
    thumbnail: int = 0,
    on_error: inputs.OnError | None = None,
  ) -> Predictions:
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
    held = 4 * self.batch_size + 2 if lookahead is None else lookahead + 1
    if held < 1:
      raise ValueError(f'lookahead is {lookahead}, expected at least 0')
    images = min(self.batch_size, max(1, held // 4))  # Of a batch.
    under_way = 2 if held > 2 * images else 1  # Batches.
    ahead = min(held - under_way * images, 2 * images + 2)  # Images read.
    bits, frame = self.card.bits, self.card.frame
    ready = inputs.ready(
      given, bits, frame, ahead, channels, thumbnail, on_error
    )
    groups = iter(lambda: list(itertools.islice(ready, images)), [])
    batches = ((some, np.stack([x.pixels for x in some])) for some in groups)

    # A function of its own, as wrong options are told at the call.
    def predictions() -> Generator[Prediction]:
      with contextlib.closing(ready):
        for some, maps, scores, share in self._computed(batches, under_way):
          for one, grid, score in zip(some, maps, scores, strict=True):
            self._look(one, channels)
            yield self.prediction(one, grid, score, share)

    return Predictions(predictions())

  def prediction(
    self, image: inputs.Ready, grid: np.ndarray, score: float, seconds: float
  ) -> Prediction:
    """Returns what an image's map `grid`, `[*size]`, and score say.

    Both are as `infer` computes them, in `seconds`.
    """
    roi, limit = self.roi, self.pixel_threshold
    if roi is not None and limit is not None:
      # Outside, maps are beyond the limit where all inside is.
      grid = np.where(roi, grid, np.minimum(grid, np.float32(limit)))
    return Prediction(
      source=image.source,
      score=float(score),
      thresholds=self.thresholds,
      frame=image.frame,
      input_map=grid,
      seconds=image.seconds + seconds,
      thumbnail=image.picture,
      photograph=image.photograph,
      scale=self.card.scale,
      look=inputs.Look.of(image.pixels, image.small, self.card.appearance),
      roi=roi,
    )

  def calibrate(
    self,
    given: Any,
    false_alarm_rate: float = 0.01,
    *,
    channels: str = 'rgb',
    any_aspect: bool = False,
    append: bool = False,
    served: Sequence[float] = (),
    on_error: inputs.OnError | None = None,
  ) -> Self:
    """Sets the thresholds by normal images that were not trained on.

    Images are given as to `predict`. At most a share `false_alarm_rate`, in (0,
    1), of normal images may be called anomalous; `thresholds` says what can be
    guaranteed. Images of another aspect than those trained on are a ValueError,
    unless `any_aspect`. With `append` the images that the detector knows count
    as well; it must know them. Images that it judged good itself were `served`
    with these scores: others by now are a ValueError. Returns this detector.
    """
    found = self.score_good(
      given, channels=channels, any_aspect=any_aspect, on_error=on_error
    )
    if served:
      calibration.check_served(served, [one.score for one in found])
    found = calibration.untrained(self.card.seen, found)
    if append:
      found = calibration.joined(self.thresholds, found, self.precision)
    made = calibration.calibrate(found, false_alarm_rate)
    if served:
      made = calibration.weakened(made, self.thresholds)
    self.thresholds = dataclasses.replace(made, precision=self.precision)
    return self

  def watch(self, name: object = 'DETECTOR') -> Drift:
    """Returns a test that tells when good images have changed: see `Drift`."""
    return Drift(self.thresholds, name)

  def score_good(
    self,
    given: Any,
    *,
    channels: str = 'rgb',
    any_aspect: bool = True,
    on_error: inputs.OnError | None = None,
    on_found: Callable[[Prediction], None] | None = None,
  ) -> list[Good]:
    """Returns names, scores, peaks of maps and looks of normal images.

    They are given as to `calibrate`; `on_found` takes the predictions.
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
      found.append(Good(name, one.score, float(one.input_map.max()), one.look))
      if on_found:
        on_found(one)
    return found

  def _look(self, image: inputs.Ready, channels: str) -> None:
    if known := self.card.appearance:
      number = 'image ' if isinstance(image.source, int) else ''
      size = image.frame.original
      for kind, told in known.changes(image.small, size, channels):
        if kind not in self._warned:
          self._warned.add(kind)
          logging.warning('%s%s: %s', number, image.source, told)

  def warm_up(self, images: int = 1) -> None:
    """Compiles for a number of images, so that later times are steady."""
    for count in (min(images, self.batch_size), images % self.batch_size):
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
    starts = range(0, len(pixels), self.batch_size)
    batches = ((i, pixels[i : i + self.batch_size]) for i in starts)
    found = [(np.zeros((0, *self.size), 'f'), np.zeros(0, 'f'))]
    found += [(maps, scores) for _, maps, scores, _ in self._computed(batches)]
    maps, scores = zip(*found, strict=True)
    return np.concatenate(maps), np.concatenate(scores)
