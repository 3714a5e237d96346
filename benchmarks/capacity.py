"""How long many categories take on many devices, by what was measured.

  python -m benchmarks.capacity
  python -m benchmarks.capacity --categories=300 --images=60 --cores=8

The times of a step and of the backbone are read from results that were measured
on a GPU. Decoding and the ways of a finished head and of a detector to disk are
measured here, on one processor each. What nobody has measured is a flag, and is
listed as assumed.

The model is in `capacity_model`. Writes benchmarks/results/capacity.json and
docs/capacity.md.
"""

import dataclasses
import io
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from PIL import Image
from safetensors.numpy import save_file

from benchmarks import capacity_page, mvtec_sizes, timing
from benchmarks.capacity_model import (
  Costs,
  Work,
  detector_bytes,
  spent,
  taken,
)
from simplenet_jax import cli
from simplenet_jax.config import from_protocol
from simplenet_jax.data import dataset
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.job import Job
from simplenet_jax.training.record import Record

_CATEGORIES = flags.DEFINE_integer('categories', 1000, 'How many.', 1)
_IMAGES = flags.DEFINE_integer('images', 250, 'Good ones of a category.', 1)
_TEST = flags.DEFINE_integer('test', 100, 'Test images of a category.', 0)
_SEEDS = flags.DEFINE_integer('seeds', 1, 'Heads of a category.', 1)
_EPOCHS = flags.DEFINE_integer('epochs', 160, 'Of a head.', 1)
_DEVICES = flags.DEFINE_list('devices', ['1', '8', '64', '256'], 'How many.')
_CORES = flags.DEFINE_integer('cores', 16, 'Processors per device.', 1)
_READ = flags.DEFINE_float('read', 1.0, 'GB/s of storage per device.', 1e-3)
_TOGETHER = flags.DEFINE_float(
  'together', 10.0, 'GB/s of storage in all.', 1e-3
)

_SIDE, _BATCH = 288, 8  # Of the released code's settings.
_FINE, _COARSE, _CHANNELS, _HIDDEN, _DIM = 36**2, 18**2, 768, 1024, 1536


def measured(name: str) -> Mapping[str, Any]:
  """Returns a result that another benchmark has written."""
  return json.loads((timing.RESULTS / f'{name}.json').read_text())


def median(function: Callable[[], object], rounds: int) -> float:
  """Returns the seconds of a call, the first one left out."""
  return timing.in_turns({'it': function}, rounds)['it']


def decoding(rounds: int = 15) -> dict[str, dict[str, float]]:
  """Measures files of 1024 x 1024 on one processor."""
  rng = np.random.default_rng(0)
  small = rng.integers(0, 256, (64, 64, 3), np.uint8)
  png = mvtec_sizes.encode(small)
  jpeg = io.BytesIO()
  Image.open(io.BytesIO(png)).save(jpeg, 'jpeg', quality=95)
  return {
    kind: {
      'seconds': median(lambda f=file: mvtec_sizes.decode(f, _SIDE), rounds),
      'bytes': len(file),
      'header': headers(file),
    }
    for kind, file in (('PNG', png), ('JPEG', jpeg.getvalue()))
  }


def headers(file: bytes, count: int = 400, rounds: int = 5) -> float:
  """Measures what reading the name and size of a file takes."""
  with tempfile.TemporaryDirectory() as root:
    folder = pathlib.Path(root, 'part/train/good')
    folder.mkdir(parents=True)
    for number in range(count):
      (folder / f'{number:03}.png').write_bytes(file)
    config = from_protocol()
    config.data.root = root
    return (
      median(lambda: dataset.open_categories(config.data).categories, rounds)
      / count
    )


def saving(rounds: int = 5) -> dict[str, float]:
  """Measures a finished head's way to disk, and sizes."""
  rng = np.random.default_rng(0)
  head = {
    'adaptor': rng.normal(size=(_DIM, _DIM)).astype(np.float32),
    'first': rng.normal(size=(_DIM, _HIDDEN)).astype(np.float32),
    'vectors': rng.normal(size=(_DIM + 6 * _HIDDEN)).astype(np.float32),
  }
  job = Job('category', 0, _IMAGES.value, _BATCH, _EPOCHS.value)
  record = Record(job)
  record.add_metrics(rng.uniform(size=(3, job.steps)).astype(np.float32))
  shape = (_TEST.value, 36, 36)
  record.add_scores(job.epochs, rng.normal(size=shape).astype(np.float32))
  record.head, seconds = head, []
  with tempfile.TemporaryDirectory() as folder:
    for number in range(rounds):
      checkpoints = Checkpoints(pathlib.Path(folder, str(number)))
      start = time.perf_counter()
      checkpoints.save(record)
      seconds.append(time.perf_counter() - start)
      checkpoints.close()
    sizes = [f.stat().st_size for f in pathlib.Path(folder, '0').rglob('*.*')]
  weights = sum(array.nbytes for array in head.values())
  size = sum(sizes)
  return {
    'seconds': statistics.median(seconds),
    'bytes': size,
    # With both moments of every weight.
    'bytes under way': size + 2 * weights,
  }


def shipping(size: int, rounds: int = 5) -> float:
  """Measures the seconds that a file of so many bytes takes to disk."""
  arrays = {'all': np.zeros(size // 4, np.float32)}
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, 'detector.safetensors')
    return median(lambda: save_file(arrays, path), rounds)


def costs_of(
  files: Mapping[str, float], head: Mapping[str, float], ship: float
) -> Costs:
  """Puts together what was measured here and elsewhere."""
  (speed,) = [
    run
    for run in measured('mvtec_speed')['runs']
    if run['what'].startswith('decoded') and run['seeds'] == 1
  ]
  predict = measured('predict_gpu')['batch 16']['on the device']
  gflop = measured('train')['epoch']['gflop_of_a_step']['ours']
  largest = max(train for train, _, _ in mvtec_sizes.SIZES.values())
  return Costs(
    step=speed['seconds'] / speed['head_steps'],
    score=2e-9 * (_FINE + _COARSE) * _CHANNELS * _HIDDEN / gflop,
    backbone=predict['milliseconds_median']['ours'] / 16 / 1e3,
    decode=files['seconds'],
    evaluate=measured('metrics')['median_seconds']['evaluate'],
    file=files['bytes'],
    head=head['bytes'],
    under_way=head['bytes under way'],
    row=speed['bank_gigabytes'] * 1e9 / largest,
    write=head['seconds'],
    ship=ship,
    start=speed['seconds_of_a_first_epoch_with_compilation'],
    header=files['header'],
  )


def main() -> None:
  """Measures, computes, and writes the results and the page."""
  work = Work(
    _CATEGORIES.value,
    _IMAGES.value,
    _TEST.value,
    _SEEDS.value,
    _EPOCHS.value,
    _CORES.value,
    1e9 * _READ.value,
    1e9 * _TOGETHER.value,
  )
  devices: Sequence[int] = [int(count) for count in _DEVICES.value]
  files, head = decoding(), saving()
  ship = shipping(detector_bytes(work))
  costs = {kind: costs_of(one, head, ship) for kind, one in files.items()}
  result = {
    'what': 'time, memory and storage, computed from measured costs',
    'work': dataclasses.asdict(work),
    'runs': {
      kind: {
        'costs': dataclasses.asdict(one),
        'spent': [spent(work, one, count) for count in devices],
        'gigabytes': taken(work, one),
      }
      for kind, one in costs.items()
    },
  }
  timing.write('capacity', result)
  capacity_page.write(measured('capacity'))


if __name__ == '__main__':
  cli.run(main)
