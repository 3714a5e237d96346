"""What `benchmarks.capacity` computes, from costs that were measured.

The model is what the engine does. Categories are divided by the project's own
plan. A device takes its categories one after the other: the backbone's pass,
then the heads, then the finished heads are written. While they train, the files
of the next category are read and decoded; where that takes longer, the device
waits. Beside all this, on one processor, finished categories are evaluated
twice (the last epoch, and the best on test), and their detectors are written.
"""

import dataclasses
from typing import Any

import numpy as np

from simplenet_jax.training.job import Job, assign

_BATCH, _EVERY, _SIDE = 8, 4, 288  # Of the released code's settings.
_HIDDEN, _DIM = 1024, 1536
_BACKBONE = 24_862_528  # Parameters of WideResNet50-2 up to level 3.


@dataclasses.dataclass(frozen=True)
class Work:
  """What is to be done, and with what.

  Attributes:
    categories: How many.
    images: Good images of each.
    test: Test images of each.
    seeds: Heads of each.
    epochs: Of a head.
    cores: Processors per device.
    read: Bytes per second of storage that a device gets at most.
    together: Bytes per second that storage gives to all.
  """

  categories: int
  images: int
  test: int
  seeds: int
  epochs: int
  cores: int
  read: float
  together: float


@dataclasses.dataclass(frozen=True)
class Costs:
  """What was measured, in seconds and bytes.

  Attributes:
    step: Of one head, everything included.
    score: Steps that take as long as scoring one test image.
    backbone: Of one image.
    decode: Of one file on one processor.
    evaluate: Of a head's anomaly maps on one processor.
    file: Bytes of an image's file.
    head: Bytes of a finished head.
    under_way: Bytes of one that is not.
    row: Bytes of an image's features.
    write: Of a finished head.
    ship: Of a detector.
    start: Of a process's compilation, with a first epoch.
    header: Of a file's name and size, which every process reads of all.
  """

  step: float
  score: float
  backbone: float
  decode: float
  evaluate: float
  file: float
  head: float
  under_way: float
  row: float
  write: float
  ship: float
  start: float
  header: float


def spent(work: Work, costs: Costs, devices: int) -> dict[str, Any]:
  """Returns how long it takes on some devices, and what for.

  Args:
    work: What is to be done.
    costs: What it costs.
    devices: How many, each with a process of its own.

  Returns:
    `hours`, the `bottleneck`, the busiest device's `hours_of` each part, and
    the plan's `efficiency`.
  """
  jobs = [
    Job(f'{number}', seed, work.images, _BATCH, work.epochs)
    for number in range(work.categories)
    for seed in range(work.seeds)
  ]
  parts = assign(jobs, devices)
  loads = [sum(job.steps for job in part) for part in parts]
  busiest = parts[int(np.argmax(loads))]
  names = len({job.category for job in busiest})
  seen, heads = names * (work.images + work.test), len(busiest)
  bandwidth = min(work.read, work.together / devices)
  scored = -(-work.epochs // _EVERY) * work.test * costs.score
  read = seen * costs.file / bandwidth
  saved = heads * max(costs.write, costs.head / bandwidth)
  shipped = names * max(costs.ship, detector_bytes(work) / bandwidth)
  of = {
    'decode': seen * costs.decode / work.cores,
    'storage': read + saved + shipped,
    'backbone': seen * costs.backbone,
    'heads': sum(job.steps + scored for job in busiest) * costs.step,
    'evaluation': 2 * heads * costs.evaluate,
    'start': costs.start
    + work.categories * (work.images + work.test) * costs.header,
  }
  # Read and decoded ahead, except for the first.
  ahead = max(of['decode'], read)
  device = of['backbone'] + max(of['heads'], ahead) + saved + ahead / names
  beside = of['evaluation'] + shipped
  seconds = of['start'] + max(device, beside) + beside / names
  return {
    'devices': devices,
    'hours': seconds / 3600,
    'bottleneck': max(of, key=lambda part: of[part]),
    'hours_of': {part: value / 3600 for part, value in of.items()},
    'efficiency': float(np.mean(loads) / max(loads)),
  }


def detector_bytes(work: Work) -> int:
  """Returns a detector's bytes: a backbone, and folded heads."""
  return 4 * (_BACKBONE + work.seeds * (_DIM + 2) * _HIDDEN)


def taken(work: Work, costs: Costs) -> dict[str, float]:
  """Returns the gigabytes that it takes, per device and of storage."""
  images = work.images + work.test
  return {
    'features on a device': images * costs.row / 1e9,
    'decoded ahead in a host, per device': images * _SIDE**2 * 3 / 1e9,
    'image files': work.categories * images * costs.file / 1e9,
    'finished heads': work.categories * work.seeds * costs.head / 1e9,
    'a head under way, twice': 2 * costs.under_way / 1e9,
    'detectors': work.categories * detector_bytes(work) / 1e9,
  }
