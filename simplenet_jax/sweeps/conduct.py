"""All runs of a sweep, those side by side that can share their features."""

import dataclasses
from pathlib import Path
from typing import Any

from simplenet_jax import run as runs
from simplenet_jax import train
from simplenet_jax.cluster import ALONE, Cluster
from simplenet_jax.console import console, counted
from simplenet_jax.protocols import Config
from simplenet_jax.sweeps import settings


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of one run.

  Attributes:
    label: Of the variant.
    run: The run, with its settings, work directory and images.
    results: What its `results.json` holds.
  """

  label: str
  run: runs.Run
  results: dict[str, Any]


def conduct(
  config: Config, workdir: Path, cluster: Cluster = ALONE
) -> tuple[list[Outcome], dict[str, str]]:
  """Trains and evaluates every variant.

  Each has a work directory of its own in that of the sweep, named after what it
  changes. What is finished there already, also by another sweep, is not done
  again.

  Args:
    config: A sweep's settings.
    workdir: The sweep's directory.
    cluster: The processes that do it together.

  Returns:
    One outcome per variant, in the order of the settings, and why others have
    none; nothing except in process 0.

  Raises:
    ValueError: For settings, images or weights that cannot be used.
    OSError: If a file or folder is missing or cannot be written.
    stop.Stopped: If a signal asked to stop; everything is saved.
  """
  expanded = settings.expand(config)
  groups: dict[str, dict[str, Config]] = {}
  for label, run in expanded.items():
    groups.setdefault(settings.alike(run), {})[label] = run
  if cluster.index == 0:
    console.print(
      f'{config.title}: {counted(len(expanded), "variant")}, features made '
      f'{"once" if len(groups) == 1 else f"{len(groups)} times"}; {workdir}/'
    )
  if len(groups) > 1:  # What the last one lacks is told before the first.
    for group in groups.values():
      train.check(next(iter(group.values())))
  found, failures = {}, {}
  for group in groups.values():
    together = train.train_together(
      {
        label: (run, workdir / settings.folder(config, label, run))
        for label, run in group.items()
      },
      workdir,
      cluster,
      recall=True,
    )
    if cluster.index > 0:
      continue
    for label, run in together.items():
      try:
        found[label] = Outcome(label, run, runs.conclude(run, tell=False))
      except ValueError as error:
        failures[label] = str(error)
  return [found[label] for label in expanded if label in found], failures
