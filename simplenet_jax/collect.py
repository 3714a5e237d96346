"""Heads and results, whichever process they come from."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence

from simplenet_jax import run as runs
from simplenet_jax.cluster import Cluster
from simplenet_jax.training.job import Job
from simplenet_jax.training.progress import HeadProgress
from simplenet_jax.training.share import Share

Opened = Mapping[str, runs.Run]  # By variant.


def survey(
  opened: Opened, jobs: Sequence[Job], cluster: Cluster
) -> dict[Job, int]:
  """Returns how many steps of each head are saved; processes share the work."""
  mine = jobs[cluster.index :: cluster.count]
  found = [opened[job.variant].checkpoints.progress(job) for job in mine]
  saved = {}
  for index, steps in enumerate(cluster.exchange(found)):
    saved |= zip(jobs[index :: cluster.count], steps, strict=True)
  return saved


def records(
  opened: Opened,
  share: Share,
  trained: Iterator[HeadProgress],
  cluster: Cluster,
  stop: threading.Event,
) -> Iterator[HeadProgress]:
  """Yields the heads of the categories that this process evaluates."""
  for job in share.ended:
    yield _saved(opened, job)
  for record in trained:
    if record.job not in share.foreign:
      yield record
    else:
      cluster.tell('heads', _key(record.job), record.error)
  away = {_key(job): job for job in share.away}
  while away and not stop.is_set():
    told = cluster.told('heads')
    for key in [key for key in away if key in told]:
      yield _saved(opened, away.pop(key), told[key])
    stop.wait(1.0)


def _key(job: Job) -> str:
  return json.dumps([job.variant, job.category, job.seed])


def _saved(opened: Opened, job: Job, error: str | None = None) -> HeadProgress:
  """Returns a head that another process, or an earlier one, has trained."""
  run = opened[job.variant]
  rank = runs.rank(run, job.category)
  saved = None if error else run.checkpoints.load(job, rank)
  record = saved[0] if saved else HeadProgress(job)
  record.error = error or (None if saved else 'its checkpoint is gone')
  record.head = None  # Stays on disk until it is needed.
  return record


def gather(opened: Opened, cluster: Cluster, stop: threading.Event) -> None:
  """Tells every process what came of the categories of the others."""
  if stop.is_set():
    return
  own = {name: runs.findings(run) for name, run in opened.items()}
  for found in cluster.exchange(own):
    for name, run in opened.items():
      runs.merge(run, found[name])
