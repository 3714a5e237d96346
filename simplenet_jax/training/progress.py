"""Heads in training: their losses and scores, and how people follow them."""

import collections
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from simplenet_jax.console import Board
from simplenet_jax.training.job import Job
from simplenet_jax.training.step import METRICS, HeadState, Tree

_LEARNED_LOSS = 0.95  # Of guessing's; what lies below has learned something.
_LEARNED_SHARE = 0.05  # Of patches beyond their margin, of one kind at least.

Rank = Callable[[np.ndarray], float]  # How good an epoch's patch scores are.


class HeadProgress:
  """What is known so far of a head in training."""

  def __init__(self, job: Job, rank: Rank | None = None):
    """Starts empty; without a rank, only the latest scores are kept."""
    self.job = job
    self.step = 0  # Steps known so far.
    # Each step's, in the order of `METRICS`; zero from `step` on.
    self.metrics = np.zeros((len(METRICS), job.steps), np.float32)
    # Patch scores of the test images, float32 [images, H, W], by epoch: of the
    # latest evaluation, and of those that rank highest.
    self.scores: dict[int, np.ndarray] = {}
    self.error: str | None = None  # Why it was given up, if it was.
    # Weights and statistics at the end, by name; None before.
    self.head: dict[str, np.ndarray] | None = None
    self._rank = rank
    self._ranks: dict[int, float] = {}

  @property
  def finished(self) -> bool:
    """Whether the whole schedule was trained, and nothing went wrong."""
    return self.step == self.job.steps and not self.error

  def add_metrics(self, values: np.ndarray) -> None:
    """Appends the metrics `[3, steps]`; raises where a loss is not finite."""
    wrong = np.flatnonzero(~np.isfinite(values[0]))
    if len(wrong):
      at = self.step + int(wrong[0])
      epoch, within = divmod(at, self.job.steps_per_epoch)
      raise ValueError(
        f'the loss of seed {self.job.seed} is {values[0, wrong[0]]} at step '
        f'{within + 1} of epoch {epoch + 1}; lower the learning rates'
      )
    end = self.step + values.shape[1]
    self.metrics[:, self.step : end] = values
    self.step = end

  def add_scores(self, epoch: int, scores: np.ndarray) -> None:
    """Takes the scores `[images, H, W]` after an epoch, counted from 1.

    Those of earlier epochs that cannot be the best are dropped.
    """
    if not np.isfinite(scores).all():
      raise ValueError(
        f'scores of seed {self.job.seed} are not finite after epoch {epoch}; '
        'lower the learning rates, or use --config.bank.dtype=float32'
      )
    self.scores[epoch] = scores
    self._ranks[epoch] = self._rank(scores) if self._rank else np.nan
    best = max((r for r in self._ranks.values() if r == r), default=np.nan)
    for known in list(self.scores):
      if known != epoch and self._ranks[known] != best:
        del self.scores[known], self._ranks[known]

  def epochs(self) -> dict[str, np.ndarray]:
    """Returns the means of every whole epoch so far, float32 `[epochs]`."""
    per_epoch = self.job.steps_per_epoch
    whole = self.step // per_epoch
    known = self.metrics[:, : whole * per_epoch].reshape(3, whole, per_epoch)
    return dict(zip(METRICS, known.mean(-1), strict=True))


def unlearned(progress: HeadProgress, loss: str, margin: float) -> str:
  """Returns a warning if a head's last epoch shows that it learned nothing."""
  means = progress.epochs().values()
  value, normal, counterfeit = (float(one[-1]) for one in means)
  # The loss of a head that tells nothing apart.
  guessing = 2 * (math.log(2) if loss == 'cross_entropy' else margin)
  # Without a margin there is no value of guessing.
  better = value < _LEARNED_LOSS * guessing or not guessing
  if better and max(normal, counterfeit) >= _LEARNED_SHARE:
    return ''
  return (
    f'{progress.job.category}: the head of seed {progress.job.seed} has not '
    f'learned to tell good patches from noisy ones: its loss is {value:.3g}, '
    f'that of guessing {guessing:.3g}, and {normal:.0%} and {counterfeit:.0%} '
    'of them lie beyond their margins; train longer (--config.train.epochs, '
    '.min_steps)'
  )


def _named(tree: Tree) -> tuple[dict[str, Tree], Any]:
  paths, structure = jax.tree_util.tree_flatten_with_path(tree)
  keystr = jax.tree_util.keystr
  return {keystr(p, simple=True, separator='.'): x for p, x in paths}, structure


def flat(tree: HeadState | dict) -> dict[str, np.ndarray]:
  """Returns a tree's leaves on the host, by their path."""
  return {name: np.asarray(leaf) for name, leaf in _named(tree)[0].items()}


def unflat(leaves: dict[str, np.ndarray], like: Tree) -> Tree:
  """Puts leaves of `flat` back into a tree of the structure of `like`."""
  expected, structure = _named(like)
  for name, leaf in expected.items():
    shape = leaves[name].shape if name in leaves else None
    if shape != leaf.shape:
      raise ValueError(
        f'a checkpoint does not fit: {name} is {shape}, expected {leaf.shape}; '
        'give another --workdir'
      )
  return jax.tree.unflatten(structure, [leaves[name] for name in expected])


class Watch:
  """Shows all devices' heads as they train."""

  def __init__(self, board: Board, steps: Mapping[Job, int]):
    """Follows heads that go on from these steps."""
    self._board = board
    self._lock = threading.Lock()
    self._steps, self._total = dict(steps), sum(job.steps for job in steps)
    self._seeds = collections.Counter(job.category for job in steps)
    # Heads by category and seed.
    self._seen = collections.defaultdict[str, dict[int, HeadProgress]](dict)
    for name in [*self._seeds][:1]:  # Where the first device begins.
      board.show(name, 0, 1, 'compiles, then reads images')

  def on_batch(self, name: str, done: int, total: int) -> None:
    """Shows how many images of a category are through the backbone."""
    label = f'{name}, features'
    self._board.show(label, done, total, f'{done} of {total} images')
    if done == total:
      self._board.end(label, f'{total} images')
      if name in self._seeds:
        self._board.show(name, 0, 1, 'prepares the training')

  def on_steps(self, progress: HeadProgress) -> None:
    """Shows a category's progress."""
    job, name = progress.job, progress.job.category
    with self._lock:
      self._seen[name][job.seed] = progress
      heads, seeds = list(self._seen[name].values()), self._seeds[name]
      done = sum(head.step for head in heads)
      self._board.show(name, done, job.steps * seeds, _note(heads, seeds))
      self._steps[job] = progress.step
      if len(self._steps) > 1:
        done, total = sum(self._steps.values()), self._total
        note = f'{done:,} of {total:,} steps'
        self._board.show('all heads', done, total, note)

  def end(self, name: str) -> None:
    """Replaces the lines of a category by what came of it, if anything."""
    seen = self._seen.pop(name, {}).values()
    heads = [head for head in seen if head.finished]
    self._board.end(f'{name}, features')
    self._board.end(name, _note(heads, len(heads)) if heads else '')


def _note(heads: Sequence[HeadProgress], seeds: int) -> str:
  """Describes the heads' latest epochs (or steps, where no epoch is whole)."""
  job = heads[0].job
  lately = [
    head.metrics[1:, max(0, head.step - job.steps_per_epoch) : head.step]
    for head in heads
  ]
  told_apart = np.mean([part.mean(1) for part in lately])
  done = sum(head.step for head in heads) / job.steps_per_epoch
  several = f'{seeds} x ' if seeds > 1 else ''  # Of all heads together.
  return (
    f'tells {told_apart:.1%} of good patches and counterfeit defects apart, '
    f'epoch {done:.0f} of {several}{job.epochs}'
  )
