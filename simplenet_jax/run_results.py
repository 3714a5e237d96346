"""A run's results as they come: heads evaluated, shipped and reported."""

import contextlib
import dataclasses
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
from simplenet_jax.evaluation.results import CategoryResult
from simplenet_jax.evaluation.tables import format_table
from simplenet_jax.files import read_json
from simplenet_jax.models.weights import Weights
from simplenet_jax.report import page
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.job import Job
from simplenet_jax.training.progress import METRICS, HeadProgress, unlearned
from simplenet_jax.training.worker import FAILURES
from simplenet_jax.workdir import Heads, Result, WorkDir

# Returns the last patch scores of heads, given by seed, on a category's images.
ScoreAgain = Callable[
  [Inputs, Mapping[int, dict[str, np.ndarray]]], dict[int, np.ndarray]
]

POLL_ATTEMPTS = 60  # Looks at a file that another process wrote, 1 s apart.
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
  processes: int
  score_again: ScoreAgain

  def __post_init__(self):
    self.checkpoints = Checkpoints(self.work.path / 'checkpoints')
    self._categories = {one.name: one for one in self.images.categories}
    self._shipper = Shipper(self.config, self.weights, self.work.path)
    self._told: set[tuple[str, str]] = set()
    self._looked_at: set[str] = set()  # Categories that need no other look.
    self._evaluated = False  # Whether this process has evaluated any.
    self._page_due = 0.0  # Of `time.monotonic`.
    self._unshipped: dict[str, str] = {}  # Why detectors could not be made.

  def left(self, jobs: Sequence[Job]) -> dict[Job, int]:
    """Returns which heads of this process are to be trained, from what step."""
    steps = {job: self.checkpoints.progress(job) for job in jobs}
    self.work.take_up(steps)
    return {job: step for job, step in steps.items() if step < job.steps}

  def rank(self, name: str) -> Callable[[np.ndarray], float] | None:
    """Returns what tells a category's epochs from each other: image AUROC.

    There is nothing where scores are of other test images than those of now.
    """
    if self.config.evaluation.course:
      return lambda scores: 0.0  # None is dropped in favour of another.
    labels = self._categories[name].labels
    if self._scored_others(name) or not 0 < labels.sum() < len(labels):
      return None
    return lambda scores: metrics.auroc(labels, scores.max(axis=(1, 2)))

  def _scored_others(self, name: str) -> list[int]:
    """Returns the seeds of heads with scores of other images than those now."""
    with self.work.locked() as state:
      heads = self.work.heads(state)[name]
    known = (None, self.work.images[name]['test'])
    return [
      int(seed) for seed, one in heads.items() if one['test'] not in known
    ]

  def take(self, head: HeadProgress) -> bool:
    """Takes a head that ended; evaluates its category if it was the last one.

    Returns:
      Whether all heads of the category have ended.
    """
    if head.error:
      self._tell(head.job.category, head.error)
    for caution in self._cautions([head]):
      logging.warning('%s', caution)
    have_ended = self.work.note_end(head.job, head.error)
    if have_ended:
      self.evaluate_ready()
    return have_ended

  def _tell(self, name: str, error: str) -> None:
    if (name, error) not in self._told:
      self._told.add((name, error))
      console.print(f'  error: {name}: {error}')

  def evaluate_ready(self) -> None:
    """Evaluates the categories of which heads are all there, results are not.

    Some are left by processes that were killed, or by images that changed.
    """
    with self.work.locked() as state:
      heads, found = self.work.heads(state), self.work.results(state)
    for name, one in found.items():
      have_ended = all(head['ended'] for head in heads[name].values())
      if have_ended and name not in self._looked_at:
        self._looked_at.add(name)
        if not isinstance(one, CategoryResult) or self._lacks(
          name, heads[name]
        ):
          self._finish(name)

  def _lacks(self, name: str, heads: Heads) -> bool:
    """Returns whether a category lacks files that are asked for."""
    folder, asked = self.work.path, self.config.evaluation
    whole = [int(seed) for seed, one in heads.items() if not one['error']]
    if self.config.detector.save and not self._has_detector(name, whole):
      return True
    wanted = {
      folder / 'pictures' / f'{name}.png': asked.pictures,
      folder / 'maps' / name: asked.maps,
      run_files.report_path(folder, name): asked.report,
    }
    return bool(self._categories[name].test) and any(
      wants and not path.exists() for path, wants in wanted.items()
    )

  def _finish(self, name: str) -> None:
    """Evaluates a category and makes its detector, unless another does."""
    inputs = self._categories[name]
    with self.work.evaluating(name) as is_mine:
      if not is_mine:
        return
      self._evaluated = True
      try:
        heads = self._heads(name)
        found = self._evaluate(inputs, heads)
      except (*FAILURES, RuntimeError) as error:
        self.work.note_result(name, self._reason(name, error))
        return
      self.work.note_result(name, found)
      with self.work.locked() as state:
        self._report(self.work.results(state))
        if self.config.evaluation.report and time.monotonic() > self._page_due:
          with contextlib.suppress(*FAILURES):  # It is written in the end, too.
            page.write(self.work.path)
          self._page_due = time.monotonic() + _PAGE_EVERY
      try:
        self._ship(inputs, heads)
      except (*FAILURES, RuntimeError) as error:
        self._unshipped[name] = self._reason(name, error)

  def _reason(self, name: str, error: Exception) -> str:
    """Tells why a category failed; raises what is another kind of error."""
    reason = first_line(error)
    if isinstance(error, MemoryError) or environment.is_out_of_memory(error):
      reason = (
        f'out of memory beside what is in training ({reason}); start the run '
        'again with a lower --config.bank.device_gb, --config.bank.host_gb or '
        '--config.engine.lanes'
      )
    elif isinstance(error, RuntimeError):
      raise error
    self._tell(name, reason)
    return reason

  def _heads(self, name: str) -> list[HeadProgress]:
    """Returns the heads of a category, whichever process has trained them."""
    with self.work.locked() as state:
      known = self.work.heads(state)[name]
    found, rank = [], self.rank(name)
    for job in (job for job in self.jobs if job.category == name):
      error, head = known[str(job.seed)]['error'], HeadProgress(job)
      head.error = error
      found.append(head if error else self._saved(job, rank))
    if not any(head.finished for head in found):
      raise ValueError(found[0].error)
    return found

  def _saved(self, job: Job, rank: Callable | None) -> HeadProgress:
    """Returns a finished head, which network file systems show after a while."""
    for attempt in range(POLL_ATTEMPTS):
      saved = self.checkpoints.load(job, rank)
      if saved and saved[0].finished:
        return saved[0]
      if not attempt:
        console.print(
          f'  waits for a checkpoint of {job.category}, which another process '
          f'has written, {POLL_ATTEMPTS} s at most'
        )
      time.sleep(1)
    raise ValueError(f'the checkpoint of seed {job.seed} is gone')

  def _evaluate(
    self, inputs: Inputs, heads: Sequence[HeadProgress]
  ) -> CategoryResult:
    """Evaluates a category's heads, one per seed, and writes its files."""
    asked, folder, name = self.config.evaluation, self.work.path, inputs.name
    whole = {head.job.seed: head for head in heads if head.finished}
    cautions = self._cautions(heads)
    with self.clock('pictures'):
      courses = [head.epochs() for head in whole.values()]
      history = {
        key: np.stack([one[key] for one in courses]) for key in METRICS
      }
      run_files.write_curves(folder, name, list(whole), history)
    if not inputs.test:
      console.print(f'  {name}: no test images, nothing to evaluate')
      return CategoryResult(last=[], cautions=cautions)
    with self.clock('evaluate'):
      last = heads[0].job.epochs
      scores = {seed: head.scores for seed, head in whole.items()}
      others = [seed for seed in self._scored_others(name) if seed in whole]
      if others:
        console.print(f'  {name}: scores its test images, which changed')
        leaves = {seed: whole[seed].head or {} for seed in others}
        scored = self.score_again(inputs, leaves)
        scores |= {seed: {last: scored[seed]} for seed in others}
      test = testset.TestSet.read(inputs, asked.smoothing)
      found = testset.evaluate(
        test,
        [scores.get(head.job.seed, {}) for head in heads],
        course=asked.course and not others,
      )
    with self.clock('pictures'):
      at_end = {seed: by_epoch[last] for seed, by_epoch in scores.items()}
      images = sum(len(one.test) for one in self._categories.values())
      run_files.write(folder, inputs, test, at_end, asked, images=images)
    figures = []
    for title, key in (('I-AUROC', 'image_auroc'), ('P-AUROC', 'pixel_auroc')):
      mean = statistics.fmean(seed[key] for seed in found.last)
      figures.append(
        f'{title} {"undefined" if mean != mean else f"{mean:.1%}"}'
      )
    console.print(f'  {name}: {", ".join(figures)}')
    return dataclasses.replace(
      found,
      best=[]
      if others
      else found.best,  # Their other epochs saw no such images.
      cautions=cautions,
      pixels=inputs.known_pixels(),
    )

  def _cautions(self, heads: Sequence[HeadProgress]) -> list[str]:
    train = self.config.train
    whole = [head for head in heads if head.finished]
    told = [unlearned(head, train.loss, train.margin) for head in whole]
    return [text for text in told if text]

  def _has_detector(self, name: str, seeds: Sequence[int]) -> bool:
    return self._shipper.has(name, seeds, self.work.detector_images(name))

  def _ship(self, inputs: Inputs, heads: Sequence[HeadProgress]) -> None:
    """Makes a category's detector of all its heads that were not given up."""
    name, images = inputs.name, self.work.detector_images(inputs.name)
    whole = {head.job.seed: head.head or {} for head in heads if head.finished}
    if not self.config.detector.save or self._has_detector(name, list(whole)):
      return
    if len(whole) < len(heads):
      of = counted(len(heads), 'head')
      console.print(f'  {name}: its detector has {len(whole)} of {of}')
    with self.clock('detectors'):
      self._shipper.ship(inputs, whole, images, self._cautions(heads))

  def conclude(self) -> dict[str, Any]:
    """Writes tables and page if all categories are there; tells what came.

    Returns:
      What `results.json` holds; nothing where other processes are to go on.

    Raises:
      ValueError: If a category failed.
    """
    path, wants_page = self.work.path, self.config.evaluation.report
    with self.work.locked() as state:
      found, heads = self.work.results(state), self.work.heads(state)
      missing = [name for name, one in found.items() if one is None]
      table = {} if missing else self._report(found)
      if table and wants_page:
        page.write(path)
    if missing:
      console.print(
        f'  {len(missing)} of {counted(len(found), "category", "categories")} '
        f'are to come ({", ".join(missing)}): other processes finish them, or '
        'the same command does'
      )
    if table:
      told = 'No test images: nothing was measured.'
      if any(one.test for one in self._categories.values()):
        told = format_table(table)
      console.print(f'\n{told}\n\nResults: {path}/')
      if wants_page:
        console.print(f'Report: {path / page.NAME}')
      self._shipper.conclude()
    failed = {}
    for name, one in found.items():
      errors = [one] if isinstance(one, str) else []
      errors += [head['error'] for head in heads[name].values()]
      errors += [self._unshipped.get(name)]
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
    """Writes the tables of the categories evaluated so far; under the lock.

    Where this process evaluated none, what is there stays: it names the time
    and the device that they took.
    """
    finished = {
      name: one
      for name, one in found.items()
      if isinstance(one, CategoryResult)
    }
    if not finished:
      return {}
    weights = self.weights
    about = {
      'protocol': describe_protocol(self.config, weights.other),
      'config': self.config.to_dict(),
      'weights': {
        'name': weights.name,
        'path': str(weights.path),
        'sha256': weights.sha256,
        'recipe': weights.recipe,
        'warnings': list(weights.warnings),
      },
      'wall_seconds': self.clock.seconds,
      'versions': environment.versions(),
      'device': environment.device() | {'processes': self.processes},
      'files': [dataclasses.asdict(row) for row in self.images.files],
    }
    path = self.work.path / 'results.json'
    table = results.build(about, finished)
    if path.exists() and not self._evaluated:
      with contextlib.suppress(ValueError, KeyError):
        before = read_json(path)
        if before['categories'] == results.strict(table['categories']):
          return before
    results.write(self.work.path, table)
    return table
