"""One device at work: heads enter its lanes, train, are scored and leave.

The device is always given the next steps before the results of the last ones
are read, so it never waits for the host.
"""

import collections
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from simplenet_jax.console import first_line
from simplenet_jax.training import lanes, step
from simplenet_jax.training.job import Job, batches, rates, scoring_period
from simplenet_jax.training.layout import DeviceTask, RunInputs
from simplenet_jax.training.progress import METRICS, HeadProgress, flat, unflat
from simplenet_jax.training.step import HeadState, StepMetrics, Tree
from simplenet_jax.training.store import Features, FeatureStore, Interrupted

# What makes a category fail and lets the others go on.
FAILURES = (ValueError, OSError, MemoryError)

STEPS = 512  # Steps that one chunk can have.
_SECONDS = 1.0  # How long a chunk should take: people watch, signals arrive.


@dataclasses.dataclass
class ActiveHead:
  """A head in a lane."""

  lane: int
  progress: HeadProgress
  features: Features
  key: np.ndarray
  sigma: float
  period: int  # Steps between evaluations.
  step: int  # How many the device was told to do.

  @property
  def job(self) -> Job:
    """Which head."""
    return self.progress.job

  @property
  def most_steps(self) -> int:
    """Steps that its evaluations and streamed images allow in one chunk."""
    until = min(
      self.period - self.step % self.period, self.job.steps - self.step
    )
    limit = self.features.limit
    return until if limit is None else min(until, limit // self.job.batch_size)


@dataclasses.dataclass
class Outcome:
  """What will come of a chunk of steps for one head."""

  head: ActiveHead
  scores: list[jax.Array]  # Of the test images where an evaluation was due.
  state: HeadState | None = None  # To be saved.
  weights: Tree | None = None  # Of a head that ends.


Chunk = tuple[int, StepMetrics, list[Outcome]]  # The first are its steps.


class DeviceLoop:
  """Trains the heads of one device."""

  def __init__(
    self,
    run: RunInputs,
    task: DeviceTask,
    store: FeatureStore,
    emit: Callable[[HeadProgress], None],
  ):
    """Prepares to train a task's heads, with the features of a store.

    `emit` is called with the progress of every head that ended, whole or not.
    """
    self._run, self._store, self._emit = run, store, emit
    self._queue = list(task.jobs)
    self._tests = {one.name: len(one.test) for one in task.categories}
    self._lanes: list[ActiveHead | None] = [None] * task.lanes
    self._shapes = jax.eval_shape(lambda: self._fresh(task.jobs[0]))
    self._states = jax.tree.map(
      # On its device from the first call on, which would else be compiled anew.
      lambda leaf: jnp.zeros(
        (task.lanes, *leaf.shape), leaf.dtype, device=task.device
      ),
      self._shapes,
    )
    self._pending: collections.deque[Chunk] = collections.deque()
    self._chunk, self._read, self._saved = 1, time.monotonic(), time.monotonic()

  def run(self) -> None:
    """Trains all heads, or until it is told to stop; saves what is left."""
    try:
      self._train()
    except BaseException:
      self._rescue()
      raise
    for head in self._active():
      self._save_lane(head)

  def _train(self) -> None:
    while not self._run.stop.is_set():
      self._fill_lanes()
      if not any(self._lanes):
        break
      self._pending.append(self._advance())
      if len(self._pending) > 1:
        self._collect(self._pending.popleft())
    while self._pending:
      self._collect(self._pending.popleft())

  def _rescue(self) -> None:
    """Saves the heads under way after an error, which must not be hidden."""
    saves = [functools.partial(self._collect, one) for one in self._pending]
    saves += [
      functools.partial(self._save_lane, head) for head in self._active()
    ]
    for save in saves:
      try:
        save()
      except Exception as error:
        logging.warning(
          '%s: heads under way could not be saved (%s)',
          self._store.home.device,
          first_line(error),
        )

  def _save_lane(self, head: ActiveHead) -> None:
    # After an error a state can be ahead of its progress.
    if head.progress.step == head.step:
      self._save(head.progress, self._take(head))

  def _save(
    self, progress: HeadProgress, state: HeadState | None = None
  ) -> None:
    if self._run.checkpoints and progress.step:
      self._run.checkpoints.save(progress, flat(state) if state else None)

  def _active(self) -> list[ActiveHead]:
    return [head for head in self._lanes if head]

  def _take(self, head: ActiveHead) -> HeadState:
    return lanes.take(self._states, jnp.int32(head.lane))

  def _fresh(self, job: Job) -> HeadState:
    key = step.head_key(job.seed, job.category)
    return step.init_head(self._run.recipe, key)

  def _fill_lanes(self) -> None:
    for lane, head in enumerate(self._lanes):
      while head is None and not self._run.stop.is_set():
        ready = [j for j in self._queue if self._store.can_open(j.category)]
        if not ready:
          break
        head = self._lanes[lane] = self._enter(lane, ready[0])

  def _enter(self, lane: int, job: Job) -> ActiveHead | None:
    """Puts a head into a lane, with its features; None if there are none."""
    train = self._run.config.train
    try:
      features, sigma = self._store.open(job.category), train.sigma
      if train.noise == 'relative':
        sigma *= features.measure_spread(lane, job.images)
      progress, state = self._resume(job)
    except Interrupted:
      return None
    except FAILURES as error:
      for failed in [j for j in self._queue if j.category == job.category]:
        self._queue.remove(failed)
        progress = HeadProgress(failed)
        # The text alone: the error would keep the features alive.
        progress.error = first_line(error)
        self._emit(progress)
      self._close_if_done(job.category)
      return None
    self._queue.remove(job)
    self._states = lanes.put(self._states, jnp.int32(lane), state)
    key = jax.random.key_data(step.head_key(job.seed, job.category))
    period = job.steps
    if self._tests[job.category]:
      period = scoring_period(self._run.config, job)
    return ActiveHead(
      lane, progress, features, np.asarray(key), sigma, period, progress.step
    )

  def _resume(self, job: Job) -> tuple[HeadProgress, HeadState]:
    rank, checkpoints = self._run.rank(job.category), self._run.checkpoints
    saved = checkpoints.load(job, rank) if checkpoints else None
    if not saved:
      return HeadProgress(job, rank), self._fresh(job)
    progress, leaves = saved
    return progress, unflat(leaves, self._shapes)

  def _advance(self) -> Chunk:
    """Tells the device what to do next."""
    heads = self._active()
    count = min(self._chunk, STEPS, *(head.most_steps for head in heads))
    inputs = self._inputs(heads, count)  # Can write to the bank.
    self._states, metrics = lanes.advance(
      self._run.recipe,
      self._states,
      self._store.home.levels,
      inputs,
      jnp.int32(count),
    )
    now, seconds = time.monotonic(), self._run.config.engine.checkpoint_seconds
    due = now - self._saved >= seconds
    if due:
      self._saved = now
    outcomes = []
    for head in heads:
      head.step += count
      ends = head.step == head.job.steps
      scored = ends or head.step % head.period == 0
      one = Outcome(head, self._score(head) if scored else [])
      if ends:
        one.weights = self._take(head).weights_to_score
        self._leave(head)
      elif due:
        one.state = self._take(head)
      outcomes.append(one)
    parts = [(one.scores, one.state, one.weights) for one in outcomes]
    for leaf in jax.tree.leaves((metrics, parts)):
      leaf.copy_to_host_async()
    return count, metrics, outcomes

  def _inputs(
    self, heads: Sequence[ActiveHead], count: int
  ) -> lanes.StepInputs:
    """Returns what the lanes do next; streamed images are copied."""
    width, train = len(self._lanes), self._run.config.train
    shape = (width, STEPS, train.batch_size)
    # A lane without a head trains what nobody reads, on whatever there is.
    rows, valid = np.zeros(shape, np.int32), np.ones(shape, np.float32)
    keys, first = np.zeros((width, 2), np.uint32), np.zeros(width, np.int32)
    sigma = np.ones(width, np.float32)
    rate = np.ones((width, STEPS), np.float32)
    for head in heads:
      lane, begun = head.lane, head.step
      images, valid[lane, :count] = batches(head.job, begun, count)
      rows[lane, :count] = head.features.rows(lane, images)
      keys[lane], first[lane], sigma[lane] = head.key, begun, head.sigma
      rate[lane, :count] = rates(
        head.job, begun, count, schedule=train.schedule, warmup=train.warmup
      )
    found = (rows, valid, keys, first, sigma, rate)
    return lanes.StepInputs(*map(jnp.asarray, found))

  def _score(self, head: ActiveHead) -> list[jax.Array]:
    """Scores the test images, a few at a time where they are streamed."""
    train, scores = head.job.images, []
    test = self._tests[head.job.category]
    size = min(lanes.SCORED, head.features.limit or lanes.SCORED)
    for start in range(0, test, size):
      images = np.arange(train + start, train + min(start + size, test))
      rows = head.features.rows(head.lane, images)
      found = lanes.score(
        self._run.recipe,
        self._states,
        jnp.int32(head.lane),
        self._store.home.levels,
        jnp.asarray(np.pad(rows, (0, lanes.SCORED - len(rows)))),
        jnp.int32(len(rows)),
      )
      scores.append(found[: len(rows)])
    return scores

  def _leave(self, head: ActiveHead) -> None:
    """Frees a lane, and the rows of a category of which nothing is left."""
    self._lanes[head.lane] = None
    self._close_if_done(head.job.category)

  def _close_if_done(self, category: str) -> None:
    left = [head.job for head in self._active()] + self._queue
    if all(job.category != category for job in left):
      self._store.release(category)

  def _collect(self, chunk: Chunk) -> None:
    """Reads what has come of a chunk, a few moments later."""
    count, metrics, outcomes = chunk
    values = np.stack([np.asarray(getattr(metrics, n)) for n in METRICS])
    now = time.monotonic()
    per_step, self._read = (now - self._read) / count, now
    # Not more than double: the first call compiles.
    self._chunk = max(1, min(int(_SECONDS / per_step), 2 * self._chunk))
    going_on = [one for one in outcomes if not one.head.progress.error]
    # All heads' metrics first: an error while one is saved leaves the others
    # whole, and they can be saved.
    for one in going_on:
      self._add(one, values[:, one.head.lane, :count])
    for one in going_on:
      progress = one.head.progress
      if progress.error:
        continue
      if one.state:
        self._save(progress, one.state)
      self._run.on_steps(progress)
      if one.weights:
        progress.head = flat(one.weights)
        self._save(progress)
        self._emit(progress)

  def _add(self, one: Outcome, values: np.ndarray) -> None:
    """Adds to a head's progress; gives it up where that is not finite."""
    head, progress = one.head, one.head.progress
    try:
      progress.add_metrics(values)
      if one.scores:
        epoch = progress.step // head.job.steps_per_epoch
        progress.add_scores(epoch, np.concatenate(one.scores))
    except ValueError as error:
      progress.error = str(error)
      if self._lanes[head.lane] is head:
        self._leave(head)
      self._emit(progress)
