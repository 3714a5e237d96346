"""What a device is told to do next, and what it was told, and for whom."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simplenet_jax.training import lanes
from simplenet_jax.training.features import Features
from simplenet_jax.training.job import Job, batches
from simplenet_jax.training.orders import Orders
from simplenet_jax.training.record import Record
from simplenet_jax.training.step import HeadState, StepMetrics

STEPS = 512  # Steps that one call of the device can do.


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
  def job(self) -> Job:
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


def next_steps(
  orders: Orders, slots: Sequence[Slot], width: int, count: int
) -> lanes.Work:
  """Returns what the lanes of a device do next; streamed images are copied.

  Args:
    orders: What all workers share.
    slots: The heads in the lanes.
    width: Number of lanes.
    count: How many steps they do, `STEPS` at most.
  """
  batch = orders.recipe.batch_size
  rows = np.zeros((width, STEPS, batch), np.int32)
  # A lane without a head trains what nobody reads, on whatever there is.
  valid = np.ones((width, STEPS, batch), np.float32)
  keys = np.zeros((width, 2), np.uint32)
  first = np.zeros(width, np.int32)
  sigma = np.ones(width, np.float32)
  rate = np.ones((width, STEPS), np.float32)
  for slot in slots:
    images, counted = batches(slot.job, slot.step, count)
    rows[slot.lane, :count] = slot.features.rows(slot.lane, images)
    valid[slot.lane, :count] = counted
    keys[slot.lane], first[slot.lane] = slot.key, slot.step
    sigma[slot.lane] = slot.sigma
    rate[slot.lane, :count] = orders.rates(slot.job, slot.step, count)
  work = (rows, valid, keys, first, sigma, rate)
  return lanes.Work(*map(jnp.asarray, work))
