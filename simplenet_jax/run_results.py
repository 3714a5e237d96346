"""A run's results as they come: heads evaluated, shipped and reported."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from simplenet_jax import environment
from simplenet_jax.config import Config, describe_protocol
from simplenet_jax.console import Clock, console, counted, first_line
from simplenet_jax.data.dataset import DataSet
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.detection.assembly import Shipper
from simplenet_jax.evaluation import metrics, results, run_files, testset
from simplenet_jax.evaluation.tables import format_table
from simplenet_jax.files import read_json
from simplenet_jax.models.weights import Weights
from simplenet_jax.processes import Processes
from simplenet_jax.report import page
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.job import Job
from simplenet_jax.training.progress import METRICS, HeadProgress, unlearned
from simplenet_jax.training.worker import FAILURES
from simplenet_jax.workdir import WorkDir, wait_for

_PAGE_PAUSE = 20.0  # Between two pages, in units of what the first one took.

# Returns the last patch scores of heads, given by seed, on a category's images.
ScoreAgain = Callable[
  [Inputs, Mapping[int, Mapping[str, np.ndarray]]], dict[int, np.ndarray]
]


class RunResults:
  """What one process finds in a run, together with the others."""

  def __init__(
    self,
    config: Config,
    work: WorkDir,
    images: DataSet,
    weights: Weights,
    jobs: Sequence[Job],
    clock: Clock,
    processes: Processes,
    score_again: ScoreAgain,
  ):
    """Prepares for heads of all processes, `jobs`."""
    self._config, self._work, self._images = config, work, images
    self._categories = {one.name: one for one in images.categories}
    self._weights, self._clock, self._processes = weights, clock, processes
    self._jobs = {(job.category, job.seed): job for job in jobs}
    self._score_again = score_again
    self.checkpoints = Checkpoints(work.path / 'checkpoints')
    self._shipper = Shipper(config, weights, work.path)
    self._told: set[tuple[str, str]] = set()
    self._failed: dict[str, str] = {}  # Detectors that could not be made.
    self._tried: set[str] = set()
    self._page_due = 0.0

  def left(self, jobs: Sequence[Job]) -> dict[Job, int]:
    """Returns which heads of this process are to be trained, from what step."""
    left = {}
    for job in jobs:
      step = self.checkpoints.progress(job)
      if step < job.steps:
        left[job] = step
      elif not self._head(job).get('test'):
        self._work.note_head(job.category, job.seed)
    self._work.forget([(job.category, job.seed) for job in left])
    return left

  def rank(self, name: str) -> Callable[[np.ndarray], float] | None:
    """Returns what tells a category's epochs from each other: image AUROC."""
    if self._config.evaluation.course:
      return lambda scores: 0.0  # None is dropped in favour of another.
    labels = self._categories[name].labels
    mixed = any(one.get('mixed') for one in self._work.heads(name).values())
    if mixed or not 0 < labels.sum() < len(labels):
      return None
    return lambda scores: metrics.auroc(labels, scores.max(axis=(1, 2)))

  def take(self, record: HeadProgress) -> bool:
    """Takes a head that ended; evaluates its category if it was the last one.

    Returns:
      Whether all heads of the category have ended.
    """
    name, error = record.job.category, record.error
    if error and (name, error) not in self._told:
      self._told.add((name, error))
      console.print(f'  error: {name}: {error}')
    if record.finished and (caution := self._caution(record)):
      logging.warning('%s', caution)
    ended = self._work.note_head(name, record.job.seed, error)
    if ended:
      self._finish(name)
    return ended

  def evaluate_ready(self) -> None:
    """Evaluates the categories of which heads are all there, results are not.

    They are left by processes that were killed, or by images that changed.
    """
    with self._work.locked():
      known = self._work.results()
    for name in self._work.complete():
      found = known[name]
      if name in self._tried:
        continue
      if found is None or isinstance(found, str) or self._lacks(name):
        self._finish(name)

  def conclude(self) -> dict[str, Any]:
    """Writes tables and page if all categories are there; tells what came.

    Returns:
      What `results.json` holds; nothing where other processes are to go on.

    Raises:
      ValueError: If a category failed.
    """
    with self._work.locked():
      found = self._work.results()
      missing = [name for name, one in found.items() if one is None]
      table = {} if missing else self._report(found)
      if table and self._config.evaluation.report:
        page.write(self._work.path)
    if missing:
      console.print(
        f'  {len(missing)} of {counted(len(found), "category", "categories")} '
        f'are to come ({", ".join(missing)}): other processes finish them, or '
        'the same command does'
      )
    elif table:
      measured = any(
        one.last for one in found.values() if one and not isinstance(one, str)
      )
      shown = (
        format_table(table)
        if measured
        else 'No test images: nothing was measured.'
      )
      console.print(f'\n{shown}\n\nResults: {self._work.path}/')
      if self._config.evaluation.report:
        console.print(f'Report: {self._work.path / "report.html"}')
      self._shipper.conclude()
    failed = {}
    for name, one in found.items():
      errors = [head.get('error') for head in self._work.heads(name).values()]
      told = one if isinstance(one, str) else self._failed.get(name)
      if told := told or next(filter(None, errors), None):
        failed[name] = told
    if failed:
      first = next(iter(failed))
      raise ValueError(
        f'{len(failed)} of {len(found)} categories failed '
        f'({", ".join(failed)}); the first, {first}: {failed[first]}'
      )
    return table

  def _head(self, job: Job) -> dict[str, Any]:
    return self._work.heads(job.category).get(str(job.seed), {})

  def _caution(self, record: HeadProgress) -> str:
    train = self._config.train
    return unlearned(record, train.loss, train.margin)

  def _lacks(self, name: str) -> bool:
    """Returns whether files are not there that are asked for by now."""
    folder, asked = self._work.path, self._config.evaluation
    heads, images = self._work.heads(name), self._work.detector_images(name)
    seeds = [
      seed
      for seed in self._config.seeds
      if not heads.get(str(seed), {}).get('error')
    ]
    if self._config.detector.save and not self._shipper.has(
      name, seeds, images
    ):
      return True
    if not self._categories[name].test:
      return False
    sheet = folder / 'pictures' / f'{name}.png'
    report = run_files.report_path(folder, name)
    return (
      (bool(asked.pictures) and not sheet.exists())
      or (asked.maps and not (folder / 'maps' / name).is_dir())
      or (asked.report and not report.exists())
    )

  def _finish(self, name: str) -> None:
    """Evaluates a category and makes its detector, unless another does."""
    self._tried.add(name)
    with self._work.evaluating(name) as mine:
      if not mine:
        return
      found: results.CategoryResult | str
      records: list[HeadProgress] = []
      try:
        records = self._records(name)
        if not any(record.finished for record in records):
          found = records[0].error or 'no head is there'
        else:
          found = self._evaluate(self._categories[name], records)
      except (*FAILURES, RuntimeError) as error:
        found = _reason(error)
        console.print(f'  error: {name}: {found}')
      self._work.note_result(name, found)
      with self._work.locked():
        self._report(self._work.results())
      if not isinstance(found, str):
        try:
          self._ship(self._categories[name], records)
        except (*FAILURES, RuntimeError) as error:
          self._failed[name] = _reason(error)
          console.print(f'  error: {name}: {self._failed[name]}')
    self._show()

  def _records(self, name: str) -> list[HeadProgress]:
    """Returns the heads of a category, whichever process has trained them."""
    found = []
    for seed in self._config.seeds:
      job = self._jobs[name, seed]
      if error := self._head(job).get('error'):
        record = HeadProgress(job)
        record.error = error
      else:
        record = wait_for(
          lambda job=job: self._finished(job), f'a checkpoint of {name}'
        )
        if record is None:
          raise ValueError(f'the checkpoint of seed {seed} is gone')
      found.append(record)
    return found

  def _finished(self, job: Job) -> HeadProgress | None:
    # Scores of other images than those of now cannot be ranked.
    current = self._work.scored(job.category, self._head(job))
    rank = self.rank(job.category) if current else None
    saved = self.checkpoints.load(job, rank)
    return saved[0] if saved and saved[0].finished else None

  def _scores(
    self, inputs: Inputs, records: Sequence[HeadProgress]
  ) -> tuple[list[dict[int, np.ndarray]], bool]:
    """Returns each head's scores by epoch, and whether one can be selected.

    Where test images changed after they were scored, they are scored again by
    the heads as they are in the end.
    """
    heads = self._work.heads(inputs.name)
    whole = [record for record in records if record.finished]
    known = {record.job.seed: heads[str(record.job.seed)] for record in whole}
    again = {
      record.job.seed: record.head or {}
      for record in whole
      if not self._work.scored(inputs.name, known[record.job.seed])
    }
    if not again and not any(one.get('mixed') for one in known.values()):
      return [one.scores if one.finished else {} for one in records], True
    if again:
      console.print(f'  {inputs.name}: scores its test images, which changed')
    scored = self._score_again(inputs, again) if again else {}
    return [
      {one.job.epochs: scored.get(one.job.seed, _last(one))}
      if one.finished
      else {}
      for one in records
    ], False

  def _evaluate(
    self, inputs: Inputs, records: Sequence[HeadProgress]
  ) -> results.CategoryResult:
    """Evaluates a category's heads, one per seed, and writes its files."""
    asked, folder, name = self._config.evaluation, self._work.path, inputs.name
    whole = [record for record in records if record.finished]
    cautions = [text for text in map(self._caution, whole) if text]
    with self._clock('pictures'):
      courses = [record.epochs() for record in whole]
      run_files.write_curves(
        folder,
        name,
        [record.job.seed for record in whole],
        {
          metric: np.stack([one[metric] for one in courses])
          for metric in METRICS
        },
      )
    if not inputs.test:
      console.print(f'  {name}: no test images, nothing to evaluate')
      return results.CategoryResult(last=[], cautions=cautions)
    with self._clock('evaluate'):
      scores, selectable = self._scores(inputs, records)
      test = testset.TestSet.read(inputs, asked.smoothing)
      found = testset.evaluate(test, scores, course=asked.course and selectable)
      if not selectable:
        found = dataclasses.replace(found, best=[])
    with self._clock('pictures'):
      run_files.write(
        folder,
        inputs,
        test,
        {
          one.job.seed: by_epoch[one.job.epochs]
          for one, by_epoch in zip(records, scores, strict=True)
          if by_epoch
        },
        asked,
        images=sum(len(one.test) for one in self._categories.values()),
      )
    figures = []
    for title, key in (('I-AUROC', 'image_auroc'), ('P-AUROC', 'pixel_auroc')):
      mean = statistics.fmean(seed[key] for seed in found.last)
      told = 'undefined' if mean != mean else f'{mean:.1%}'
      figures.append(f'{title} {told}')
    console.print(f'  {name}: {", ".join(figures)}')
    return dataclasses.replace(
      found, cautions=cautions, pixels=inputs.known_pixels()
    )

  def _ship(self, inputs: Inputs, records: Sequence[HeadProgress]) -> None:
    """Makes a category's detector of all its heads that were not given up."""
    whole = [record for record in records if record.finished]
    heads = {record.job.seed: record.head or {} for record in whole}
    images = self._work.detector_images(inputs.name)
    if not self._config.detector.save or self._shipper.has(
      inputs.name, list(heads), images
    ):
      return
    if len(whole) < len(records):
      console.print(
        f'  {inputs.name}: its detector has {len(whole)} of '
        f'{counted(len(records), "head")}'
      )
    with self._clock('detectors'):
      cautions = [text for text in map(self._caution, whole) if text]
      self._shipper.ship(inputs, heads, images, cautions)

  def _report(
    self, found: Mapping[str, results.CategoryResult | str | None]
  ) -> dict[str, Any]:
    """Writes the tables of the categories evaluated so far; under the lock.

    Where this process evaluated none, what is there stays: it names the time
    and the device that they took.
    """
    finished = {
      name: one
      for name, one in found.items()
      if one is not None and not isinstance(one, str)
    }
    if not finished:
      return {}
    config, weights = self._config, self._weights
    about = {
      'protocol': describe_protocol(config, weights.other),
      'config': config.to_dict(),
      'weights': {
        'name': weights.name,
        'path': str(weights.path),
        'sha256': weights.sha256,
        'recipe': weights.recipe,
        'warnings': list(weights.warnings),
      },
      'wall_seconds': self._clock.seconds,
      'versions': environment.versions(),
      'device': environment.device() | {'processes': self._processes.count},
      'files': [dataclasses.asdict(row) for row in self._images.files],
    }
    path = self._work.path / 'results.json'
    table = results.build(about, finished)
    if path.exists() and not self._tried:
      with contextlib.suppress(ValueError, KeyError):
        before = read_json(path)
        if before['categories'] == results.strict(table['categories']):
          return before
    results.write(self._work.path, table)
    return table

  def _show(self) -> None:
    """Writes the page, which shows everything, unless it is quite new."""
    begun = time.monotonic()
    alone = self._processes.count == 1
    if not (alone and self._config.evaluation.report) or begun < self._page_due:
      return
    if not (self._work.path / 'results.json').exists():
      return
    try:
      page.write(self._work.path)
    except FAILURES as error:  # In the end it is tried once more.
      console.print(f'  error: the report: {error}')
    now = time.monotonic()
    self._page_due = now + _PAGE_PAUSE * (now - begun)


def _last(record: HeadProgress) -> np.ndarray:
  return record.scores[record.job.epochs]


def _reason(error: Exception) -> str:
  """Returns why a category failed; raises what is another kind of error."""
  short = isinstance(error, MemoryError) or environment.is_out_of_memory(error)
  if isinstance(error, RuntimeError) and not short:
    raise error
  if not short:
    return first_line(error)
  return (
    f'out of memory beside what is in training ({first_line(error)}); start '
    'the run again with a lower --config.bank.device_gb, --config.bank.host_gb '
    'or --config.engine.lanes'
  )
