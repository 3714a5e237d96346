"""One device at work: heads enter its lanes, train, are scored and leave.

An accelerator is told what comes next before what came last is read.
"""

import collections
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from simplenet_jax.console import Signalled, first_line, unsaved
from simplenet_jax.training import bank, lanes, neighbours, pasted, step
from simplenet_jax.training.job import Job, batches, rates, scoring_period
from simplenet_jax.training.lanes import ActiveHead
from simplenet_jax.training.layout import DeviceTask, RunInputs
from simplenet_jax.training.progress import HeadProgress, flat, unflat
from simplenet_jax.training.step import HeadState, Tree
from simplenet_jax.training.store import FeatureStore

# What makes a category fail and lets the others go on.
FAILURES = (ValueError, OSError, MemoryError)

STEPS = 512  # Steps that one chunk can have.
LOOP = 32  # Steps of one program.
_SECONDS = 2.0  # Told ahead at most: people watch, signals arrive.


# What will come of a chunk of steps for one head: scores of test images if they
# were due, and what is to be saved: its weights if it ends, or a state if due.
Outcome = tuple[ActiveHead, list[jax.Array], HeadState | Tree | None]
# Its steps, metrics `[lanes, LOOP, 3]` of its programs, and what comes of it.
Chunk = tuple[int, list[jax.Array], list[Outcome]]


class DeviceLoop:
  """Trains the heads of one device; calls `emit` with each that ended."""

  def __init__(
    self, run: RunInputs, task: DeviceTask, emit: Callable[[HeadProgress], None]
  ):
    self._run, self._recipe, self._emit = run, run.recipe, emit
    self._store, self._device = FeatureStore(run, task), task.device
    self._queue = list(task.jobs)
    self._categories = {one.name: one for one in task.categories}
    self._lanes: list[ActiveHead | None] = [None] * task.lanes
    self._shapes = jax.eval_shape(lambda: self._fresh(task.jobs[0]))
    # On its device from the first call on, which would else be compiled anew.
    states = jax.tree.map(
      lambda x: np.zeros((task.lanes, *x.shape), x.dtype), self._shapes
    )
    self._states = jax.device_put(states, task.device)
    self._pasted = None  # Of each lane's head.
    if self._recipe.pasted:
      shape = task.lanes, pasted.KEPT, self._recipe.dim
      self._pasted = jax.device_put(np.zeros(shape, np.float32), task.device)
    self._pending: collections.deque[Chunk] = collections.deque()
    self._chunk, self._read = 1, time.monotonic()
    # Each chunk takes its memory anew, which costs a CPU more than to wait.
    self._ahead = 0 if task.device.platform == 'cpu' else 1

  def run(self) -> None:
    """Trains all heads, or until it is told to stop; saves what is left."""
    try:
      while not self._run.stop.is_set():
        self._fill_lanes()
        if not any(self._lanes):
          break
        self._pending.append(self._advance())
        if len(self._pending) > self._ahead:
          self._collect(self._pending.popleft())
      while self._pending:
        self._collect(self._pending.popleft())
    except BaseException:
      for chunk in self._pending:
        self._attempt(self._collect, chunk)
      for head in self._active():
        # A state can be ahead of its progress.
        if head.progress.step == head.step:
          self._attempt(self._save, head.progress, self._take(head))
      raise
    finally:
      self._store.close()
    for head in self._active():
      self._save(head.progress, self._take(head))

  def _attempt(self, save: Callable[..., None], *what: Any) -> None:
    """Saves after an error, which must not be hidden by another one."""
    try:
      save(*what)
    except Exception as error:
      logging.warning('heads under way are not saved (%s)', first_line(error))

  def _save(self, progress: HeadProgress, state: HeadState | Tree) -> None:
    if progress.finished:
      progress.head = flat(state)
      self._run.checkpoints.save(progress)
    elif progress.step:
      self._run.checkpoints.save(progress, flat(state))

  def _active(self) -> list[ActiveHead]:
    return [head for head in self._lanes if head]

  def _take(self, head: ActiveHead) -> HeadState:
    return lanes.take(self._states, np.int32(head.lane))

  def _fresh(self, job: Job) -> HeadState:
    key = step.head_key(job.seed, job.category)
    return step.init_head(self._recipe, key)

  def _fill_lanes(self) -> None:
    for lane, head in enumerate(self._lanes):
      while head is None and not self._run.stop.is_set():
        ready = [j for j in self._queue if self._store.can_open(j.category)]
        if not ready:
          break
        head = self._lanes[lane] = self._enter(lane, ready[0])

  def _enter(self, lane: int, job: Job) -> ActiveHead | None:
    """Puts a head into a lane, with its features; None if there are none."""
    run, name = self._run, job.category
    try:
      features = self._store.open(name)
      inputs = self._categories[name]
      wanted = neighbours.are_wanted(run.config, inputs)
      if wanted or self._recipe.pasted:
        # A signal cannot interrupt this: what is trained is saved before.
        while self._pending:
          self._collect(self._pending.popleft())
        if not any(self._lanes):
          unsaved.discard(self)
      if wanted:
        neighbours.obtain(run, inputs, self._store)
      if self._recipe.pasted:
        own = pasted.of_head(pasted.obtain(run, inputs, self._store), job)
        self._pasted = lanes.put(self._pasted, np.int32(lane), own)
      if saved := run.checkpoints.load(job, run.rank(name)):
        progress, state = saved[0], unflat(saved[1], self._shapes)
      else:
        progress, state = HeadProgress(job, run.rank(name)), self._fresh(job)
    except Signalled:
      return None
    except FAILURES as error:
      for failed in [one for one in self._queue if one.category == name]:
        self._queue.remove(failed)
        progress = HeadProgress(failed)
        # The text alone: the error would keep the features alive.
        progress.error = first_line(error)
        self._emit(progress)
      self._close_if_done(name)
      return None
    self._queue.remove(job)
    self._states = lanes.put(self._states, np.int32(lane), state)
    key = np.asarray(jax.random.key_data(step.head_key(job.seed, name)))
    period = scoring_period(run.config, job) if inputs.test else job.steps
    sigma = run.config.train.sigma * features.spread
    at = progress.step, time.monotonic()
    return ActiveHead(job, lane, progress, features, key, sigma, period, *at)

  def _advance(self) -> Chunk:
    heads, metrics = self._active(), []
    count = min(self._chunk, STEPS, *(head.most_steps for head in heads))
    count -= count % LOOP if count > LOOP else 0  # Whole programs first.
    for begun in range(0, count, LOOP):
      steps = min(LOOP, count - begun)
      inputs = self._inputs(heads, steps)  # Can write to the bank.
      # A second program would gain a CPU nothing.
      whole = steps == LOOP and self._device.platform != 'cpu'
      last = () if whole else (np.int32(steps),)
      self._states, some = lanes.advance(
        self._recipe, self._states, self._store.levels, inputs, *last
      )
      metrics.append(some)
      for head in heads:
        head.step += steps
    unsaved.add(self)
    # One at a time: the device has enough to do while a single head is written.
    due, now = min(heads, key=lambda head: head.saved), time.monotonic()
    save = now - due.saved >= self._run.config.engine.checkpoint_seconds
    due.saved = now if save else due.saved
    outcomes = []
    for head in heads:
      ends = head.step == head.job.steps
      scored = ends or head.step % head.period == 0
      scores = self._score(head) if scored else []
      saved = None
      if ends:
        saved = self._take(head).weights_to_score
        self._leave(head)
      elif save and head is due:
        saved = self._take(head)
      outcomes.append((head, scores, saved))
    for leaf in jax.tree.leaves((metrics, [one[1:] for one in outcomes])):
      leaf.copy_to_host_async()
    return count, metrics, outcomes

  def _inputs(
    self, heads: Sequence[ActiveHead], count: int
  ) -> lanes.StepInputs:
    """Returns what the lanes do next; streamed images are copied."""
    width = len(self._lanes)
    shape = (width, LOOP, self._run.config.train.batch_size)
    # A lane without a head trains what nobody reads, on whatever there is.
    rows, valid = np.zeros(shape, np.int32), np.ones(shape, np.float32)
    keys, first = np.zeros((width, 2), np.uint32), np.zeros(width, np.int32)
    sigma = np.ones(width, np.float32)
    rate = np.ones((width, LOOP), np.float32)
    for head in heads:
      lane, number = head.lane, head.step
      images, valid[lane, :count] = batches(head.job, number, count)
      rows[lane, :count] = self._store.rows(head.features, lane, images)
      keys[lane], first[lane], sigma[lane] = head.key, number, head.sigma
      rate[lane, :count] = rates(self._run.config, head.job, number, count)
    found, places = (rows, valid, keys, first, sigma, rate), None
    if any(one.roi is not None for one in self._categories.values()):
      regions: list[np.ndarray | None] = [None] * width
      for head in heads:
        regions[head.lane] = self._categories[head.job.category].roi
      places = lanes.places(regions, self._store.levels.grids[0])
    found = jax.device_put(found, self._device)
    return lanes.StepInputs(*found, places=places, pasted=self._pasted)

  def _score(self, head: ActiveHead) -> list[jax.Array]:
    """Scores the test images, a few at a time; the last ones are padding."""
    train, scores, lane = head.job.images, [], np.int32(head.lane)
    end = train + len(self._categories[head.job.category].test)
    size = min(lanes.SCORED, head.features.limit)
    for start in range(train, end, size):
      images = np.arange(start, min(start + size, end))
      rows = self._store.rows(head.features, head.lane, images)
      read = self._store.levels, bank.padded(rows, size)
      scores.append(lanes.score(self._recipe, self._states, lane, *read))
    return scores

  def _leave(self, head: ActiveHead) -> None:
    self._lanes[head.lane] = None
    self._close_if_done(head.job.category)

  def _close_if_done(self, category: str) -> None:
    """Frees the rows of a category of which nothing is left."""
    left = [head.job for head in self._active()] + self._queue
    if all(job.category != category for job in left):
      self._store.release(category)

  def _collect(self, chunk: Chunk) -> None:
    """Reads what has come of a chunk, a few moments later."""
    count, metrics, outcomes = chunk
    values = np.concatenate(jax.device_get(metrics), axis=1)
    before, self._read = self._read, time.monotonic()
    steps = _SECONDS / (1 + self._ahead) * count / (self._read - before)
    # Not more than double: the first call compiles.
    self._chunk = max(1, min(int(steps), 2 * self._chunk))
    # First all metrics: an error while one head is saved leaves others whole.
    for head, scores, _ in outcomes:
      if not head.progress.error:
        self._add(head, values[head.lane, :count].T, scores)
    for head, _, saved in outcomes:
      progress = head.progress
      if progress.error:
        continue
      if saved:
        self._save(progress, saved)
      self._run.on_steps(progress)
      if progress.finished:
        self._emit(progress)

  def _add(
    self, head: ActiveHead, values: np.ndarray, scores: list[jax.Array]
  ) -> None:
    """Adds to a head's progress; gives it up where that is not finite."""
    progress = head.progress
    try:
      progress.add_metrics(values)
      if scores:
        epoch = progress.step // head.job.steps_per_epoch
        found = np.concatenate(jax.device_get(scores))  # With padding.
        count = len(self._categories[head.job.category].test)
        progress.add_scores(epoch, found[:count])
    except ValueError as error:
      progress.error = str(error)
      if self._lanes[head.lane] is head:
        self._leave(head)
      self._emit(progress)
