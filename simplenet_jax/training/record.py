"""What a head leaves on the host as it trains."""

import math
from collections.abc import Callable

import jax
import numpy as np

from simplenet_jax.training import step
from simplenet_jax.training.job import Job
from simplenet_jax.training.step import HeadState

METRICS = ('loss', 'p_normal', 'p_counterfeit')

Rank = Callable[[np.ndarray], float]


class Record:
  """One head's course.

  Attributes:
    job: The head.
    step: Steps known so far.
    resumed: Of these, how many were read from a checkpoint.
    metrics: Of every step, in the order of `METRICS`, float32 `[3, steps]`;
      zero from `step` on.
    scores: Patch scores of the test images, float32 `[images, H, W]`, by epoch:
      of the latest evaluation, and of those that rank highest.
    error: Why it was given up, if it was.
    head: Weights and statistics at the end, by name; None before.
  """

  def __init__(self, job: Job, rank: Rank | None = None):
    """Starts empty.

    Args:
      job: The head.
      rank: Tells an epoch's patch scores from another's, the higher the better;
        None where nothing is to be selected.
    """
    self.job, self.step, self.resumed = job, 0, 0
    self.metrics = np.zeros((len(METRICS), job.steps), np.float32)
    self.scores: dict[int, np.ndarray] = {}
    self.error: str | None = None
    self.head: dict[str, np.ndarray] | None = None
    self._rank = rank
    self._ranks: dict[int, float] = {}

  @property
  def finished(self) -> bool:
    """Whether the whole schedule was trained, and nothing went wrong."""
    return self.step == self.job.steps and not self.error

  def add_metrics(self, values: np.ndarray) -> None:
    """Appends the metrics of the next steps, `[3, steps]`.

    Raises:
      ValueError: If a loss is not finite; names its step.
    """
    wrong = np.flatnonzero(~np.isfinite(values[0]))
    if len(wrong):
      at = self.step + wrong[0]
      epoch, within = divmod(int(at), self.job.steps_per_epoch)
      raise ValueError(
        f'the loss of seed {self.job.seed} is {values[0, wrong[0]]} at step '
        f'{within + 1} of epoch {epoch + 1}; lower the learning rates'
      )
    end = self.step + values.shape[1]
    self.metrics[:, self.step : end] = values
    self.step = end

  def add_scores(self, epoch: int, scores: np.ndarray) -> None:
    """Takes the scores of an evaluation; drops those that cannot be the best.

    Args:
      epoch: After which it was made, counted from 1; later than all before.
      scores: `[images, H, W]`.

    Raises:
      ValueError: If one is not finite.
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


# The loss of a head that tells nothing apart, by the margin.
_GUESSING: dict[str, Callable[[float], float]] = {
  'cross_entropy': lambda margin: 2 * math.log(2),
  'truncated_l1': lambda margin: 2 * margin,
}
_LEARNED_LOSS = 0.95  # Of guessing's; what lies below has learned something.
_LEARNED_SHARE = 0.05  # Of patches beyond their margin, of one kind at least.


def unlearned(record: Record, loss: str, margin: float) -> str:
  """Says that a head has not learned, where its last epoch shows it.

  Args:
    record: The head's, of an epoch at least.
    loss: A key of `losses.LOSSES`.
    margin: Of the loss, in logits.

  Returns:
    A warning; empty for a head that has learned.
  """
  value, normal, counterfeit = (
    float(means[-1]) for means in record.epochs().values()
  )
  guessing = _GUESSING[loss](margin)
  shares = max(normal, counterfeit)
  # Without a margin there is no value of guessing.
  better = value < _LEARNED_LOSS * guessing or not guessing
  if better and shares >= _LEARNED_SHARE:
    return ''
  return (
    f'{record.job.label}: the head of seed {record.job.seed} has not learned '
    f'to tell good patches from noisy ones: its loss is {value:.3g}, that of '
    f'guessing {guessing:.3g}, and {normal:.0%} and {counterfeit:.0%} of them '
    'lie beyond their margins; train longer (--config.train.epochs)'
  )


def flat(tree: HeadState | dict) -> dict[str, np.ndarray]:
  """Returns a tree's leaves on the host, by their path."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='.'): np.asarray(leaf)
    for path, leaf in leaves
  }


def unflat(leaves: dict[str, np.ndarray], like: step.Tree) -> step.Tree:
  """Puts leaves back into a tree.

  Args:
    leaves: By path, as from `flat`.
    like: A tree of the structure, with shapes.

  Raises:
    ValueError: If a leaf is missing or has another shape.
  """
  paths, structure = jax.tree_util.tree_flatten_with_path(like)
  found = []
  for path, leaf in paths:
    name = jax.tree_util.keystr(path, simple=True, separator='.')
    value = leaves.get(name)
    if value is None or value.shape != leaf.shape:
      shape = None if value is None else value.shape
      raise ValueError(f'{name} is {shape}, expected {leaf.shape}')
    found.append(value)
  return jax.tree.unflatten(structure, found)
