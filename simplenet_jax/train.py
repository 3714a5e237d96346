"""A run from top to bottom: read, extract, train, evaluate, report."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import logging

from simplenet_jax.config import Config, check_config, crop_caution
from simplenet_jax.console import (
  Board,
  Clock,
  Signalled,
  caught,
  console,
  counted,
  doing,
)
from simplenet_jax.data import dataset, frame
from simplenet_jax.environment import SINGLE, Processes
from simplenet_jax.models.simplenet import FeatureNetwork
from simplenet_jax.models.weights import name_backbone
from simplenet_jax.run_results import RunResults
from simplenet_jax.tensorboard import Scalars
from simplenet_jax.training import (
  bank,
  budget,
  engine,
  layout,
  neighbours,
  step,
)
from simplenet_jax.training.job import Job, assign
from simplenet_jax.training.progress import HeadProgress, Watch
from simplenet_jax.workdir import earlier_config, open_or_resume

_FEW = 10  # Good images of which no detector comes that one can rely on.


def train_and_evaluate(
  config: Config, workdir: Path, processes: Processes = SINGLE
) -> dict[str, Any]:
  """Trains and evaluates every category of a data set.

  Results go to `workdir` after every category; one that fails is told and left
  out. Started again, a run goes on where it was saved, trains new seeds and
  evaluates again where test images changed. One of several `processes` that
  share `workdir` trains its part; the last writes the table. Returns what
  `results.json` holds, nothing where others are to go on. Raises ValueError for
  settings, images or weights that cannot be used, for the `workdir` of another
  run, and in the end if a category failed; OSError for files missing or not to
  be written; `console.Stopped` if a signal asked it to stop, and everything is
  saved.
  """
  check_config(config)
  before = earlier_config(workdir)
  config = name_backbone(config, before.get('backbone', {}))
  clock, network = Clock(), FeatureNetwork.of(config)
  with doing('reads and checks all images'):
    images = dataset.open_categories(config.data, whole=processes.count == 1)
  categories = images.categories
  with clock('load weights'), doing('loads the backbone'):
    weights = bank.load_backbone(config)
    weights = bank.check_noise(config, weights, categories[0])
  sizes = {one.size for one in categories}
  shapes = {size: bank.shapes(config, weights.state, size) for size in sizes}
  recipe = step.make_recipe(config, network.level_offsets, network.dim)
  if config.train.minutes and processes.count > 1:
    raise ValueError(
      '--config.train.minutes is for one process, as each would measure '
      'another time; set --config.train.epochs'
    )
  config = budget.fit(config, recipe, [*shapes.values()], categories, before)
  jobs = layout.make_jobs(config, categories)
  mine = assign(jobs, processes.count)[processes.index]

  def plan(left: Sequence[Job]) -> list[list[layout.DeviceTask]]:
    return layout.lay_out(config, jobs, left, categories, shapes, processes)

  plan(mine)  # What cannot be done is refused before a directory is taken.

  with open_or_resume(
    workdir, config, weights.sha256, categories, processes
  ) as work:
    scalars = Scalars(workdir / 'tensorboard', config, categories)
    results = RunResults(
      *(config, work, images, weights, jobs, clock, processes),
      scalars.on_result,
      lambda one: neighbours.obtain_alone(run, one, shapes[one.size]),
    )
    left = results.left(mine)
    schedule = plan(list(left))
    _announce(results, schedule, processes)
    heads = [job for job in mine if job.steps]
    ended, under_way = len(heads) - len(left), sum(map(bool, left.values()))
    if ended or under_way:
      told = counted(ended, 'head')
      console.print(f'  resumes   {told} finished, {under_way} under way')
    with (
      caught('saves what is trained', raises=True) as stop,
      Board() as board,
      contextlib.closing(scalars),
    ):
      watch = Watch(board, left)

      def on_steps(progress: HeadProgress) -> None:
        watch.on_steps(progress)
        scalars.on_steps(progress)

      run = layout.RunInputs(
        *(config, weights, recipe, workdir, results.rank, results.checkpoints),
        *(watch.on_batch, on_steps, stop, processes.on_host, work.images),
      )
      with contextlib.suppress(Signalled), results.evaluating(stop) as evaluate:
        with clock('train and score'), engine.started(schedule, run) as trained:
          evaluate()
          for head in trained:
            if results.take(head):
              watch.end(head.job.category)
              evaluate()
            if stop.is_set():
              break
        if not stop.is_set():
          evaluate()
    if stop.is_set():
      raise stop.stopped(
        f'stopped and saved; the same command with --workdir={workdir} goes on'
      )
    return results.conclude()


def _announce(
  results: RunResults,
  schedule: Sequence[Sequence[layout.DeviceTask]],
  processes: Processes,
) -> None:
  config, categories = results.config, results.images.categories
  backbone, epochs = config.backbone, config.train.epochs
  seeds, device = counted(len(config.seeds), 'head'), jax.local_devices()[0]
  if len(config.seeds) == 1 and config.seeds[0]:
    seeds = f'1 head (of the seed with number {config.seeds[0]})'
  several = f', {len(schedule)} of them' if len(schedule) > 1 else ''
  told, trains = counted(epochs, 'epoch'), results.jobs[0].steps
  in_steps = epochs == 1 and config.train.min_steps > 1
  if in_steps:
    told = f'at least {counted(config.train.min_steps, "step")}'
  elif any(job.epochs > epochs for job in results.jobs):
    told = f'at least {told}'
  told = f'{seeds}, {told} each'
  if pasted := config.train.pasted:
    told += f', {counted(pasted, "defect")} pasted in a category'
  if not trains:
    size = config.nearest.size
    told = f'compared with {size:,} good patches each, no head is trained'
  kind = dict.fromkeys((device.device_kind, device.platform))
  lines = [
    f'SimpleNet, recipe {results.protocol}: '
    f'{counted(len(categories), "category", "categories")}, {told}',
    f'  backbone  {backbone.name}, levels '
    f'{"+".join(map(str, backbone.levels))}, weights {results.weights.name}',
    f'  computes  on {", ".join(kind)}{several}, in {config.precision}',
  ]
  if processes.count > 1:
    lines.append(f'  process   {processes.index} of {processes.count}, from 0')
  tasks = [task for tasks in schedule for task in tasks]
  if streamed := dict.fromkeys(n for task in tasks for n in task.streamed):
    lines.append(
      f'  memory    the device is too small for {", ".join(streamed)}: their '
      'features stay on the host, which is slower'
    )
  lines.append(f'  results   {results.work.path}/')
  for one in categories:
    told = f'{one.category.describe()}, input {frame.text(one.size)}'
    lines.append(f'  {one.name}: {told}')
    longer = layout.epochs_of(config, len(one.train))
    if trains and longer != epochs and not in_steps:
      lines.append(
        f'  {one.name}: {counted(epochs, "epoch")} of so few images are few '
        f'steps; trains {longer:,} epochs (--config.train.min_steps)'
      )
  console.print('\n'.join(lines))
  if caution := crop_caution(config):
    logging.warning('%s', caution)
  if config.data.roi and not config.train.patches:
    logging.warning(
      'heads train on whole images (--config.train.patches=0), also outside '
      '--config.data.roi; all else keeps to it'
    )
  for one in categories:
    if (count := len(one.train)) < _FEW:
      told = counted(count, 'good image')
      logging.warning(
        f'{one.name}: {told} to train on; take fifty or more (of one or two, '
        'distances alone may find more: --config=folder:nearest)'
      )
