"""Which head trains where and when; no device is touched here.

A head is one category with one seed. Its cost is its number of steps: steps of
different categories take the same time, as batches have the same shape.
"""

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np

# A head's work may come this much later than in the best plan known, if seeds
# of a category then stay together and its features are extracted once.
_TOLERANCE = 1.03
_WASTE = 0.05  # The most that lanes may idle, as a share of their steps.


@dataclasses.dataclass(frozen=True)
class Job:
  """One head to train.

  Attributes:
    category: Its name.
    seed: From 0 to 2**32 - 1.
    images: Number of training images.
    batch_size: Images per step.
    epochs: Passes over the images.
    variant: Of a sweep, whose settings it has; empty in a run of its own. A
      head draws the same whatever the variant.
  """

  category: str
  seed: int
  images: int
  batch_size: int
  epochs: int
  variant: str = ''

  @property
  def steps_per_epoch(self) -> int:
    """Steps of an epoch; the last one may be short of images."""
    return -(-self.images // self.batch_size)

  @property
  def steps(self) -> int:
    """Steps of the whole schedule."""
    return self.steps_per_epoch * self.epochs

  @property
  def label(self) -> str:
    """What people know its category by."""
    return f'{self.variant}, {self.category}' if self.variant else self.category

  @property
  def entropy(self) -> tuple[int, int]:
    """What all draws of this head derive from: its seed and its category."""
    return self.seed, zlib.crc32(self.category.encode())


def batches(job: Job, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the images of some steps.

  Every epoch goes through all images in an order of its own, that depends on
  the head and the epoch alone: a schedule can be cut anywhere.

  Args:
    job: The head.
    first: Number of the first step, from 0.
    count: Number of steps.

  Returns:
    Image indices, int32 `[count, batch_size]`, and 1 where they count or 0
    where they pad an epoch's last batch, float32 of that shape.
  """
  per_epoch = job.steps_per_epoch
  padding = per_epoch * job.batch_size - job.images
  valid = np.pad(np.ones(job.images, np.float32), (0, padding))
  first_epoch, last_epoch = first // per_epoch, (first + count - 1) // per_epoch
  orders = [
    np.pad(shuffled(job, epoch), (0, padding))
    for epoch in range(first_epoch, last_epoch + 1)
  ]
  start = first - first_epoch * per_epoch
  cut = slice(start, start + count)
  shape = (-1, job.batch_size)
  return (
    np.concatenate(orders).reshape(shape)[cut],
    np.tile(valid, len(orders)).reshape(shape)[cut],
  )


def rates(
  job: Job, first: int, count: int, *, schedule: str, warmup: float
) -> np.ndarray:
  """Returns the factors of the learning rates of some steps.

  Args:
    job: The head.
    first: Number of the first step, from 0.
    count: Number of steps.
    schedule: `constant`, or `cosine`: to zero after the last step (Loshchilov
      and Hutter, "SGDR", 2017, equation 5, without restarts).
    warmup: Share of the steps in which they rise from near zero, linearly.

  Returns:
    float32 `[count]`, in (0, 1].
  """
  number = np.arange(first, first + count, dtype=np.float64)
  rising = warmup * job.steps
  factors = np.minimum(1.0, (number + 1) / max(rising, 1.0))
  if schedule == 'cosine':
    passed = np.maximum(0.0, number - rising) / (job.steps - rising)
    factors *= (1 + np.cos(np.pi * passed)) / 2
  return factors.astype(np.float32)


def shuffled(job: Job, epoch: int) -> np.ndarray:
  """Returns the order of an epoch's images, int32 `[images]`."""
  bits = np.random.Philox(np.random.SeedSequence((*job.entropy, epoch)))
  # Raw bits are the same in every release of NumPy; permutations need not be.
  order = np.argsort(bits.random_raw(job.images), kind='stable')
  return order.astype(np.int32)


def partition(costs: Sequence[int], bins: int) -> list[list[int]]:
  """Distributes costs over bins so that the fullest holds little.

  The better of two classic rules: longest first onto the least full bin, and
  the smallest capacity that first-fit in decreasing order can do with
  (Graham 1969; Coffman, Garey and Johnson 1978).

  Args:
    costs: At least 0 each.
    bins: How many, at least 1.

  Returns:
    The indices of the costs in each bin, descending by cost.
  """
  order = sorted(range(len(costs)), key=lambda i: -costs[i])
  best = _longest_first(costs, order, bins)
  low, high = max(max(costs), -(-sum(costs) // bins)), _fullest(costs, best)
  while low < high:
    capacity = (low + high) // 2
    fitted = _first_fit(costs, order, bins, capacity)
    if fitted:
      best, high = fitted, capacity
    else:
      low = capacity + 1
  return best


def _fullest(costs, parts) -> int:
  return max(sum(costs[i] for i in part) for part in parts)


def _longest_first(costs, order, bins) -> list[list[int]]:
  parts, loads = [[] for _ in range(bins)], [0] * bins
  for i in order:
    least = loads.index(min(loads))
    parts[least].append(i)
    loads[least] += costs[i]
  return parts


def _first_fit(costs, order, bins, capacity) -> list[list[int]] | None:
  parts, loads = [[] for _ in range(bins)], [0] * bins
  for i in order:
    fits = [b for b in range(bins) if loads[b] + costs[i] <= capacity]
    if not fits:
      return None
    parts[fits[0]].append(i)
    loads[fits[0]] += costs[i]
  return parts


def assign(jobs: Sequence[Job], devices: int) -> list[list[Job]]:
  """Distributes heads over devices.

  Seeds of a category share its features, so they are kept together as far as
  the balance allows: as whole categories, or as few blocks of seeds.

  Args:
    jobs: All heads.
    devices: How many, at least 1.

  Returns:
    The heads of each device, longest first, a category's seeds in a row.
  """
  by_category: dict[str, list[Job]] = {}
  for job in jobs:
    by_category.setdefault(job.category, []).append(job)
  plans = []
  for size in range(max(map(len, by_category.values())), 0, -1):
    blocks = [
      group[start : start + size]
      for group in by_category.values()
      for start in range(0, len(group), size)
    ]
    costs = [sum(job.steps for job in block) for block in blocks]
    parts = partition(costs, devices)
    plans.append(
      (_fullest(costs, parts), [[blocks[i] for i in p] for p in parts])
    )
  fewest = min(fullest for fullest, _ in plans)
  chosen = next(plan for cost, plan in plans if cost <= _TOLERANCE * fewest)
  return [_queue([job for block in part for job in block]) for part in chosen]


def _queue(jobs: Sequence[Job]) -> list[Job]:
  # Variants stay in the order in which they came.
  return sorted(jobs, key=lambda job: (-job.steps, job.category, job.seed))


def turns(jobs: Sequence[Job]) -> list[list[Job]]:
  """Divides a device's heads into those that train with the same settings.

  Args:
    jobs: In the order in which they start.

  Returns:
    All of them in one turn, where there is one variant; else a turn for each
    category and variant, a category's in a row: its features are made once.
  """
  if len({job.variant for job in jobs}) < 2:
    return [list(jobs)] if jobs else []
  groups: dict[str, dict[str, list[Job]]] = {}
  for job in jobs:
    of_category = groups.setdefault(job.category, {})
    of_category.setdefault(job.variant, []).append(job)
  return [turn for group in groups.values() for turn in group.values()]


def makespan(jobs: Sequence[Job], lanes: int) -> int:
  """Returns the steps until all heads are done.

  Args:
    jobs: Of one device, in the order in which they start.
    lanes: Heads that train side by side; a lane that is done takes the next.
  """
  ends = [0] * lanes
  for job in jobs:
    first = ends.index(min(ends))
    ends[first] += job.steps
  return max(ends)


def waste(jobs: Sequence[Job], lanes: int) -> float:
  """Returns the share of head-steps, in [0, 1), in which a lane has no head."""
  if not jobs:
    return 0.0
  return 1 - sum(job.steps for job in jobs) / (lanes * makespan(jobs, lanes))


def widest(jobs: Sequence[Job], most: int) -> int:
  """Returns the most lanes, up to `most`, that idle 5 % of the time or less."""
  fitting = (
    lanes
    for lanes in range(min(most, len(jobs)), 1, -1)
    if waste(jobs, lanes) <= _WASTE
  )
  return next(fitting, 1)
