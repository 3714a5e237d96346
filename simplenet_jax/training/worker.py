"""One device at work: heads enter its lanes, train, are scored and leave.

The device is always given the next steps before the results of the last ones
are read, so it never waits for the host.
"""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from simplenet_jax.config import Config
from simplenet_jax.console import first_line
from simplenet_jax.training import bank, lanes, step
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.job import Job, batches, rates
from simplenet_jax.training.progress import (
  METRICS,
  HeadProgress,
  Rank,
  flat,
  unflat,
)
from simplenet_jax.training.step import HeadState, Recipe, StepMetrics
from simplenet_jax.training.store import Features, FeatureStore, Interrupted

# What makes a category fail and lets the others go on.
FAILURES = (ValueError, OSError, MemoryError)

STEPS = 512  # Steps that one chunk can have.
_SECONDS = 1.0  # How long a chunk should take: people watch, signals arrive.


@dataclasses.dataclass(frozen=True)
class HeadSettings:
  """How all heads of a run are trained, scored and saved."""

  config: Config
  recipe: Recipe  # From `step.make_recipe`.
  test_images: Mapping[str, int]  # How many each category has.
  rank: Callable[[str], Rank | None]  # By category, for `HeadProgress`.
  checkpoints: Checkpoints | None  # None to save nothing.
  on_steps: Callable[[HeadProgress], None]  # Called when a head has grown.
  stop: threading.Event  # When it is set, devices save their heads and end.

  def init(self, job: Job) -> HeadState:
    """Returns a fresh head's state."""
    return step.init_head(self.recipe, step.head_key(job.seed, job.category))

  def period(self, job: Job) -> int:
    """Returns a head's steps between evaluations; the last step is one."""
    if not self.test_images[job.category]:
      return job.steps
    # As often as in as many epochs as the config has.
    every = self.config.evaluation.every * job.epochs
    return every // self.config.train.epochs * job.steps_per_epoch or job.steps


@dataclasses.dataclass
class ActiveHead:
  """A head in a lane; `step` counts what the device was told to do."""

  lane: int
  progress: HeadProgress
  features: Features
  key: np.ndarray
  sigma: float
  period: int
  step: int

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


@dataclasses.dataclass(frozen=True)
class PendingChunk:
  """What the device was told to do for some heads, and what will come of it."""

  count: int  # Steps.
  metrics: StepMetrics
  heads: Sequence[ActiveHead]
  # By lane, where an evaluation was due: how many images, their padded scores.
  scores: dict[int, list[tuple[int, jax.Array]]]
  states: dict[int, HeadState]  # By lane, to be saved.
  finished: dict[int, dict[str, Any]]  # By lane: the weights of heads that end.


class DeviceLoop:
  """Trains the heads of one device."""

  def __init__(
    self,
    settings: HeadSettings,
    store: FeatureStore,
    home: bank.Bank,
    jobs: Sequence[Job],
    width: int,
    emit: Callable[[HeadProgress], None],
  ):
    """Prepares to train `jobs` in this order, in `width` lanes.

    `emit` is called with the progress of every head that ended, whole or not.
    """
    self._settings, self._store, self._bank = settings, store, home
    self._queue, self._emit = list(jobs), emit
    self._lanes: list[ActiveHead | None] = [None] * width
    self._shapes = jax.eval_shape(lambda: settings.init(jobs[0]))
    self._states = jax.tree.map(
      # On its device from the first call on, which would else be compiled anew.
      lambda leaf: jnp.zeros(
        (width, *leaf.shape), leaf.dtype, device=home.device
      ),
      self._shapes,
    )
    self._pending: collections.deque[PendingChunk] = collections.deque()
    self._chunk, self._read, self._saved = 1, time.monotonic(), time.monotonic()

  def run(self) -> None:
    """Trains all heads, or until it is told to stop; saves what is left."""
    try:
      self._train()
    except BaseException:
      self._attempt_to_save()
      raise
    for head in self._active():
      self._save(head.progress, self._take(head))

  def _train(self) -> None:
    while not self._settings.stop.is_set():
      self._fill_lanes()
      if not any(self._lanes):
        break
      self._pending.append(self._advance())
      if len(self._pending) > 1:
        self._collect(self._pending.popleft())
    while self._pending:
      self._collect(self._pending.popleft())

  def _attempt_to_save(self) -> None:
    """Saves the heads under way after an error, which must not be hidden."""
    for chunk in self._pending:
      self._attempt(lambda chunk=chunk: self._collect(chunk))
    for head in self._active():
      # After an error a state can be ahead of its progress.
      if head.progress.step == head.step:
        self._attempt(
          lambda head=head: self._save(head.progress, self._take(head))
        )

  def _attempt(self, save: Callable[[], None]) -> None:
    try:
      save()
    except Exception as error:
      logging.warning(
        '%s: heads under way could not be saved (%s)',
        self._bank.device,
        first_line(error),
      )

  def _active(self) -> list[ActiveHead]:
    return [head for head in self._lanes if head]

  def _take(self, head: ActiveHead) -> HeadState:
    return lanes.take(self._states, jnp.int32(head.lane))

  def _fill_lanes(self) -> None:
    for lane, head in enumerate(self._lanes):
      while head is None and not self._settings.stop.is_set():
        ready = [j for j in self._queue if self._store.can_open(j.category)]
        if not ready:
          break
        head = self._lanes[lane] = self._enter(lane, ready[0])

  def _enter(self, lane: int, job: Job) -> ActiveHead | None:
    """Puts a head into a lane, with its features; None if there are none."""
    try:
      features = self._store.open(job.category)
      sigma = self._sigma(lane, job, features)
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
    period = self._settings.period(job)
    return ActiveHead(
      lane, progress, features, np.asarray(key), sigma, period, progress.step
    )

  def _sigma(self, lane: int, job: Job, features: Features) -> float:
    """Returns the standard deviation of a head's noise."""
    train = self._settings.config.train
    if train.noise == 'absolute':
      return train.sigma
    if features.spread is None:
      size = features.limit or job.images
      features.spread = bank.spread(
        self._bank,
        (
          features.rows(lane, np.arange(start, min(start + size, job.images)))
          for start in range(0, job.images, size)
        ),
      )
    return train.sigma * features.spread

  def _resume(self, job: Job) -> tuple[HeadProgress, HeadState]:
    rank = self._settings.rank(job.category)
    checkpoints = self._settings.checkpoints
    saved = checkpoints.load(job, rank) if checkpoints else None
    if not saved:
      return HeadProgress(job, rank), self._settings.init(job)
    progress, leaves = saved
    try:
      return progress, unflat(leaves, self._shapes)
    except ValueError as error:
      raise ValueError(
        f'the checkpoint of seed {job.seed} does not fit: {error}; give '
        'another --workdir'
      ) from None

  def _advance(self) -> PendingChunk:
    """Tells the device what to do next."""
    heads = self._active()
    count = min(self._chunk, STEPS, *(head.most_steps for head in heads))
    inputs = self._inputs(heads, count)  # Can write to the bank.
    self._states, metrics = lanes.advance(
      self._settings.recipe,
      self._states,
      self._bank.levels,
      inputs,
      jnp.int32(count),
    )
    chunk = PendingChunk(count, metrics, heads, {}, {}, {})
    seconds = self._settings.config.engine.checkpoint_seconds
    due = time.monotonic() - self._saved >= seconds
    for head in heads:
      head.step += count
      if head.step % head.period == 0 or head.step == head.job.steps:
        chunk.scores[head.lane] = self._score(head)
      if head.step == head.job.steps:
        chunk.finished[head.lane] = self._take(head).weights_to_score
        self._leave(head)
      elif due:
        chunk.states[head.lane] = self._take(head)
    if due:
      self._saved = time.monotonic()
    results = (metrics, chunk.scores, chunk.states, chunk.finished)
    for leaf in jax.tree.leaves(results):
      if isinstance(leaf, jax.Array):
        leaf.copy_to_host_async()
    return chunk

  def _inputs(
    self, heads: Sequence[ActiveHead], count: int
  ) -> lanes.StepInputs:
    """Returns what the lanes do next; streamed images are copied."""
    width, train = len(self._lanes), self._settings.config.train
    shape = (width, STEPS, train.batch_size)
    # A lane without a head trains what nobody reads, on whatever there is.
    rows, valid = np.zeros(shape, np.int32), np.ones(shape, np.float32)
    keys, first = np.zeros((width, 2), np.uint32), np.zeros(width, np.int32)
    sigma = np.ones(width, np.float32)
    rate = np.ones((width, STEPS), np.float32)
    for head in heads:
      images, counted = batches(head.job, head.step, count)
      rows[head.lane, :count] = head.features.rows(head.lane, images)
      valid[head.lane, :count] = counted
      keys[head.lane], first[head.lane] = head.key, head.step
      sigma[head.lane] = head.sigma
      rate[head.lane, :count] = rates(
        head.job,
        head.step,
        count,
        schedule=train.schedule,
        warmup=train.warmup,
      )
    found = (rows, valid, keys, first, sigma, rate)
    return lanes.StepInputs(*map(jnp.asarray, found))

  def _score(self, head: ActiveHead) -> list[tuple[int, jax.Array]]:
    """Scores the test images, a few at a time where they are streamed."""
    train, scores = head.job.images, []
    test = self._settings.test_images[head.job.category]
    size = min(lanes.SCORED, head.features.limit or lanes.SCORED)
    for start in range(0, test, size):
      images = np.arange(train + start, train + min(start + size, test))
      rows = head.features.rows(head.lane, images)
      found = lanes.score(
        self._settings.recipe,
        self._states,
        jnp.int32(head.lane),
        self._bank.levels,
        jnp.asarray(np.pad(rows, (0, lanes.SCORED - len(rows)))),
        jnp.int32(len(rows)),
      )
      scores.append((len(rows), found))
    return scores

  def _leave(self, head: ActiveHead) -> None:
    """Frees a lane, and the rows of a category of which nothing is left."""
    self._lanes[head.lane] = None
    self._close_if_done(head.job.category)

  def _close_if_done(self, category: str) -> None:
    left = [head.job for head in self._active()] + self._queue
    if all(job.category != category for job in left):
      self._store.release(category)

  def _collect(self, chunk: PendingChunk) -> None:
    """Reads what has come of a chunk, a few moments later."""
    values = np.stack([np.asarray(getattr(chunk.metrics, n)) for n in METRICS])
    now = time.monotonic()
    per_step, self._read = (now - self._read) / chunk.count, now
    # Not more than double: the first call compiles.
    self._chunk = max(1, min(int(_SECONDS / per_step), 2 * self._chunk))
    going_on = [head for head in chunk.heads if not head.progress.error]
    # All heads' metrics first: an error while one is saved leaves the others
    # whole, and they can be saved.
    for head in going_on:
      self._add(chunk, head, values[:, head.lane, : chunk.count])
    for head in going_on:
      if not head.progress.error:
        self._note(chunk, head)

  def _add(
    self, chunk: PendingChunk, head: ActiveHead, values: np.ndarray
  ) -> None:
    """Adds to a head's progress; gives it up where that is not finite."""
    progress = head.progress
    try:
      progress.add_metrics(values)
      if scores := chunk.scores.get(head.lane):
        found = np.concatenate([np.asarray(part)[:n] for n, part in scores])
        progress.add_scores(progress.step // head.job.steps_per_epoch, found)
    except ValueError as error:
      progress.error = str(error)
      if self._lanes[head.lane] is head:
        self._leave(head)
      self._emit(progress)

  def _note(self, chunk: PendingChunk, head: ActiveHead) -> None:
    if head.lane in chunk.states:
      self._save(head.progress, chunk.states[head.lane])
    self._settings.on_steps(head.progress)
    if head.lane in chunk.finished:
      head.progress.head = flat(chunk.finished[head.lane])
      self._save(head.progress)
      self._emit(head.progress)

  def _save(
    self, progress: HeadProgress, state: HeadState | None = None
  ) -> None:
    checkpoints = self._settings.checkpoints
    if checkpoints and progress.step:
      checkpoints.save(progress, flat(state) if state else None)
