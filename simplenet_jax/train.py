"""A run from top to bottom: read, extract, train, evaluate, report."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simplenet_jax import environment, interrupts, ledger, protocols
from simplenet_jax.data import sources
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.deployment.shipper import Shipper
from simplenet_jax.evaluation import category, metrics, results
from simplenet_jax.models import weights
from simplenet_jax.overview import announce
from simplenet_jax.progress import Board, Clock, console, counted
from simplenet_jax.protocols import Config
from simplenet_jax.training import engine, setup
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.record import Record
from simplenet_jax.training.watch import Watch
from simplenet_jax.training.worker import FAILURES


@dataclasses.dataclass
class Run:
  """One run.

  Attributes:
    config: The settings.
    workdir: Where its results go.
    categories: The images, by name.
    weights: The backbone's weights and where they come from.
    clock: Wall time by phase.
    checkpoints: Of its heads.
    shipper: Makes detectors of them.
    records: The heads that ended so far, by category and seed.
    finished: The categories evaluated so far.
    failed: Why others failed.
  """

  config: Config
  workdir: Path
  categories: dict[str, Inputs]
  weights: weights.Weights
  clock: Clock
  checkpoints: Checkpoints
  shipper: Shipper
  records: dict[str, dict[int, Record]] = dataclasses.field(
    default_factory=dict
  )
  finished: dict[str, results.CategoryResult] = dataclasses.field(
    default_factory=dict
  )
  failed: dict[str, str] = dataclasses.field(default_factory=dict)


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
  protocols.check(config)
  categories = sources.open_categories(config.data)
  clock = Clock()
  extractor = setup.make_extractor(config)
  recipe = setup.make_recipe(config, extractor.starts)
  with clock('load weights'):
    loaded = setup.load_backbone(config, extractor.graph)
  jobs = engine.make_jobs(config, categories)

  def plan(left):
    return setup.make_plan(
      config, recipe, extractor, loaded.state, jobs, left, categories
    )

  # What cannot be done is refused before the directory is taken.
  planned = plan(jobs)
  resumed = ledger.claim(workdir, config, loaded.sha256, categories)
  checkpoints = Checkpoints(workdir / 'checkpoints')
  run = Run(
    config,
    workdir,
    {one.name: one for one in categories},
    loaded,
    clock,
    checkpoints,
    Shipper(config, loaded, workdir),
  )
  try:
    ended, left, under_way = checkpoints.survey(
      jobs, lambda name: rank(run, name)
    )
    if ended:
      planned = plan(left)
    announce(config, loaded, categories, planned, workdir)
    if resumed:
      console.print(
        f'  resumes   {counted(len(ended), "head")} finished, {under_way} '
        'under way'
      )
    with (
      interrupts.caught() as stop,
      Board() as board,
      Watch(board, left, tensorboard(config, workdir)) as watch,
    ):
      orders = setup.make_orders(
        config,
        recipe,
        extractor.starts,
        test_images=lambda name: len(run.categories[name].test),
        rank=lambda name: rank(run, name),
        checkpoints=checkpoints,
        on_steps=watch.on_steps,
        stop=stop,
      )
      source = setup.make_source(config, extractor, loaded.state, workdir)
      with (
        clock('train and score'),
        engine.started(planned.rota, orders, source, watch.on_batch) as records,
      ):
        for record in itertools.chain(ended, records):
          take(run, record, watch)
          if stop.is_set():
            break
  finally:
    checkpoints.close()
  if stop.is_set():
    raise interrupts.Stopped(
      f'stopped and saved; the same command with --workdir={workdir} goes on',
      128 + stop.signal,
    )
  return conclude(run)


def rank(run: Run, name: str):
  """Returns what tells a category's epochs from each other: image AUROC."""
  labels = run.categories[name].labels
  if not 0 < labels.sum() < len(labels):
    return None
  return lambda scores: metrics.auroc(labels, scores.max(axis=(1, 2)))


def tensorboard(config: Config, workdir: Path) -> Path | None:
  """Returns where scalars go, if they are wanted."""
  return workdir / 'tensorboard' if config.engine.tensorboard else None


def take(run: Run, record: Record, watch: Watch) -> None:
  """Takes a head that ended; evaluates its category if it was the last one."""
  name, seeds = record.job.category, run.config.seeds
  heads = run.records.setdefault(name, {})
  heads[record.job.seed] = record
  if record.error and name not in run.failed:
    run.failed[name] = record.error
    console.print(f'  error: {name}: {record.error}')
  if len(heads) < len(seeds):
    return
  watch.end(name)
  ordered = [heads[seed] for seed in seeds]
  if any(record.finished for record in ordered):
    try:
      run.finished[name] = category.evaluate(
        run.config, run.workdir, run.clock, run.categories[name], ordered
      )
      report(run)
      ship(run, run.categories[name], ordered)
    except FAILURES as error:
      run.failed[name] = (
        str(error).strip() or type(error).__name__
      ).splitlines()[0]
      console.print(f'  error: {name}: {run.failed[name]}')
  run.records[name] = {}


def ship(run: Run, one: Inputs, records: Sequence[Record]) -> None:
  """Makes a category's detector of all its heads that were not given up."""
  whole = [record for record in records if record.finished]
  seeds = [record.job.seed for record in whole]
  if not run.config.detector.save or run.shipper.has(one.name, seeds):
    return
  if len(whole) < len(records):
    console.print(
      f'  {one.name}: its detector has {len(whole)} of '
      f'{counted(len(records), "head")}'
    )
  with run.clock('detectors'):
    heads = {}
    for record in whole:
      head = record.head
      if head is None and (saved := run.checkpoints.load(record.job)):
        head = saved[0].head
      if head is not None:
        heads[record.job.seed] = head
    run.shipper.ship(one, heads)


def report(run: Run) -> dict[str, Any]:
  """Writes the results of the categories finished so far."""
  about = {
    'protocol': protocols.followed(run.config),
    'config': run.config.to_dict(),
    'weights': {
      'name': run.weights.name,
      'path': str(run.weights.path),
      'sha256': run.weights.sha256,
    },
    'wall_seconds': run.clock.seconds,
    'versions': environment.versions(),
    'device': environment.device(),
  }
  # In the order of the data set, whatever ended first.
  finished = {
    name: run.finished[name] for name in run.categories if name in run.finished
  }
  table = results.build(about, finished)
  results.write_json(run.workdir / 'results.json', table)
  results.write_csv(run.workdir / 'results.csv', table)
  results.write_markdown(run.workdir / 'results.md', table)
  return table


def conclude(run: Run) -> dict[str, Any]:
  """Prints the table; raises for what failed."""
  table = {}
  if run.finished:
    table = report(run)
    console.print(
      f'\n{results.terminal_table(table)}\n\nResults: {run.workdir}/'
    )
    run.shipper.conclude()
  if run.failed:
    names = [name for name in run.categories if name in run.failed]
    raise ValueError(
      f'{len(names)} of {len(run.categories)} categories failed '
      f'({", ".join(names)}); the first, {names[0]}: {run.failed[names[0]]}'
    )
  return table
