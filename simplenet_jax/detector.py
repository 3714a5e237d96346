"""A trained detector: make it, load it, show it images, share it."""

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax.config import check_config, load_config
from simplenet_jax.data.decoding import CHANNELS
from simplenet_jax.data.frame import text
from simplenet_jax.data.images import place
from simplenet_jax.detection import calibration, file, inputs
from simplenet_jax.detection.drift import Drift
from simplenet_jax.detection.inputs import Look, OnError
from simplenet_jax.detection.scorer import Scorer
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


class Detector(Scorer):
  """Scores images of one category; `card` says what it is and where from.

  >>> detector = Detector.load('runs/parts/detectors/parts')
  >>> found = detector('part.png')
  >>> found
  <Prediction part.png: NOT OK 5.01 (limit 2.44), 1 region>
  >>> [region.box for region in found.regions]  # x, y, width, height
  [(812, 300, 96, 41)]
  """

  __slots__ = ()

  @classmethod
  def train(
    cls,
    root: str | Path,
    *,
    config: str = 'folder',
    workdir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
  ) -> Self:
    """Trains on a folder of good images of one category: `simplenet train`.

    Settings are as in `{'data.resize': 224}`. Results go to `workdir`, by
    default `runs/<config>-<time>`; `results` has the figures. An interrupted
    run raises `console.Stopped`, and goes on with the same `workdir`.
    """
    # Two are from above, as tests/test_house.py knows; judging needs none.
    from simplenet_jax import cli
    from simplenet_jax.data import dataset
    from simplenet_jax.train import train_and_evaluate

    given = load_config(config)
    own = {**(settings or {}), 'data.root': str(root)}
    given.update_from_flattened_dict(own)
    check_config(given)
    if not given.detector.save:
      raise ValueError('detector.save is False: there would be no detector')
    names = [one.name for one in dataset.find(given.data)[1].categories]
    if len(names) > 1:
      raise ValueError(
        f'{root} holds several categories: {", ".join(names)}; choose one by '
        'the setting data.categories, or train all by simplenet train'
      )
    with cli.workdir(workdir and str(workdir), given.name) as folder:
      train_and_evaluate(given, folder)
      return cls.load(file.path_in(folder, *names))

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
    self.card = dataclasses.replace(self.card, thresholds=value)

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
    on_error: OnError | None = None,
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
    """Returns what is said of an image by what `infer` computes in `seconds`.

    That is its map, `grid`, float32 `[*size]`, and its score.
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
      look=Look.of(image.pixels, image.small, self.card.appearance),
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
    on_error: OnError | None = None,
  ) -> 'Detector':
    """Sets the thresholds by normal images that were not trained on.

    Images are given as to `predict`. At most a share `false_alarm_rate`, in
    (0, 1), of normal images may be called anomalous; `thresholds` says what can
    be guaranteed. Images of another aspect than those trained on are a
    ValueError, unless `any_aspect`. With `append` the images that the detector
    knows count as well, and it must know them. Images that it judged good
    itself, by its threshold of now, have been `served` with these scores; it is
    a ValueError if they have others by now. Returns this detector.
    """
    found = self.score_good(
      given, channels=channels, any_aspect=any_aspect, on_error=on_error
    )
    calibration.warn_of_trained(self.thresholds, found)
    if served:
      calibration.check_served(served, [one.score for one in found])
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
    on_error: OnError | None = None,
    on_found: Callable[[Prediction], None] | None = None,
  ) -> list[Good]:
    """Returns names, scores, highest values of maps, looks of normal images.

    They are given, and refused, as by `calibrate`; `on_found` is called with
    each one's prediction.
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
      peak = float(one.input_map.max())
      found.append(Good(name, one.score, peak, one.look))
      if on_found:
        on_found(one)
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
