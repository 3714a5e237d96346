"""All runs of a sweep, one after the other."""

import dataclasses
from pathlib import Path
from typing import Any

from simplenet_jax import stop, train
from simplenet_jax.cluster import ALONE, Cluster
from simplenet_jax.config import Config
from simplenet_jax.console import console, counted
from simplenet_jax.sweeps import settings


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of one run.

  Attributes:
    label: The variant's.
    config: The run's settings.
    workdir: Where the run left its files.
    results: What its `results.json` holds.
  """

  label: str
  config: Config
  workdir: Path
  results: dict[str, Any]


def conduct(
  config: Config, workdir: Path, cluster: Cluster = ALONE
) -> tuple[list[Outcome], dict[str, str]]:
  """Trains and evaluates every variant; one that fails stops no other.

  Each run has a directory of its own in the sweep's, named after what it
  changes. A run that is finished there, also by another sweep, is kept.

  Args:
    config: A sweep's settings.
    workdir: The sweep's directory.
    cluster: The processes that train together.

  Returns:
    One outcome per variant, in the order of the settings, and why others have
    none, by label; nothing except in process 0.

  Raises:
    ValueError: For settings that cannot be used.
    stop.Stopped: If a signal asked to stop; everything is saved.
  """
  expanded = settings.expand(config)
  if cluster.index == 0:
    console.print(
      f'{config.title}: {counted(len(expanded), "variant")}; {workdir}/'
    )
  outcomes, failures = [], {}
  for label, run in expanded.items():
    own = workdir / settings.folder(config, label, run)
    if cluster.index == 0:
      console.print(f'\n{label}')
    try:
      results = train.train_and_evaluate(run, own, cluster, recall=True)
    except stop.Stopped as stopped:
      raise stop.Stopped(
        f'stopped and saved; the same command with --workdir={workdir} goes on',
        stopped.status,
      ) from None
    except (ValueError, OSError) as error:
      failures[label] = str(error)
      console.print(f'  error: {label}: {error}')
    else:
      outcomes.append(Outcome(label, run, own, results))
  return (outcomes, failures) if cluster.index == 0 else ([], {})
