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
from simplenet_jax.environment import Processes
from simplenet_jax.evaluation import metrics, results, run_files, testset
from simplenet_jax.evaluation.tables import format_table
from simplenet_jax.files import read_json
from simplenet_jax.models.weights import Weights
from simplenet_jax.report import page
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.job import Job
from simplenet_jax.training.progress import METRICS, HeadProgress, unlearned
from simplenet_jax.training.worker import FAILURES
from simplenet_jax.workdir import Heads, Result, WorkDir, wait_for

# Returns the last patch scores of heads, given by seed, on a category's images.
ScoreAgain = Callable[
  [Inputs, Mapping[int, Mapping[str, np.ndarray]]], dict[int, np.ndarray]
]


_PAGES = 20.0  # Between two pages, in units of what the first one took.


@dataclasses.dataclass
class RunResults:
  """What one process finds in a run, together with the others."""

  config: Config
  work: WorkDir
  images: DataSet
  weights: Weights
  jobs: Sequence[Job]  # All processes'.
  clock: Clock
  processes: Processes
  score_again: ScoreAgain

  def __post_init__(self):
    self.checkpoints = Checkpoints(self.work.path / 'checkpoints')
    self._categories = {one.name: one for one in self.images.categories}
    self._shipper = Shipper(self.config, self.weights, self.work.path)
    self._told: set[tuple[str, str | None]] = set()
    self._through: set[str] = set()  # Categories that need no other look.
    self._evaluated = False  # Whether this process has evaluated any.
    self._page_due = 0.0  # Of `time.monotonic`.
    self._failed: dict[str, str] = {}  # Detectors that could not be made.

  def left(self, jobs: Sequence[Job]) -> dict[Job, int]:
    """Returns which heads of this process are to be trained, from what step."""
    steps = {job: self.checkpoints.progress(job) for job in jobs}
    left = {job: step for job, step in steps.items() if step < job.steps}
    self.work.take_up({(job.category, job.seed): job in left for job in jobs})
    return left

  def rank(self, name: str) -> Callable[[np.ndarray], float] | None:
    """Returns what tells a category's epochs from each other: image AUROC."""
    if self.config.evaluation.course:
      return lambda scores: 0.0  # None is dropped in favour of another.
    labels = self._categories[name].labels
    heads = self.work.heads()[name]
    mixed = any(one.get('mixed') for one in heads.values())
    if mixed or not 0 < labels.sum() < len(labels):
      return None
    return lambda scores: metrics.auroc(labels, scores.max(axis=(1, 2)))

  def take(self, head: HeadProgress) -> bool:
    """Takes a head that ended; evaluates its category if it was the last one.

    Returns:
      Whether all heads of the category have ended.
    """
    name, error = head.job.category, head.error
    if error and (name, error) not in self._told:
      self._told.add((name, error))
      console.print(f'  error: {name}: {error}')
    if caution := self._cautions([head]):
      logging.warning('%s', caution[0])
    ended = self.work.note_head(name, head.job.seed, error)
    if ended:
      self._finish(name)
    return ended

  def evaluate_ready(self) -> None:
    """Evaluates the categories of which heads are all there, results are not.

    They are left by processes that were killed, or by images that changed.
    """
    complete = self.work.complete()
    with self.work.locked():
      known = self.work.results()
    for name, heads in complete.items():
      if name in self._through:
        continue
      is_known = isinstance(known[name], dict)
      if not is_known or not self._has(name, heads):
        self._finish(name)
      self._through.add(name)

  def conclude(self) -> dict[str, Any]:
    """Writes tables and page if all categories are there; tells what came.

    Returns:
      What `results.json` holds; nothing where other processes are to go on.

    Raises:
      ValueError: If a category failed.
    """
    path, wants_page = self.work.path, self.config.evaluation.report
    with self.work.locked():
      found = self.work.results()
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
    failed, heads = dict(self._failed), self.work.heads()
    for name, one in found.items():
      errors = [head.get('error') for head in heads[name].values()]
      error = one if isinstance(one, str) else next(filter(None, errors), '')
      if error:
        failed[name] = error
    if failed:
      names = [name for name in found if name in failed]
      raise ValueError(
        f'{len(names)} of {len(found)} categories failed '
        f'({", ".join(names)}); the first, {names[0]}: {failed[names[0]]}'
      )
    return table

  def _cautions(self, heads: Sequence[HeadProgress]) -> list[str]:
    train = self.config.train
    told = (
      unlearned(head, train.loss, train.margin)
      for head in heads
      if head.finished
    )
    return [text for text in told if text]

  def _has(self, name: str, heads: Heads) -> bool:
    """Returns whether a category's files are there that are asked for."""
    folder, asked = self.work.path, self.config.evaluation
    whole = [int(seed) for seed, one in heads.items() if not one['error']]
    if self.config.detector.save and not self._shipper.has(
      name, whole, self.work.detector_images(name)
    ):
      return False
    wanted = {
      folder / 'pictures' / f'{name}.png': asked.pictures,
      folder / 'maps' / name: asked.maps,
      run_files.report_path(folder, name): asked.report,
    }
    return not self._categories[name].test or all(
      path.exists() for path, wants in wanted.items() if wants
    )

  def _finish(self, name: str) -> None:
    """Evaluates a category and makes its detector, unless another does."""
    self._through.add(name)
    self._evaluated = True
    with self.work.evaluating(name) as mine:
      if not mine:
        return
      heads: list[HeadProgress] = []
      with self._failing(name) as failed:
        heads = self._heads(name)
        if not any(head.finished for head in heads):
          raise ValueError(heads[0].error)
        found = self._evaluate(self._categories[name], heads)
        self.work.note_result(name, found)
      if failed:
        self.work.note_result(name, failed[0])
      with self.work.locked():
        self._report(self.work.results())
        self._show()
      if not failed:
        with self._failing(name) as failed:
          self._ship(self._categories[name], heads)
        if failed:
          self._failed[name] = failed[0]

  def _show(self) -> None:
    """Writes the page while heads train, unless the last one is quite new."""
    begun = time.monotonic()
    if not self.config.evaluation.report or begun < self._page_due:
      return
    with contextlib.suppress(*FAILURES):  # In the end it is tried once more.
      page.write(self.work.path)
    took = time.monotonic() - begun
    self._page_due = begun + _PAGES * took

  @contextlib.contextmanager
  def _failing(self, name: str):
    """Yields a list that holds why a category failed, if it does inside."""
    failed: list[str] = []
    try:
      yield failed
    except (*FAILURES, RuntimeError) as error:
      failed.append(_reason(error))
      if (name, failed[0]) not in self._told:
        console.print(f'  error: {name}: {failed[0]}')

  def _heads(self, name: str) -> list[HeadProgress]:
    """Returns the heads of a category, whichever process has trained them."""
    found, heads, rank = [], self.work.heads()[name], self.rank(name)
    for job in (job for job in self.jobs if job.category == name):
      known, head = heads[str(job.seed)], HeadProgress(job)
      head.error = known['error']
      if not head.error:
        # Scores of other images than those of now cannot be ranked.
        own = rank if self.work.scored(name, known) else None
        saved = wait_for(
          lambda job=job, rank=own: self._finished(job, rank),
          f'a checkpoint of {name}',
        )
        if saved is None:
          raise ValueError(f'the checkpoint of seed {job.seed} is gone')
        head = saved
      found.append(head)
    return found

  def _finished(self, job: Job, rank) -> HeadProgress | None:
    saved = self.checkpoints.load(job, rank)
    return saved[0] if saved and saved[0].finished else None

  def _scores(
    self, inputs: Inputs, whole: Sequence[HeadProgress]
  ) -> tuple[dict[int, dict[int, np.ndarray]], bool]:
    """Returns heads' scores by seed and epoch, and whether one can be selected.

    Where test images changed after they were scored, they are scored again by
    the heads as they are in the end.
    """
    known = self.work.heads()[inputs.name]
    again = {
      head.job.seed: head.head or {}
      for head in whole
      if not self.work.scored(inputs.name, known[str(head.job.seed)])
    }
    if not again and not any(one.get('mixed') for one in known.values()):
      return {head.job.seed: head.scores for head in whole}, True
    if again:
      console.print(f'  {inputs.name}: scores its test images, which changed')
    scored = self.score_again(inputs, again) if again else {}
    last = {
      head.job.seed: head.scores[head.job.epochs]
      for head in whole
      if head.job.seed not in scored
    }
    epochs = whole[0].job.epochs
    return {s: {epochs: one} for s, one in (last | scored).items()}, False

  def _evaluate(
    self, inputs: Inputs, heads: Sequence[HeadProgress]
  ) -> results.CategoryResult:
    """Evaluates a category's heads, one per seed, and writes its files."""
    asked, folder, name = self.config.evaluation, self.work.path, inputs.name
    whole = [head for head in heads if head.finished]
    with self.clock('pictures'):
      courses = [head.epochs() for head in whole]
      run_files.write_curves(
        folder,
        name,
        [head.job.seed for head in whole],
        {key: np.stack([one[key] for one in courses]) for key in METRICS},
      )
    if not inputs.test:
      console.print(f'  {name}: no test images, nothing to evaluate')
      nothing = results.undefined(len(heads))
      return {'last': nothing, 'cautions': self._cautions(whole)}
    with self.clock('evaluate'):
      scores, selectable = self._scores(inputs, whole)
      test = testset.TestSet.read(inputs, asked.smoothing)
      found = testset.evaluate(
        test,
        [scores.get(head.job.seed, {}) for head in heads],
        course=asked.course and selectable,
      )
      if not selectable:
        found.pop('selected_on_test', None)
    with self.clock('pictures'):
      epochs = heads[0].job.epochs
      run_files.write(
        folder,
        inputs,
        test,
        {head.job.seed: scores[head.job.seed][epochs] for head in whole},
        asked,
        images=sum(len(one.test) for one in self._categories.values()),
      )
    figures = []
    for title, key in (('I-AUROC', 'image_auroc'), ('P-AUROC', 'pixel_auroc')):
      mean = found['last'][key]['mean']
      figures.append(
        f'{title} {"undefined" if mean is None else f"{mean:.1%}"}'
      )
    console.print(f'  {name}: {", ".join(figures)}')
    found['cautions'] = self._cautions(whole)
    found['pixels'] = inputs.known_pixels()
    return found

  def _ship(self, inputs: Inputs, heads: Sequence[HeadProgress]) -> None:
    """Makes a category's detector of all its heads that were not given up."""
    whole = [head for head in heads if head.finished]
    by_seed = {head.job.seed: head.head or {} for head in whole}
    name, images = inputs.name, self.work.detector_images(inputs.name)
    save = self.config.detector.save
    if not save or self._shipper.has(name, list(by_seed), images):
      return
    if len(whole) < len(heads):
      console.print(
        f'  {name}: its detector has {len(whole)} of '
        f'{counted(len(heads), "head")}'
      )
    with self.clock('detectors'):
      self._shipper.ship(inputs, by_seed, images, self._cautions(whole))

  def _report(self, found: Mapping[str, Result]) -> dict[str, Any]:
    """Writes the tables of the categories evaluated so far; under the lock.

    Where this process evaluated none, what is there stays: it names the time
    and the device that they took.
    """
    finished = {
      name: one for name, one in found.items() if isinstance(one, dict)
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
      'device': environment.device() | {'processes': self.processes.count},
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
