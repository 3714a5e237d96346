"""One head's schedule, and how heads are shared out; no device is touched here.

A head is one category with one seed. Its cost is its number of steps: steps of
different categories take the same time, as batches have the same shape.
"""

import collections
import dataclasses
import heapq
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from simplenet_jax.config import Config

# Of the counterfeits of a step, where defects are pasted.
PASTED = 0.25
# A head's work may come this much later than in the best plan known, if seeds
# of a category then stay together and its features are extracted once.
_TOLERANCE = 1.03
# Operations of matrix products that an H200 does while a step is launched, and
# in 3 ms: of longer steps launches are no part, and lanes fill the memory.
_LAUNCH, _LONG_STEP = 2e10, 4e11


@dataclasses.dataclass(frozen=True)
class Job:
  """One head to train."""

  category: str
  seed: int  # From 0 to 2**32 - 1.
  images: int  # To train on.
  batch_size: int  # Images per step.
  epochs: int
  # Which part of how many the head does not see, for thresholds; none of one.
  fold: tuple[int, int] = (0, 1)

  @property
  def seen(self) -> int:
    """How many of the images it trains on in an epoch, as many as others."""
    parts = self.fold[1]
    return self.images - (-(-self.images // parts) if parts > 1 else 0)

  @property
  def steps_per_epoch(self) -> int:
    """Steps of an epoch; the last one may be short of images."""
    return -(-self.seen // self.batch_size)

  @property
  def steps(self) -> int:
    """Steps of the whole schedule."""
    return self.steps_per_epoch * self.epochs


def scoring_period(config: Config, job: Job) -> int:
  """Returns the steps between evaluations, as often as in the usual epochs."""
  every = config.evaluation.every * job.epochs
  return every // config.train.epochs * job.steps_per_epoch or job.steps


def batches(job: Job, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the images of `count` steps from step `first`, which is from 0, on.

  An epoch's order depends on the head and the epoch alone: a schedule can be
  cut anywhere. The indices are int32 `[count, batch_size]`; beside them stands
  1 where they count or 0 where they pad an epoch's last batch, float32.
  """
  per_epoch = job.steps_per_epoch
  padding = (0, per_epoch * job.batch_size - job.seen)
  epochs = range(first // per_epoch, (first + count - 1) // per_epoch + 1)
  orders = [np.pad(shuffled(job, one), padding) for one in epochs]
  valid = np.tile(np.pad(np.ones(job.seen, np.float32), padding), len(epochs))
  cut = slice(first % per_epoch, first % per_epoch + count)
  shape = (-1, job.batch_size)
  return np.concatenate(orders).reshape(shape)[cut], valid.reshape(shape)[cut]


def shuffled(job: Job, epoch: int) -> np.ndarray:
  """Returns the order of an epoch's images, int32 `[seen]`."""
  parts = parts_of(job.category, job.images, job.fold[1])
  kept = np.flatnonzero((parts != job.fold[0]) | (job.fold[1] == 1))
  order = _order(len(kept), job.seed, zlib.crc32(job.category.encode()), epoch)
  # Where the part is smaller than others, an epoch lacks another image.
  return kept[order[: job.seen]].astype(np.int32)


def parts_of(category: str, images: int, parts: int) -> np.ndarray:
  """Returns which part each of a category's images is in, int `[images]`."""
  return np.argsort(_order(images, zlib.crc32(category.encode()))) % parts


def _order(count: int, *entropy: int) -> np.ndarray:
  bits = np.random.Philox(np.random.SeedSequence(entropy))
  # Raw bits are the same in every release of NumPy; permutations need not be.
  return np.argsort(bits.random_raw(count), kind='stable')


def rates(config: Config, job: Job, first: int, count: int) -> np.ndarray:
  """Returns factors of the learning rates, float32 `[count]` in (0, 1].

  In a share `warmup` of the steps they rise linearly from near zero. Then they
  are `constant`, or fall as a `cosine` to zero after the last step (Loshchilov
  and Hutter, "SGDR", 2017, equation 5, without restarts).
  """
  train = config.train
  number = np.arange(first, first + count, dtype=np.float64)
  rising = train.warmup * job.steps
  factors = np.minimum(1.0, (number + 1) / max(rising, 1.0))
  if train.schedule == 'cosine':
    passed = np.maximum(0.0, number - rising) / (job.steps - rising)
    factors *= (1 + np.cos(np.pi * passed)) / 2
  return factors.astype(np.float32)


def assign(jobs: Sequence[Job], bins: int) -> list[list[Job]]:
  """Distributes heads over processes or devices, longest first.

  Seeds of a category share its features, so they are kept together as far as
  the balance allows: as whole categories, or as few blocks of seeds.
  """
  groups = collections.defaultdict(list)
  for job in jobs:
    groups[job.category].append(job)
  plans = []
  for size in range(max(map(len, groups.values()), default=1), 0, -1):
    blocks = [
      group[start : start + size]
      for group in groups.values()
      for start in range(0, len(group), size)
    ]
    parts: list[list[Job]] = [[] for _ in range(bins)]
    for block in sorted(blocks, key=_steps, reverse=True):
      min(parts, key=_steps).extend(block)
    plans.append((max(map(_steps, parts)), parts))
  fewest = min(fullest for fullest, _ in plans)
  chosen = next(parts for most, parts in plans if most <= _TOLERANCE * fewest)
  return [
    sorted(part, key=lambda job: (-job.steps, job.category, job.seed))
    for part in chosen
  ]


def _steps(jobs: Sequence[Job]) -> int:
  return sum(job.steps for job in jobs)


def quickest(parts: Sequence[Sequence[Job]], most: int, step: float) -> int:
  """Returns how many heads side by side, up to `most`, let all devices end.

  `parts` are the devices' heads, `step` the operations of one head's step.
  Accelerators wait for their host while a step is launched, once for all lanes,
  but a lane without a head takes as long as the others.
  """

  def ends(part: Sequence[Job], lanes: int) -> float:
    free = [0] * lanes
    for job in part:
      heapq.heapreplace(free, free[0] + job.steps)
    return max(free) * (_LAUNCH + lanes * step)

  several = range(1, max(1, min(most, int(_LONG_STEP // step))) + 1)
  return min(several, key=lambda n: max(ends(part, n) for part in parts))


def step_operations(config: Config, shapes: Sequence[Any]) -> float:
  """Returns the operations of one head's step, within a few percent."""
  patches = config.train.patches
  positions = [patches or one.shape[0] * one.shape[1] for one in shapes]
  channels = sum(one.shape[2] for one in shapes)
  dim = config.patch.target_dim or channels
  rows = positions[0] + sum(
    count * one.shape[2] / channels
    for count, one in zip(positions, shapes, strict=True)
  )
  rows += PASTED * patches if config.train.pasted else 0
  hidden = config.head.hidden
  # The discriminator multiplies the patches of every level and the noise by its
  # first matrix, forwards and for that matrix's gradient; the adaptor is
  # multiplied into it once, with the gradients of both.
  adaptor = 6 * dim**2 * hidden if config.head.adaptor != 'identity' else 0
  return 4 * config.train.batch_size * rows * dim * hidden + adaptor
