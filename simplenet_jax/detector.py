"""A trained detector: load it, show it images, save it.

detector = Detector.load('runs/parts/detectors/gasket')
for found in detector.predict('line4/'):
  print(found.source, found.score, found.anomalous)
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simplenet_jax.data import decoding
from simplenet_jax.detection import file, inputs, thresholds
from simplenet_jax.detection.appearance import Watch, other_aspect
from simplenet_jax.detection.card import Card
from simplenet_jax.detection.computation import BATCH, Computation
from simplenet_jax.detection.prediction import Prediction
from simplenet_jax.detection.thresholds import Thresholds


class Detector:
  """Scores images of one category.

  Attributes:
    card: What it is and where it comes from.
    weights: Folded, float32, on the host.
  """

  def __init__(
    self,
    card: Card,
    weights: Mapping[str, np.ndarray],
    *,
    precision: str = 'float32',
    batch_size: int = BATCH,
    shrink: bool = False,
  ):
    """Prepares; weights go to the default device with the first images.

    Args:
      card: Its description.
      weights: Folded, float32.
      precision: Of the computation, one of `precision.PRECISIONS`. CPUs compute
        `tensorfloat32` as float32.
      batch_size: Images at a time, at most. CPUs take one after the other,
        which is faster, but in bfloat16.
      shrink: Whether, from then on, half as many are taken when the device is
        out of memory, again and again; else that is a MemoryError.

    Raises:
      ValueError: For another precision or a batch size below 1.
    """
    self.card, self.weights = card, weights
    self._computation = Computation(
      card.network, weights, precision, batch_size, shrink
    )
    self._watch = Watch(card.appearance, card.cautions)

  @classmethod
  def load(
    cls,
    path: str | Path,
    *,
    precision: str = 'float32',
    batch_size: int = BATCH,
    shrink: bool = False,
  ) -> 'Detector':
    """Reads a detector.

    Args:
      path: As it was saved; `.safetensors` may be left out.
      precision: See `Detector`.
      batch_size: See `Detector`.
      shrink: See `Detector`.

    Raises:
      FileNotFoundError: If there is none.
      ValueError: If the file is none, is damaged, or made by a later version.
    """
    card, weights = file.load(Path(path))
    return cls(
      card, weights, precision=precision, batch_size=batch_size, shrink=shrink
    )

  def save(self, path: str | Path) -> None:
    """Writes all of it to one file; `.safetensors` is appended if missing."""
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
  def precision(self) -> str:
    """Of the computation."""
    return self._computation.precision

  @property
  def device(self) -> str:
    """The kind of device that computes."""
    return self._computation.device

  @property
  def thresholds(self) -> Thresholds:
    """What verdicts are based on."""
    return self.card.thresholds

  @thresholds.setter
  def thresholds(self, value: Thresholds) -> None:
    self.card = dataclasses.replace(self.card, thresholds=value)

  def warm_up(self, images: int) -> None:
    """Compiles what some number of images takes, so that times are steady."""
    most = self._computation.batch_size
    for count in (min(images, most), images % most):
      self.infer(np.zeros((count, *self.size, 3), np.uint8))

  def infer(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores images that are of the network's size already.

    Args:
      pixels: RGB, uint8 `[images, *size, 3]`, any number of them. Batches are
        padded to powers of two, so that other numbers compile nothing.

    Returns:
      Anomaly maps `[images, *size]` and image scores `[images]`, float32.

    Raises:
      ValueError: For another shape or type.
      MemoryError: If the device is out of memory, see `Detector`.
    """
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (*self.size, 3):
      raise ValueError(
        f'pixels are {pixels.dtype}{list(pixels.shape)}, expected uint8[images,'
        f' {self.size[0]}, {self.size[1]}, 3]'
      )
    return self._computation.infer(pixels)

  def parts(self, pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Yields images as many at a time as are computed together."""
    return self._computation.parts(pixels)

  def start(self, pixels: Any) -> tuple[jax.Array, jax.Array]:
    """Begins to compute a batch.

    Args:
      pixels: As of `infer`, in the host's memory or the device's; as many as
        one of `parts`.

    Returns:
      Maps and scores that are on their way, with those of padding behind.
    """
    return self._computation.start(pixels)

  def caution(self) -> None:
    """Warns, once, of what was found wrong when it was trained."""
    self._watch.caution()

  def predict(
    self,
    given: Any,
    *,
    lookahead: int | None = None,
    channels: str = 'rgb',
    thumbnail: int = 0,
    on_error: inputs.OnError | None = None,
  ) -> Iterator[Prediction]:
    """Scores images of any size, in order, as they are asked for.

    However many images there are, only a few are held.

    Args:
      given: A path, a folder (all images in and below), a PIL image, an array,
        or several. An array is RGB, uint8 `[height, width, 3]` (OpenCV gives
        BGR: say `channels='bgr'`), or gray, uint8 or uint16 `[height, width]`
        or `[height, width, 1]`; with four axes it is several.
      lookahead: How many more images may be asked for before the verdict on
        one is given. With 0 each verdict comes before the next image is asked
        for, as a line needs it: the default for what has no length, such as a
        camera's generator. Else the default keeps the device busy.
      channels: The order of the channels of what is given, 'rgb' or 'bgr';
        'bgr' for files exchanges red and blue, too.
      thumbnail: The longer side to which predictions keep their images, in
        pixels; 0: they keep none.
      on_error: Called with the source of an image that cannot be used and why;
        the image is left out. Without it the error is raised.

    Returns:
      An iterator over the predictions, one for each image. It raises what is
      wrong with an image when it comes to it.

    Raises:
      FileNotFoundError: If a file is missing, or a folder holds no images.
      ValueError: If an image cannot be used, `lookahead` is negative, or there
        is no such order of channels.
      TypeError: For something else than images.
      MemoryError: If the device is out of memory, see `Detector`.
    """
    if channels not in decoding.CHANNELS:
      raise ValueError(f"channels is {channels!r}, expected 'rgb' or 'bgr'")
    if lookahead is None and not inputs.is_counted(given):
      lookahead = 0
    pace = inputs.Pace.within(lookahead, self._computation.batch_size)
    self.caution()
    return self._predictions(given, pace, channels, thumbnail, on_error)

  def _predictions(
    self,
    given: Any,
    pace: inputs.Pace,
    channels: str,
    thumbnail: int,
    on_error: inputs.OnError | None,
  ) -> Iterator[Prediction]:
    """Yields what `predict` returns."""
    prepared = pace.in_order(
      lambda one: inputs.prepare(
        self.card, *one, channels=channels, thumbnail=thumbnail
      ),
      inputs.sources(given),
    )
    batches = (
      (batch, np.stack([one.pixels for one in batch]))
      for batch in inputs.batches(prepared, pace.images, on_error)
    )
    try:
      found = self._computation.batches(batches, pace.batches)
      for batch, maps, scores, share in found:
        for one, grid, score in zip(batch, maps, scores, strict=True):
          self._watch.look(one.source, one.small, one.frame.original, channels)
          yield Prediction(
            source=one.source,
            score=float(score),
            thresholds=self.thresholds,
            frame=one.frame,
            input_map=grid,
            seconds=one.seconds + share,
            thumbnail=one.picture,
          )
    finally:
      prepared.close()

  def calibrate(
    self,
    given: Any,
    false_alarm_rate: float = 0.01,
    *,
    channels: str = 'rgb',
    any_aspect: bool = False,
    on_error: inputs.OnError | None = None,
  ) -> 'Detector':
    """Sets the thresholds by normal images that were not trained on.

    Args:
      given: The images, see `predict`.
      false_alarm_rate: Share of normal images that may be called anomalous, in
        (0, 1); what can be promised is in `thresholds`.
      channels: See `predict`.
      any_aspect: Whether images may have another aspect than those that were
        trained on.
      on_error: See `predict`.

    Returns:
      This detector.

    Raises:
      ValueError: If there are no images, one has another aspect, or the rate is
        out of range.
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
    found_thresholds = thresholds.calibrate(
      inputs.names(sources), scores, peaks, false_alarm_rate
    )
    self.thresholds = dataclasses.replace(
      found_thresholds, precision=self.precision
    )
    return self
