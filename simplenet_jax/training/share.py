"""Which part of a run each process has."""

import collections
import dataclasses
from collections.abc import Sequence

from simplenet_jax.training.job import Job
from simplenet_jax.training.layout import DeviceTask


@dataclasses.dataclass(frozen=True)
class Share:
  """One process's part: what it trains, and which categories it evaluates.

  A category belongs to the process that trains most of it, of several the one
  to which fewest belong; seeds of it may train in others.

  Attributes:
    rota: The shifts of its devices.
    ended: Finished heads of its categories.
    away: Heads of its categories that other processes train.
    foreign: Heads that it trains of categories of other processes.
  """

  rota: list[list[DeviceTask]]
  ended: list[Job]
  away: list[Job]
  foreign: frozenset[Job]

  @property
  def jobs(self) -> list[Job]:
    """The heads that it trains."""
    return [job for part in self.rota for one in part for job in one.jobs]


def share(
  rota: Sequence[Sequence[DeviceTask]],
  ended: Sequence[Job],
  index: int,
  count: int,
) -> Share:
  """Returns the part of one process.

  Args:
    rota: The shifts of all devices.
    ended: All heads that are finished already.
    index: Of the process.
    count: Of all processes.
  """
  trains = {
    job: part[0].device.process_index
    for part in rota
    for shift in part
    for job in shift.jobs
  }
  steps: dict[str, collections.Counter[int]] = collections.defaultdict(
    collections.Counter
  )
  for job, process in trains.items():
    steps[job.label][process] += job.steps
  homes: dict[str, int] = {}
  for label, loads in steps.items():
    most = [one for one in loads if loads[one] == max(loads.values())]
    held = collections.Counter(homes.values())
    homes[label] = min(most, key=lambda one, held=held: (held[one], one))
  idle = [label for label in _labels(ended) if label not in homes]
  homes |= {label: number % count for number, label in enumerate(idle)}
  return Share(
    rota=[list(part) for part in rota if part[0].device.process_index == index],
    ended=[job for job in ended if homes[job.label] == index],
    away=[
      job
      for job, process in trains.items()
      if homes[job.label] == index != process
    ],
    foreign=frozenset(
      job
      for job, process in trains.items()
      if homes[job.label] != index == process
    ),
  )


def _labels(jobs: Sequence[Job]) -> list[str]:
  return list(dict.fromkeys(job.label for job in jobs))
