"""Runs from top to bottom: read, extract, train, evaluate, report."""

import functools
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simplenet_jax import interrupts, ledger, protocols
from simplenet_jax import run as runs
from simplenet_jax.data import sources
from simplenet_jax.deployment.shipper import Shipper
from simplenet_jax.evaluation import results
from simplenet_jax.overview import announce
from simplenet_jax.progress import Board, Clock, console, counted
from simplenet_jax.protocols import Config
from simplenet_jax.training import engine, layout, planning, setup
from simplenet_jax.training.checkpoint import Checkpoints
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
  (run,) = train_together({'': (config, workdir)}).values()
  return runs.conclude(run)


def train_together(
  settings: Mapping[str, tuple[Config, Path]], *, recall: bool = False
) -> dict[str, runs.Run]:
  """Trains and evaluates runs that differ in their heads alone.

  Features are made once for all of them.

  Args:
    settings: Each run's settings and work directory, by name; alike in `data`,
      `backbone`, `patch`, `bank` and `engine`.
    recall: Whether categories of which nothing is left to train keep the
      figures that they have.

  Returns:
    The runs by name; `run.conclude` tells what came of one.

  Raises:
    ValueError: For settings, images or weights that cannot be used.
    OSError: If a file or folder is missing or cannot be written.
    interrupts.Stopped: If a signal asked them to stop; everything is saved.
  """
  for config, _ in settings.values():
    protocols.check(config)
  config = next(config for config, _ in settings.values())
  folder = Path(
    os.path.commonpath([workdir for _, workdir in settings.values()])
  )
  categories = sources.open_categories(config.data)
  clock = Clock()
  extractor = setup.make_extractor(config)
  variants = {
    name: setup.Variant(own, setup.make_recipe(own, extractor.starts))
    for name, (own, _) in settings.items()
  }
  with clock('load weights'):
    loaded = setup.load_backbone(config, extractor.graph)
  jobs = {
    name: layout.make_jobs(own, categories, name)
    for name, (own, _) in settings.items()
  }
  everything = list(itertools.chain(*jobs.values()))
  plan = functools.partial(
    planning.make_plan,
    variants,
    extractor,
    loaded.state,
    everything,
    categories=categories,
  )
  # What cannot be done is refused before the directory is taken.
  planned = plan(left=everything)
  opened, resumed = {}, False
  for name, (own, workdir) in settings.items():
    resumed |= ledger.claim(workdir, own, loaded.sha256, categories)
    opened[name] = runs.Run(
      own,
      workdir,
      {one.name: one for one in categories},
      loaded,
      clock,
      Checkpoints(workdir / 'checkpoints'),
      Shipper(own, loaded, workdir),
      known=results.recall(workdir, own.seeds) if recall else {},
    )
  try:
    surveys = {
      name: run.checkpoints.survey(
        jobs[name], functools.partial(runs.rank, run)
      )
      for name, run in opened.items()
    }
    ended = [record for found, _, _ in surveys.values() for record in found]
    left = [job for _, found, _ in surveys.values() for job in found]
    if ended:
      planned = plan(left=left)
    announce(
      [own for own, _ in settings.values()],
      loaded,
      categories,
      planned,
      folder,
    )
    if resumed:
      under_way = sum(count for _, _, count in surveys.values())
      console.print(
        f'  resumes   {counted(len(ended), "head")} finished, {under_way} '
        'under way'
      )
    with (
      interrupts.caught() as stop,
      Board() as board,
      Watch(board, left, scalars(settings)) as watch,
    ):
      orders = {
        name: setup.make_orders(
          run.config,
          variants[name].recipe,
          extractor.starts,
          test_images=lambda name, run=run: len(run.categories[name].test),
          rank=functools.partial(runs.rank, run),
          checkpoints=run.checkpoints,
          on_steps=watch.on_steps,
          stop=stop,
        )
        for name, run in opened.items()
      }
      source = setup.make_source(config, extractor, loaded.state, folder)
      with (
        clock('train and score'),
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


def scalars(
  settings: Mapping[str, tuple[Config, Path]],
) -> dict[str, Path | None]:
  """Returns where each run's scalars go, if they are wanted."""
  return {
    name: workdir / 'tensorboard' if config.engine.tensorboard else None
    for name, (config, workdir) in settings.items()
  }
