"""One device at work: heads enter its lanes, train, are scored and leave.

The device is always given the next steps before the results of the last ones
are read, so it never waits for the host.
"""

import collections
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from simplenet_jax.console import first_line
from simplenet_jax.training import bank, lanes
from simplenet_jax.training.calls import (
  STEPS,
  Call,
  Scores,
  Slot,
  next_steps,
)
from simplenet_jax.training.features import Features, Interrupted, Store
from simplenet_jax.training.job import Job
from simplenet_jax.training.orders import Orders
from simplenet_jax.training.record import METRICS, Record, flat, unflat
from simplenet_jax.training.step import HeadState

# What makes a category fail and lets the others go on.
FAILURES = (ValueError, OSError, MemoryError)

_SECONDS = 1.0  # How long a call should take: people watch, signals arrive.


class Worker:
  """The heads of one device."""

  def __init__(
    self,
    orders: Orders,
    store: Store,
    home: bank.Bank,
    jobs: Sequence[Job],
    width: int,
    emit: Callable[[Record], None],
  ):
    """Prepares.

    Args:
      orders: What all workers share.
      store: The features of the categories.
      home: Where they lie on the device.
      jobs: The heads, in the order in which they start.
      width: Number of lanes.
      emit: Called with the record of every head that ended, whole or not.
    """
    self._orders, self._store, self._bank = orders, store, home
    self._queue, self._emit = list(jobs), emit
    self._slots: list[Slot | None] = [None] * width
    one = jax.eval_shape(lambda: orders.init(jobs[0]))
    self._shapes = one
    self._states = jax.tree.map(
      # On its device from the first call on, which would else be compiled anew.
      lambda leaf: jnp.zeros(
        (width, *leaf.shape), leaf.dtype, device=home.device
      ),
      one,
    )
    self._calls: collections.deque[Call] = collections.deque()
    self._chunk, self._read, self._saved = 1, time.monotonic(), time.monotonic()

  def run(self) -> None:
    """Trains all heads, or until it is told to stop; saves what is left."""
    try:
      self._train()
    except BaseException:
      self._attempt_to_save()
      raise
    for slot in self._active():
      self._save(slot.record, self._take(slot))

  def _train(self) -> None:
    while not self._orders.stop.is_set():
      self._fill_lanes()
      if not any(self._slots):
        break
      self._calls.append(self._advance())
      if len(self._calls) > 1:
        self._collect(self._calls.popleft())
    while self._calls:
      self._collect(self._calls.popleft())

  def _attempt_to_save(self) -> None:
    """Saves the heads under way after an error, which must not be hidden."""
    while self._calls:
      self._attempt(self._collect, self._calls.popleft())
    for slot in self._active():
      # After an error a state can be ahead of its record.
      if slot.record.step == slot.step:
        self._attempt(lambda one: self._save(one.record, self._take(one)), slot)

  def _attempt(self, action: Callable[[Any], None], what: Any) -> None:
    try:
      action(what)
    except Exception as error:
      logging.warning(
        '%s: heads under way could not be saved (%s)',
        self._bank.device,
        first_line(error),
      )

  def _active(self) -> list[Slot]:
    return [slot for slot in self._slots if slot]

  def _take(self, slot: Slot) -> HeadState:
    return lanes.take(self._states, jnp.int32(slot.lane))

  def _fill_lanes(self) -> None:
    for lane, slot in enumerate(self._slots):
      while slot is None and not self._orders.stop.is_set():
        ready = [j for j in self._queue if self._store.can_open(j.category)]
        if not ready:
          break
        slot = self._slots[lane] = self._enter(lane, ready[0])

  def _enter(self, lane: int, job: Job) -> Slot | None:
    """Puts a head into a lane, with its features; None if there are none."""
    try:
      features = self._store.open(job.category)
      sigma = self._sigma(lane, job, features)
      record, state = self._resume(job)
    except Interrupted:
      return None
    except FAILURES as error:
      for failed in [j for j in self._queue if j.category == job.category]:
        self._queue.remove(failed)
        record = Record(failed)
        # The text alone: the error would keep the features alive.
        record.error = first_line(error)
        self._emit(record)
      self._close_if_done(job.category)
      return None
    self._queue.remove(job)
    self._states = lanes.put(self._states, jnp.int32(lane), state)
    scored = self._orders.test_images(job.category)
    every = self._orders.every(job) if scored else 0
    return Slot(
      lane,
      record,
      features,
      key=self._orders.key(job),
      sigma=sigma,
      period=every * job.steps_per_epoch or job.steps,
      step=record.step,
    )

  def _sigma(self, lane: int, job: Job, features: Features) -> float:
    """Returns the standard deviation of a head's noise."""
    if not self._orders.relative:
      return self._orders.sigma
    if features.spread is None:
      size = features.limit or job.images
      features.spread = bank.spread(
        self._bank,
        (
          features.rows(lane, np.arange(start, min(start + size, job.images)))
          for start in range(0, job.images, size)
        ),
      )
    return self._orders.sigma * features.spread

  def _resume(self, job: Job) -> tuple[Record, HeadState]:
    rank = self._orders.rank(job.category)
    checkpoints = self._orders.checkpoints
    saved = checkpoints.load(job, rank) if checkpoints else None
    if saved:
      record, leaves = saved
      try:
        return record, unflat(leaves, self._shapes)
      except ValueError as error:
        raise ValueError(
          f'the checkpoint of seed {job.seed} does not fit: {error}; give '
          'another --workdir'
        ) from None
    return Record(job, rank), self._orders.init(job)

  def _advance(self) -> Call:
    """Tells the device what to do next."""
    slots = self._active()
    limits = [
      slot.features.limit // slot.job.batch_size
      for slot in slots
      if slot.features.limit is not None
    ]
    count = min(
      self._chunk, *limits, *(slot.until_event for slot in slots), STEPS
    )
    # Can write to the bank.
    work = next_steps(self._orders, slots, len(self._slots), count)
    self._states, metrics = lanes.advance(
      self._orders.recipe,
      self._states,
      self._bank.levels,
      work,
      jnp.int32(count),
    )
    call = Call(count, metrics, slots, {}, {}, {})
    due = time.monotonic() - self._saved >= self._orders.checkpoint_seconds
    for slot in slots:
      slot.step += count
      if slot.step % slot.period == 0 or slot.step == slot.job.steps:
        call.scores[slot.lane] = self._score(slot)
      if slot.step == slot.job.steps:
        state = self._take(slot)
        call.finished[slot.lane] = state.weights_to_score
        self._leave(slot)
      elif due:
        call.states[slot.lane] = self._take(slot)
    if due:
      self._saved = time.monotonic()
    results = (metrics, call.scores, call.states, call.finished)
    for leaf in jax.tree.leaves(results):
      if isinstance(leaf, jax.Array):
        leaf.copy_to_host_async()
    return call

  def _score(self, slot: Slot) -> Scores:
    """Scores the test images, a few at a time where they are streamed."""
    train, test = slot.job.images, self._orders.test_images(slot.job.category)
    size = min(lanes.SCORED, slot.features.limit or lanes.SCORED)
    scores = []
    for start in range(0, test, size):
      images = np.arange(train + start, train + min(start + size, test))
      rows = slot.features.rows(slot.lane, images)
      found = lanes.score(
        self._orders.recipe,
        self._states,
        jnp.int32(slot.lane),
        self._bank.levels,
        jnp.asarray(np.pad(rows, (0, lanes.SCORED - len(rows)))),
        jnp.int32(len(rows)),
      )
      scores.append((len(rows), found))
    return scores

  def _leave(self, slot: Slot) -> None:
    """Frees a lane, and the rows of a category of which nothing is left."""
    self._slots[slot.lane] = None
    self._close_if_done(slot.job.category)

  def _close_if_done(self, category: str) -> None:
    left = [slot.job for slot in self._active()] + self._queue
    if all(job.category != category for job in left):
      self._store.close(category)

  def _collect(self, call: Call) -> None:
    """Reads what has come of a call, a few moments later."""
    values = np.stack([np.asarray(getattr(call.metrics, n)) for n in METRICS])
    now = time.monotonic()
    per_step, self._read = (now - self._read) / call.count, now
    # Not more than double: the first call compiles.
    fitting = min(int(_SECONDS / per_step), 2 * self._chunk)
    self._chunk = max(1, fitting)
    going_on = [slot for slot in call.slots if not slot.record.error]
    # All heads' courses first: an error while one is saved leaves the others
    # whole, and they can be saved.
    for slot in going_on:
      self._add(call, slot, values[:, slot.lane, : call.count])
    for slot in going_on:
      if not slot.record.error:
        self._note(call, slot)

  def _add(self, call: Call, slot: Slot, values: np.ndarray) -> None:
    """Adds to a head's course; gives it up where that is not finite."""
    record = slot.record
    try:
      record.add_metrics(values)
      if scores := call.scores.get(slot.lane):
        found = np.concatenate([np.asarray(part)[:n] for n, part in scores])
        record.add_scores(record.step // slot.job.steps_per_epoch, found)
    except ValueError as error:
      record.error = str(error)
      if self._slots[slot.lane] is slot:
        self._leave(slot)
      self._emit(record)

  def _note(self, call: Call, slot: Slot) -> None:
    record = slot.record
    if slot.lane in call.states:
      self._save(record, call.states[slot.lane])
    self._orders.on_steps(record)
    if slot.lane in call.finished:
      record.head = flat(call.finished[slot.lane])
      self._save(record)
      self._emit(record)

  def _save(self, record: Record, state: HeadState | None = None) -> None:
    if self._orders.checkpoints and record.step:
      self._orders.checkpoints.save(record, flat(state) if state else None)
