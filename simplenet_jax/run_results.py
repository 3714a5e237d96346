"""A run's results as they come: heads evaluated, shipped and reported."""

import contextlib
import dataclasses
import functools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np
from absl import logging

from simplenet_jax import category_results, environment
from simplenet_jax.category_results import Trained
from simplenet_jax.config import Config, describe_protocol
from simplenet_jax.console import Clock, Signalled, Stop, console, doing
from simplenet_jax.data.dataset import DataSet
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.data.loading import processors
from simplenet_jax.detection import assembly, file
from simplenet_jax.detection.thresholds import Prediction
from simplenet_jax.evaluation import results, run_files, tables, testset
from simplenet_jax.models.weights import Weights
from simplenet_jax.report import page
from simplenet_jax.training import neighbours
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.job import Job
from simplenet_jax.training.progress import HeadProgress, unlearned
from simplenet_jax.training.worker import FAILURES
from simplenet_jax.workdir import Result, WorkDir

_WORKERS = 4  # Categories evaluated at a time, at most,
_PIXELS = 2**28  # and pixels of their test images, of 16 bytes about.
_PAGE_EVERY = 60.0  # Seconds between pages while heads train, at least.


@dataclasses.dataclass
class RunResults:
  """What one process finds in a run, together with the others."""

  config: Config
  work: WorkDir
  images: DataSet
  weights: Weights
  jobs: Sequence[Job]  # All processes'.
  clock: Clock
  processes: environment.Processes  # This one of those that share the run.
  # Called with a category's name and what was found of it.
  on_result: Callable[[str, Mapping[str, Any]], None]
  # Returns a category's nearest neighbours, if it has any use for them.
  find_neighbours: Callable[[Inputs], neighbours.Arrays]

  def __post_init__(self):
    self.checkpoints = Checkpoints(self.work.path / 'checkpoints')
    self._categories = {one.name: one for one in self.images.categories}
    self._tests = sum(len(one.test) for one in self.images.categories)
    self.protocol = describe_protocol(self.config, self.weights.other)
    self._told: set[tuple[str, str]] = set()  # Categories and their errors.
    self._device = threading.Lock()  # For networks; maps take little memory.
    self._evaluated = False  # Whether this process has evaluated any.
    self._page_due = 0.0  # Of `time.monotonic`.

  def left(self, jobs: Sequence[Job]) -> dict[Job, int]:
    """Returns which heads of this process are to be trained, from what step."""
    steps = {job: self.checkpoints.progress(job) for job in jobs}
    self.work.take_up(steps)
    return {job: step for job, step in steps.items() if step < job.steps}

  def rank(self, name: str) -> Callable[[np.ndarray], float] | None:
    """Returns what tells epochs from each other, image AUROC; None: nothing."""
    config, inputs = self.config, self._categories[name]
    together = config.nearest.size or config.train.folds
    by_patch = config.evaluation.score == 'patch'
    two_kinds = 0 < inputs.labels.sum() < len(inputs.labels)
    if together or not by_patch or not two_kinds or self._is_outdated(name):
      return None
    return functools.partial(testset.auroc, inputs)

  def _is_outdated(self, name: str) -> bool:
    now, heads = self.work.images[name]['test'], self.work.heads()[name]
    tests = {head['test'] for head in heads.values() if not head['error']}
    return not tests <= {None, now}

  def take(self, head: HeadProgress) -> bool:
    """Takes a head that ended; returns whether its category's all have."""
    if head.error:
      self._tell(head.job.category, head.error)
    elif caution := self._cautions([head]):
      logging.warning('%s', caution[0])
    return self.work.note_end(head.job, head.error)

  def _tell(self, name: str, error: str) -> None:
    if (name, error) not in self._told:
      self._told.add((name, error))
      console.print(f'  error: {name}: {error}')

  @contextlib.contextmanager
  def evaluating(self, stop: Stop) -> Iterator[Callable[[], None]]:
    """Evaluates categories in threads, which end with the context.

    Yields what looks for categories whose heads have ended and that lack
    results. An error sets `stop`, and is raised in the end. A signal waits for
    none of them: metrics can take minutes.
    """
    tests = (len(x.test) * math.prod(x.size) for x in self.images.categories)
    most = min(_WORKERS, _PIXELS // max(1, *tests))
    workers = max(1, min(most, processors(self.processes.on_host)))
    begun: dict[str, futures.Future[None]] = {}
    more = ', makes detectors and their thresholds' * self.config.detector.save
    told = f'measures the test images{more}' if self._tests else more[2:]

    def look() -> None:
      for name, heads in self.work.heads().items():
        have_ended = all(head['ended'] for head in heads.values())
        if have_ended and name not in begun:
          before = [*begun.values()][-1:]
          begun[name] = pool.submit(self._evaluate, name, before, stop)

    pool = futures.ThreadPoolExecutor(workers, 'evaluation')
    try:
      yield look
      if stop.is_set():
        pool.shutdown(wait=False, cancel_futures=True)
      with doing(told or 'ends'):
        for one in begun.values():
          if one.cancelled() or (stop.signal and not one.done()):
            continue
          error = one.exception()
          if error and not isinstance(error, Signalled):
            raise error
    finally:
      pool.shutdown(wait=not stop.signal, cancel_futures=True)

  def _evaluate(
    self, name: str, before: Sequence[futures.Future[None]], stop: Stop
  ) -> None:
    """Evaluates a category that lacks results; tells of it after another."""
    try:
      with self.work.evaluating(name) as is_mine:
        heads, known = self.work.heads()[name], self.work.results()[name]
        seeds = [int(seed) for seed, one in heads.items() if not one['error']]
        of = self.config, self.work.path, self._categories[name], known
        is_known = category_results.has_all(*of)
        told = ''
        if is_mine and not (is_known and self._has_detector(name, seeds)):
          told = self._finish(name, seeds, known, stop)
      futures.wait(before)
      if told:
        console.print(told)
    except BaseException:
      stop.set()
      raise

  def _finish(
    self, name: str, seeds: Sequence[int], found: Result, stop: Stop
  ) -> str:
    """Evaluates heads and makes a detector; returns what to tell of them."""
    inputs, self._evaluated, told = self._categories[name], True, ''

    def keep(one: Prediction) -> None:
      stop.heed()
      category_results.keep_highest(good, one)

    try:
      if not seeds:
        known = self.work.heads()[name].values()
        raise ValueError(next(head['error'] for head in known))
      jobs = [job for job in self.jobs if job.category == name]
      jobs = [job for job in jobs if job.seed in seeds and job.steps]
      rank = self.rank(name)
      finished = self.checkpoints.finished
      heads = {job.seed: finished(job, rank, stop) for job in jobs}
      cautions = self._cautions(heads.values())
      if heads:
        curves = {seed: head.epochs() for seed, head in heads.items()}
        run_files.write_curves(self.work.path, name, curves)
      with self._alone(stop), self.clock('evaluate'):
        made_of = self.config, self.weights, inputs, heads
        of = Trained(*made_of, self.find_neighbours(inputs))
        scores = of.scores(self._is_outdated(name))
      with self.clock('evaluate'):
        found, tested = of.evaluate(scores, rank)
      stop.heed()  # After a signal the run may have left its directory.
      told = category_results.describe(inputs, found)
      if tested:
        self.on_result(name, found)
      found['cautions'], good = cautions, []
      if not self._has_detector(name, seeds):
        with self._alone(stop), self.clock('detectors'):
          detector = of.detector(self._made_of(name), cautions, keep)
          detector.save(file.path_in(self.work.path, name))
      shown = inputs, tested, good, self._tests
      with self.clock('pictures'):
        found |= category_results.write(self.config, self.work.path, *shown)
    except (*FAILURES, RuntimeError) as error:
      self._tell(name, reason := category_results.reason(error))
      found = found if isinstance(found, dict) else reason
    with self.work.locked():
      self._report(self.work.results() | {name: found})
      self.work.note_result(name, found)  # It counts once it is written.
      if self.config.evaluation.report and time.monotonic() > self._page_due:
        with contextlib.suppress(*FAILURES):  # It is written in the end, too.
          page.write(self.work.path)
        self._page_due = time.monotonic() + _PAGE_EVERY
    return told

  @contextlib.contextmanager
  def _alone(self, stop: Stop) -> Iterator[None]:
    """Has networks run for one category alone, unless the run is to stop."""
    with self._device:
      stop.heed()
      yield

  def _cautions(self, heads: Iterable[HeadProgress]) -> list[str]:
    train = self.config.train
    told = (unlearned(head, train.loss, train.margin) for head in heads)
    return list(filter(None, told))

  def _has_detector(self, name: str, seeds: Sequence[int]) -> bool:
    """Returns whether a detector is there, if one is asked for."""
    path, save = file.path_in(self.work.path, name), self.config.detector.save
    return not save or assembly.is_made_of(path, seeds, self._made_of(name))

  def _made_of(self, name: str) -> str:
    images = self.work.images[name]
    return f'train {images["training"]}; held out {images["validation"]}'

  def conclude(self) -> dict[str, Any]:
    """Writes tables and page if all categories are there; tells what came.

    Returns what `results.json` holds, or {} where other processes go on. Raises
    ValueError if a category failed.
    """
    path, wants_page = self.work.path, self.config.evaluation.report
    with self.work.locked():
      found, heads = self.work.results(), self.work.heads()
      missing = [name for name, one in found.items() if one is None]
      table = {} if missing else self._report(found)
      if table and wants_page:
        page.write(path)
    if missing:
      told = f'  still to come: {", ".join(missing)}'
      console.print(f'{told}; other processes or the same command finish it')
    if table:
      told = 'No test images to measure.'
      if any(one.test for one in self._categories.values()):
        told = tables.format_table(table)
      made = sorted(path.glob(f'detectors/[!.]*{file.SUFFIX}'))
      ends = [f'Look at it: {path / page.NAME}'] * wants_page
      ends += [f'Go on with: {file.command(*made)}'] if made else []
      ends = '\n'.join([f'Figures:    {path}/results.md', *ends])
      console.print(f'\n{told}\n\n{ends}')
    failed = {}
    for name, one in found.items():
      errors = [head['error'] for head in heads[name].values()]
      errors += [one] if isinstance(one, str) else []
      errors += [error for whose, error in self._told if whose == name]
      if any(errors):
        failed[name] = next(filter(None, errors))
    if failed:
      first, why = next(iter(failed.items()))
      raise ValueError(
        f'{len(failed)} of {len(found)} categories failed '
        f'({", ".join(failed)}); the first, {first}: {why}'
      )
    return table

  def _report(self, found: Mapping[str, Result]) -> dict[str, Any]:
    """Writes the tables of the categories evaluated so far; under the lock."""
    finished = {n: one for n, one in found.items() if isinstance(one, dict)}
    if not finished:
      return {}
    if not self._evaluated:  # The table names the time and device it took.
      with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
        table = results.read(self.work.path)
        if list(table['categories']) == list(finished):
          return table
    about = {
      'protocol': self.protocol,
      'config': self.config.to_dict(),
      'weights': self.weights.about,
      'wall_seconds': self.clock.seconds,
      'versions': environment.versions(),
      'device': environment.device() | {'processes': self.processes.count},
      'files': [dataclasses.asdict(row) for row in self.images.files],
    }
    table = results.strict(results.build(about, finished))
    results.write(self.work.path, table)
    return table
