"""Runs from top to bottom: read, extract, train, evaluate, report."""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simplenet_jax import collect, ledger
from simplenet_jax import run as runs
from simplenet_jax.cluster import ALONE, Cluster
from simplenet_jax.config import Config, check_config
from simplenet_jax.console import Board, Clock, console, counted
from simplenet_jax.data import dataset
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.detection.assembly import Shipper
from simplenet_jax.evaluation import earlier
from simplenet_jax.models import weights
from simplenet_jax.overview import announce
from simplenet_jax.stop import Stopped, caught
from simplenet_jax.training import bank, engine, layout, planning, step, store
from simplenet_jax.training import share as shares
from simplenet_jax.training.bank import Extractor
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.job import Job
from simplenet_jax.training.progress import Watch
from simplenet_jax.training.worker import HeadSettings


def train_and_evaluate(
  config: Config,
  workdir: Path,
  cluster: Cluster = ALONE,
  *,
  recall: bool = False,
) -> dict[str, Any]:
  """Trains and evaluates every category of a data set.

  Results are written after every category; a category that fails is told and
  left out, the others go on. A run that was interrupted goes on where it was
  last saved when it is started again with the same settings.

  Args:
    config: The settings, see `config`.
    workdir: Where results go; must not hold those of another run.
    cluster: The processes that do it together. Results are then written in the
      end, by process 0.
    recall: Whether categories of which nothing is left to train keep the
      figures that they have.

  Returns:
    What `results.json` holds; nothing except in process 0.

  Raises:
    ValueError: For settings, images or weights that cannot be used, in the end
      also if any category failed; if another process gave up or is gone.
    OSError: If a file or folder is missing or cannot be written.
    stop.Stopped: If a signal asked it to stop; everything is saved.
  """
  (run,) = train_together(
    {'': (config, workdir)}, workdir, cluster, recall=recall
  ).values()
  return runs.conclude(run) if cluster.index == 0 else {}


# Each run's settings and work directory, by name.
Settings = Mapping[str, tuple[Config, Path]]


def train_together(
  settings: Settings,
  folder: Path,
  cluster: Cluster = ALONE,
  *,
  recall: bool = False,
) -> dict[str, runs.Run]:
  """Trains and evaluates runs that differ in their heads alone.

  Features are made once for all of them.

  Args:
    settings: Alike in `data`, `backbone`, `patch`, `bank` and `engine`.
    folder: What holds the work directories.
    cluster: The processes that do it together.
    recall: Whether categories of which nothing is left to train keep the
      figures that they have.

  Returns:
    The runs by name, those of process 0 with everything that came of them;
    `run.conclude` tells it.

  Raises:
    ValueError: For settings, images or weights that cannot be used; if another
      process gave up or is gone.
    OSError: If a file or folder is missing or cannot be written.
    stop.Stopped: If a signal asked them to stop; everything is saved.
  """
  work = _read(settings, cluster)
  # What cannot be done is refused before a directory is taken.
  planned = work.plan(work.jobs)
  with contextlib.ExitStack() as held:
    opened, resumed = _open(settings, work, cluster, recall, held)
    saved = collect.survey(opened, work.jobs, cluster)
    ended = [job for job in work.jobs if saved[job] == job.steps]
    left = [job for job in work.jobs if saved[job] < job.steps]
    if ended:
      planned = work.plan(left)
    share = shares.share(planned.rota, ended, cluster.index, cluster.count)
    configs = [run.config for run in opened.values()]
    if cluster.index == 0:
      announce(configs, work.weights, work.categories, planned, folder)
      if resumed:
        console.print(
          f'  resumes   {counted(len(ended), "head")} finished, '
          f'{sum(saved[job] > 0 for job in left)} under way'
        )
    with (
      caught() as stop,
      Board() as board,
      Watch(board, share.jobs, scalars(configs[0], folder)) as watch,
    ):
      cluster.heed(stop)
      heads = _head_settings(opened[''], work, watch, stop)
      extraction = store.extraction_settings(
        configs[0],
        work.extractor,
        work.weights,
        folder,
        cluster.neighbours,
      )
      with (
        work.clock('train and score'),
        engine.started(
          share.rota,
          heads,
          extraction,
          watch.on_batch,
        ) as trained,
      ):
        for record in collect.records(opened, share, trained, cluster, stop):
          if runs.take(opened[''], record):
            watch.end(record.job.category)
          if stop.is_set():
            break
      collect.gather(opened, cluster, stop)
  cluster.check()
  if stop.is_set():
    raise Stopped(
      f'stopped and saved; the same command with --workdir={folder} goes on',
      128 + stop.signal,
    )
  return opened


@dataclasses.dataclass(frozen=True)
class _Work:
  """What runs side by side share, and what each has of its own, by name."""

  images: dataset.DataSet
  clock: Clock
  extractor: Extractor
  weights: weights.Weights
  config: Config
  recipe: step.Recipe
  jobs: list[Job]
  budget: int

  @property
  def categories(self) -> list[Inputs]:
    """The categories."""
    return self.images.categories

  def plan(self, left: Sequence[Job]) -> planning.Plan:
    """Plans the training of the heads that are left."""
    return planning.make_plan(
      self.config,
      self.recipe,
      self.extractor,
      self.weights.state,
      self.jobs,
      left,
      self.categories,
      self.budget,
    )


def _read(settings: Settings, cluster: Cluster) -> _Work:
  """Checks the settings; reads images' names and weights."""
  configs = {name: config for name, (config, _) in settings.items()}
  for config in configs.values():
    check_config(config)
  first, clock = next(iter(configs.values())), Clock()
  images = dataset.open_categories(first.data, whole=cluster.count == 1)
  categories = images.categories
  extractor = bank.make_extractor(first)
  recipe = step.make_recipe(first, extractor.level_offsets)
  with clock('load weights'):
    loaded = bank.load_backbone(first)
    loaded = bank.check_noise(first, extractor, loaded, categories[0])
  jobs = layout.make_jobs(first, categories)
  budgets = cluster.exchange(layout.bank_budget(first, cluster.neighbours))
  return _Work(
    images, clock, extractor, loaded, first, recipe, jobs, min(budgets)
  )


def _open(
  settings: Settings,
  work: _Work,
  cluster: Cluster,
  recall: bool,
  held: contextlib.ExitStack,
) -> tuple[dict[str, runs.Run], bool]:
  """Takes the work directories; says whether one was a run's already.

  What is to be let go of again goes to `held`.
  """
  opened, resumed = {}, False
  sha256 = work.weights.sha256
  if cluster.index == 0:
    for config, workdir in settings.values():
      held.enter_context(ledger.held(workdir))
      resumed |= ledger.claim(workdir, config, sha256, work.categories)
  cluster.exchange(None)
  for name, (config, workdir) in settings.items():
    if cluster.index > 0:
      ledger.verify(workdir, config, sha256, work.categories)
    opened[name] = runs.Run(
      config,
      workdir,
      {one.name: one for one in work.categories},
      work.weights,
      work.clock,
      Checkpoints(workdir / 'checkpoints'),
      Shipper(config, work.weights, workdir),
      known=earlier.recall(workdir, config.seeds) if recall else {},
      divided=cluster.count > 1,
      files=work.images.files,
    )
    held.callback(opened[name].checkpoints.close)
  return opened, resumed


def _head_settings(
  run: runs.Run, work: _Work, watch: Watch, stop: threading.Event
) -> HeadSettings:
  return HeadSettings(
    run.config,
    work.recipe,
    {name: len(one.test) for name, one in run.categories.items()},
    rank=functools.partial(runs.rank, run),
    checkpoints=run.checkpoints,
    on_steps=watch.on_steps,
    stop=stop,
  )


def scalars(config: Config, workdir: Path) -> Path | None:
  """Returns where a run's scalars go, if they are wanted."""
  return workdir / 'tensorboard' if config.engine.tensorboard else None
