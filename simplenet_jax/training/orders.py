"""What all workers share."""

import dataclasses
import threading
from collections.abc import Callable

import numpy as np

from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.job import Job
from simplenet_jax.training.record import Rank, Record
from simplenet_jax.training.step import HeadState, Recipe


@dataclasses.dataclass(frozen=True)
class Orders:
  """What all workers share that train with the same settings.

  Attributes:
    recipe: How heads are trained.
    sigma: Standard deviation of the noise, in units of adapted features.
    relative: Whether it is in units of the spread of a category's features
      instead, see `bank.spread`.
    rates: Returns the factors of a head's learning rates, from a step on, so
      many: float32.
    init: Returns a fresh head's state.
    key: Returns what a head's noise is drawn from, uint32 `[2]`.
    test_images: How many test images a category has.
    rank: Returns how a category's epochs are told from each other, or None.
    every: Returns a head's epochs between evaluations.
    checkpoints: Where heads are saved, None to save nothing.
    checkpoint_seconds: Time between saves.
    on_steps: Called with a record when it has grown.
    stop: When it is set, workers save their heads and end.
  """

  recipe: Recipe
  sigma: float
  relative: bool
  rates: Callable[[Job, int, int], np.ndarray]
  init: Callable[[Job], HeadState]
  key: Callable[[Job], np.ndarray]
  test_images: Callable[[str], int]
  rank: Callable[[str], Rank | None]
  every: Callable[[Job], int]
  checkpoints: Checkpoints | None
  checkpoint_seconds: float
  on_steps: Callable[[Record], None]
  stop: threading.Event
