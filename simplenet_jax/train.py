"""A run from top to bottom: read, extract, train, evaluate, report."""

import functools
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from simplenet_jax.config import (
  PROTOCOLS,
  Config,
  check_config,
  crop_caution,
  describe_protocol,
  from_protocol,
)
from simplenet_jax.console import (
  Board,
  Clock,
  Stopped,
  caught,
  console,
  counted,
  duration,
)
from simplenet_jax.data import dataset, loading
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.environment import SINGLE, Processes
from simplenet_jax.models.weights import Weights
from simplenet_jax.run_results import RunResults
from simplenet_jax.training import bank, engine, layout, step
from simplenet_jax.training.job import Job, assign, step_operations
from simplenet_jax.training.progress import HeadProgress, Watch, unflat
from simplenet_jax.workdir import open_or_resume

_MINUTE = 60.0  # Seconds of training after which its rate is told.


def train_and_evaluate(
  config: Config, workdir: Path, processes: Processes = SINGLE
) -> dict[str, Any]:
  """Trains and evaluates every category of a data set.

  Results are written after every category; a category that fails is told and
  left out, the others go on. Started again, a run goes on where it was saved,
  trains seeds that are new and evaluates again where test images changed. One
  of several processes trains its part; the last one writes the table.

  Args:
    config: The settings.
    workdir: Where results go; must not hold those of another run.
    processes: Which of the processes that share `workdir` this is.

  Returns:
    What `results.json` holds; nothing where other processes are to go on.

  Raises:
    ValueError: For settings, images or weights that cannot be used, in the end
      also if any category failed.
    OSError: If a file or folder is missing or cannot be written.
    console.Stopped: If a signal asked it to stop; everything is saved.
  """
  check_config(config)
  clock = Clock()
  images = dataset.open_categories(config.data, whole=processes.count == 1)
  extractor = bank.make_extractor(config)
  recipe = step.make_recipe(config, extractor.level_offsets)
  with clock('load weights'):
    weights = bank.load_backbone(config)
    first = images.categories[0]
    weights = bank.check_noise(config, extractor, weights, first)
  jobs = layout.make_jobs(config, images.categories)
  mine = assign(jobs, processes.count)[processes.index]
  shapes = {
    one.size: extractor.shapes(weights.state, one.size)
    for one in images.categories
  }
  plan = functools.partial(
    layout.lay_out,
    config,
    mine,
    categories=images.categories,
    shapes=shapes,
    neighbours=processes.on_host,
  )
  plan(mine)  # What cannot be done is refused before a directory is taken.

  with open_or_resume(
    workdir, config, weights.sha256, images.categories, processes
  ) as work:
    results = RunResults(
      config,
      work,
      images,
      weights,
      jobs,
      clock,
      processes,
      functools.partial(_score_again, config, extractor, recipe, weights),
    )
    try:
      left = results.left(mine)
      schedule = plan(list(left))
      _announce(
        config, weights, images.categories, schedule, workdir, processes
      )
      if work.resumed:
        ended = len(mine) - len(left)
        under_way = sum(step > 0 for step in left.values())
        console.print(
          f'  resumes   {counted(ended, "head")} finished, '
          f'{under_way} under way'
        )
      rate, tensorboard = _Rate(left), workdir / 'tensorboard'
      with (
        caught() as stop,
        Board() as board,
        Watch(
          board, list(left), tensorboard if config.engine.tensorboard else None
        ) as watch,
      ):

        def on_steps(record: HeadProgress) -> None:
          watch.on_steps(record)
          rate.on_steps(record)

        run = layout.RunInputs(
          config,
          extractor,
          weights,
          recipe,
          workdir,
          rank=results.rank,
          checkpoints=results.checkpoints,
          on_batch=watch.on_batch,
          on_steps=on_steps,
          stop=stop,
          neighbours=processes.on_host,
        )
        with (
          clock('train and score'),
          engine.started(schedule, run) as trained,
        ):
          results.evaluate_ready()
          for record in trained:
            if results.take(record):
              watch.end(record.job.category)
            if stop.is_set():
              break
        if not stop.is_set():
          results.evaluate_ready()
    finally:
      results.checkpoints.close()
    if stop.is_set():
      raise Stopped(
        f'stopped and saved; the same command with --workdir={workdir} goes on',
        128 + stop.signal,
      )
    return results.conclude()


_patch_scores = jax.jit(step.patch_scores, static_argnames='recipe')


def _score_again(
  config: Config,
  extractor: bank.Extractor,
  recipe: step.Recipe,
  weights: Weights,
  one: Inputs,
  heads: Mapping[int, Mapping[str, np.ndarray]],
) -> dict[int, np.ndarray]:
  """Returns the patch scores `[images, H, W]` of finished heads, by seed."""
  fresh = jax.eval_shape(lambda: step.init_head(recipe, step.head_key(0, '')))
  states = {}
  for seed, head in heads.items():
    outcome = unflat(dict(head), fresh.weights_to_score)
    states[seed] = step.HeadState(outcome['params'], outcome['stats'], ())
  scores: dict[int, list[np.ndarray]] = {seed: [] for seed in heads}
  size, count = config.backbone.batch_size, len(one.test)
  pixels = loading.in_order(one.test_pixels, range(count), 2 * size)
  with bank.computing(jax.local_devices()[0]) as device:
    backbone, states = jax.device_put((weights.state, states), device)
    for start in range(0, count, size):
      some = [next(pixels) for _ in range(start, min(start + size, count))]
      batch = bank.padded(np.stack(some), size)
      levels = bank.extract(extractor, backbone, batch)
      for seed, state in states.items():
        found = _patch_scores(recipe, state, levels)
        scores[seed].append(np.asarray(found)[: len(some)])
  return {seed: np.concatenate(parts) for seed, parts in scores.items()}


class _Rate:
  """Says once, after a minute of training, how long the rest takes."""

  def __init__(self, left: Mapping[Job, int]):
    self._done, self._total = dict(left), sum(job.steps for job in left)
    self._lock, self._start = threading.Lock(), None

  def on_steps(self, record: HeadProgress) -> None:
    """Notes how far a head is; called from several threads."""
    with self._lock:
      self._done[record.job] = record.step
      now, done = time.monotonic(), sum(self._done.values())
      if self._start is None:
        self._start = now, done
      begun, first = self._start
      if self._total and now - begun > _MINUTE:
        left = (self._total - done) * (now - begun) / max(1, done - first)
        self._total = 0
        console.print(f'  about {duration(left)} left to train')


def _announce(
  config: Config,
  weights: Weights,
  categories: Sequence[Inputs],
  schedule: Sequence[Sequence[layout.DeviceTask]],
  workdir: Path,
  processes: Processes,
) -> None:
  """Says what a run will do, on what and where it goes."""
  several = f', {len(schedule)} of them' if len(schedule) > 1 else ''
  device = jax.local_devices()[0]
  seeds = counted(len(config.seeds), 'seed')
  if len(config.seeds) == 1 and config.seeds[0]:
    seeds = f'1 seed (the one with number {config.seeds[0]})'
  lines = [
    f'SimpleNet, protocol {describe_protocol(config, weights.other)}: '
    f'{counted(len(categories), "category", "categories")} x {seeds}, '
    f'{counted(config.train.epochs, "epoch")}',
    f'  backbone  {config.backbone.name}, levels '
    f'{"+".join(map(str, config.backbone.levels))}, {weights.path}',
    f'  device    {device.device_kind} ({device.platform}){several}, '
    f'{config.precision}',
  ]
  if processes.count > 1:
    lines.append(f'  process   {processes.index} of {processes.count}, from 0')
  tasks = [task for tasks in schedule for task in tasks]
  if tasks:
    jobs = [job for task in tasks for job in task.jobs]
    operations = sum(
      job.steps * step_operations(config, task.shapes)
      for task in tasks
      for job in task.jobs
    )
    streamed = dict.fromkeys(n for task in tasks for n in task.streamed)
    most = max(task.bank_bytes for task in tasks) / 1e6
    lines += [
      f'  trains    {counted(len(jobs), "head")}, {tasks[0].lanes} at a time '
      f'per device, {operations / 1e12:.3g} TFLOP',
      f'  holds     {most:.0f} MB of features ({config.bank.dtype}) per device '
      f'at most{"; streamed: " + ", ".join(streamed) if streamed else ""}',
    ]
  lines.append(f'  results   {workdir}/')
  for one in categories:
    height, width = one.size
    lines.append(
      f'  {one.name}: {one.category.describe()}, input {height} x {width}'
    )
    usual, images = config.train.epochs, len(one.train)
    epochs = layout.epochs_of(config, images)
    if epochs != usual:
      steps = -(-images // config.train.batch_size)
      lines.append(
        f'  {one.name}: {counted(usual * steps, "step")} in '
        f'{counted(usual, "epoch")} are few; trains {epochs:,} epochs, '
        f'{epochs * steps:,} steps (--config.train.min_steps)'
      )
  console.print('\n'.join(lines))
  known = config.protocol in PROTOCOLS
  protocol = from_protocol(config.protocol).data if known else None
  if caution := crop_caution(config.data, protocol):
    logging.warning('%s', caution)
