"""What a run ships: a detector for every category."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from simplenet_jax import environment, ledger
from simplenet_jax.config import Config, describe_protocol
from simplenet_jax.console import console
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.detection import appearance, assembly, file, thresholds
from simplenet_jax.detection.appearance import Appearance
from simplenet_jax.detector import Detector
from simplenet_jax.models import weights

_SCORED = 16  # Training images that are scored again, at most.


class Shipper:
  """Makes detectors of a run's heads, in `<workdir>/detectors`."""

  def __init__(self, config: Config, loaded: weights.Weights, workdir: Path):
    """Notes what detectors have in common.

    Args:
      config: The run's settings.
      loaded: The backbone's weights.
      workdir: The run's.
    """
    self._config, self._loaded = config, loaded
    self._folder = workdir / 'detectors'

  def path(self, name: str) -> Path:
    """Returns where a category's detector lies."""
    return self._folder / f'{name}{file.SUFFIX}'

  def has(self, name: str, seeds: Sequence[int]) -> bool:
    """Returns whether a category's detector is there, of these seeds' heads."""
    try:
      card, _ = file.load(self.path(name))
    except (FileNotFoundError, ValueError):
      return False
    return card.provenance.get('seeds') == list(seeds)

  def ship(
    self,
    one: Inputs,
    heads: Mapping[int, Mapping[str, np.ndarray]],
    cautions: Sequence[str] = (),
  ) -> None:
    """Makes a category's detector, calibrates it and saves it.

    Args:
      one: The category; its validation images set the thresholds.
      heads: Of each seed; their scores are averaged.
      cautions: What is to be known before it is believed, one line each.
    """
    detector = assembly.assemble(
      self._config,
      one.name,
      one.size,
      self._loaded.state,
      list(heads.values()),
      {
        'protocol': describe_protocol(self._config, self._loaded.other),
        'weights': {'name': self._loaded.name, 'sha256': self._loaded.sha256},
        'seeds': list(heads),
        'data': {
          'root': Path(self._config.data.root).absolute().name,
          'images': ledger.fingerprint(one),
        },
        'device': environment.device(),
      },
      cautions=cautions,
    )
    _look_at_training(detector, one)
    if one.category.validation:
      detector.calibrate(
        one.category.validation,
        self._config.detector.false_alarm_rate,
        any_aspect=True,  # The run has warned of it.
        on_error=lambda _, error: console.print(
          f'  error: {error}; left out of the threshold'
        ),
      )
      told = '\n    '.join(thresholds.describe(detector.thresholds))
      console.print(f'  {one.name}: {told}')
    detector.save(self.path(one.name))

  def conclude(self) -> None:
    """Says where detectors are, if there are any."""
    if any(self._folder.glob(f'[!.]*{file.SUFFIX}')):
      console.print(
        f'Detectors: {self._folder}/ (python -m simplenet_jax.predict)'
      )


def _look_at_training(detector: Detector, one: Inputs) -> None:
  """Notes in a detector's card what its training images look and score like."""
  count = len(one.train)
  chosen = np.rint(np.linspace(0, count - 1, min(count, appearance.LOOKED_AT)))
  thumbnails, scored = [], []
  for number, index in enumerate(chosen):
    pixels = one.train_pixels(int(index))
    thumbnails.append(appearance.thumbnail(pixels))
    # A few suffice for the ends of the colours of heat maps.
    if number % -(-len(chosen) // _SCORED) == 0:
      scored.append(pixels)
  maps, _ = detector.infer(np.stack(scored))
  detector.card = dataclasses.replace(
    detector.card,
    appearance=Appearance.of(
      thumbnails, [frame.original for frame in one.train]
    ),
    usual=(float(np.median(maps)), float(maps.max())),
  )
