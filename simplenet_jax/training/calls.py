"""What a device was told to do, and for whom."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from simplenet_jax.training import plan
from simplenet_jax.training.features import Features
from simplenet_jax.training.record import Record
from simplenet_jax.training.step import HeadState, StepMetrics


@dataclasses.dataclass
class Slot:
  """A head in a lane; `step` counts what the device was told to do."""

  lane: int
  record: Record
  features: Features
  key: np.ndarray
  sigma: float
  period: int  # Steps between evaluations.
  step: int

  @property
  def job(self) -> plan.Job:
    """The head."""
    return self.record.job

  @property
  def until_event(self) -> int:
    """Steps until the next evaluation or the end."""
    passed = self.step % self.period
    return min(self.period - passed, self.job.steps - self.step)


# Of some images at a time: how many, and their scores, padded.
Scores = list[tuple[int, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Call:
  """What the device was told to do, and what will come of it."""

  count: int
  metrics: StepMetrics
  slots: Sequence[Slot]
  scores: dict[int, Scores]  # By lane, where an evaluation was due.
  states: dict[int, HeadState]  # By lane, to be saved.
  finished: dict[int, dict[str, Any]]  # By lane: what is left at the end.
