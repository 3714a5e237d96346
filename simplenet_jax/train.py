"""Runs from top to bottom: read, extract, train, evaluate, report."""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simplenet_jax import interrupts, ledger, protocols
from simplenet_jax import run as runs
from simplenet_jax.data import sources
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.deployment.shipper import Shipper
from simplenet_jax.evaluation import results
from simplenet_jax.models import weights
from simplenet_jax.overview import announce
from simplenet_jax.progress import Board, Clock, console, counted
from simplenet_jax.protocols import Config
from simplenet_jax.training import engine, layout, planning, setup
from simplenet_jax.training.bank import Extractor
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.orders import Orders
from simplenet_jax.training.plan import Job
from simplenet_jax.training.record import Record
from simplenet_jax.training.watch import Watch


def train_and_evaluate(config: Config, workdir: Path) -> dict[str, Any]:
  """Trains and evaluates every category of a data set.

  Results are written after every category; a category that fails is told and
  left out, the others go on. A run that was interrupted goes on where it was
  last saved when it is started again with the same settings.

  Args:
    config: The settings, see `protocols`.
    workdir: Where results go; must not hold those of another run.

  Returns:
    What `results.json` holds.

  Raises:
    ValueError: For settings, images or weights that cannot be used, in the end
      also if any category failed.
    OSError: If a file or folder is missing or cannot be written.
    interrupts.Stopped: If a signal asked it to stop; everything is saved.
  """
  (run,) = train_together({'': (config, workdir)}, workdir).values()
  return runs.conclude(run)


# Each run's settings and work directory, by name.
Settings = Mapping[str, tuple[Config, Path]]


def train_together(
  settings: Settings, folder: Path, *, recall: bool = False
) -> dict[str, runs.Run]:
  """Trains and evaluates runs that differ in their heads alone.

  Features are made once for all of them.

  Args:
    settings: Alike in `data`, `backbone`, `patch`, `bank` and `engine`.
    folder: What holds the work directories.
    recall: Whether categories of which nothing is left to train keep the
      figures that they have.

  Returns:
    The runs by name; `run.conclude` tells what came of one.

  Raises:
    ValueError: For settings, images or weights that cannot be used.
    OSError: If a file or folder is missing or cannot be written.
    interrupts.Stopped: If a signal asked them to stop; everything is saved.
  """
  work = _read(settings)
  # What cannot be done is refused before a directory is taken.
  planned = work.plan(work.jobs)
  opened, resumed = _open(settings, work, recall)
  try:
    ended, left, under_way = _survey(opened, work.jobs)
    if ended:
      planned = work.plan(left)
    configs = [run.config for run in opened.values()]
    announce(configs, work.weights, work.categories, planned, folder)
    if resumed:
      console.print(
        f'  resumes   {counted(len(ended), "head")} finished, {under_way} '
        'under way'
      )
    with (
      interrupts.caught() as stop,
      Board() as board,
      Watch(board, left, scalars(settings)) as watch,
    ):
      orders = _order(opened, work, watch, stop)
      source = setup.make_source(
        configs[0], work.extractor, work.weights.state, folder
      )
      with (
        work.clock('train and score'),
        engine.started(planned.rota, orders, source, watch.on_batch) as records,
      ):
        for record in itertools.chain(ended, records):
          if runs.take(opened[record.job.variant], record):
            watch.end(record.job)
          if stop.is_set():
            break
  finally:
    for run in opened.values():
      run.checkpoints.close()
  if stop.is_set():
    raise interrupts.Stopped(
      f'stopped and saved; the same command with --workdir={folder} goes on',
      128 + stop.signal,
    )
  return opened


@dataclasses.dataclass(frozen=True)
class _Work:
  """What runs side by side share, and what each has of its own, by name."""

  categories: list[Inputs]
  clock: Clock
  extractor: Extractor
  weights: weights.Weights
  variants: dict[str, setup.Variant]
  jobs: list[Job]

  def plan(self, left: Sequence[Job]) -> planning.Plan:
    """Plans the training of the heads that are left."""
    return planning.make_plan(
      self.variants,
      self.extractor,
      self.weights.state,
      self.jobs,
      left,
      self.categories,
    )


def _read(settings: Settings) -> _Work:
  """Checks the settings; reads images' names and weights."""
  configs = {name: config for name, (config, _) in settings.items()}
  for config in configs.values():
    protocols.check(config)
  first, clock = next(iter(configs.values())), Clock()
  categories = sources.open_categories(first.data)
  extractor = setup.make_extractor(first)
  variants = {
    name: setup.Variant(config, setup.make_recipe(config, extractor.starts))
    for name, config in configs.items()
  }
  with clock('load weights'):
    loaded = setup.load_backbone(first, extractor.graph)
  jobs = [
    job
    for name, config in configs.items()
    for job in layout.make_jobs(config, categories, name)
  ]
  return _Work(categories, clock, extractor, loaded, variants, jobs)


def _open(
  settings: Settings, work: _Work, recall: bool
) -> tuple[dict[str, runs.Run], bool]:
  """Takes the work directories; says whether one was a run's already."""
  opened, resumed = {}, False
  for name, (config, workdir) in settings.items():
    resumed |= ledger.claim(
      workdir, config, work.weights.sha256, work.categories
    )
    opened[name] = runs.Run(
      config,
      workdir,
      {one.name: one for one in work.categories},
      work.weights,
      work.clock,
      Checkpoints(workdir / 'checkpoints'),
      Shipper(config, work.weights, workdir),
      known=results.recall(workdir, config.seeds) if recall else {},
    )
  return opened, resumed


def _survey(
  opened: Mapping[str, runs.Run], jobs: Sequence[Job]
) -> tuple[list[Record], list[Job], int]:
  """Returns finished heads, those left, and how many are under way."""
  ended, left, under_way = [], [], 0
  for name, run in opened.items():
    own = [job for job in jobs if job.variant == name]
    found = run.checkpoints.survey(own, functools.partial(runs.rank, run))
    ended += found[0]
    left += found[1]
    under_way += found[2]
  return ended, left, under_way


def _order(
  opened: Mapping[str, runs.Run],
  work: _Work,
  watch: Watch,
  stop: threading.Event,
) -> dict[str, Orders]:
  """Returns what workers need to know of each run."""
  return {
    name: setup.make_orders(
      run.config,
      work.variants[name].recipe,
      work.extractor.starts,
      test_images=lambda name, run=run: len(run.categories[name].test),
      rank=functools.partial(runs.rank, run),
      checkpoints=run.checkpoints,
      on_steps=watch.on_steps,
      stop=stop,
    )
    for name, run in opened.items()
  }


def scalars(settings: Settings) -> dict[str, Path | None]:
  """Returns where each run's scalars go, if they are wanted."""
  return {
    name: workdir / 'tensorboard' if config.engine.tensorboard else None
    for name, (config, workdir) in settings.items()
  }
