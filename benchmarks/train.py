"""Times training, against PyTorch and of a whole data set.

  python -m benchmarks.train
  python -m benchmarks.train --precision=tensorfloat32   # on a GPU
  python -m benchmarks.train --mvtec --precision=tensorfloat32 --seeds=5

Compared are (a) the released algorithm in PyTorch, with the backbone in every
epoch and batches of 8 whole images, with decoding and without; (b) a lean
PyTorch with cached features and a compiled step; (c) this project's command. An
epoch of (c) is what a run takes longer than one of fewer epochs, so reading,
extraction, evaluation and compilation are left out. Writes
benchmarks/results/train.json (train_gpu.json on a GPU). With --mvtec, all of
MVTec AD's sizes are trained, from PNG files to the table, and
benchmarks/results/mvtec_speed.json has an entry more.
"""

import itertools
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks import random_data, timing
from simplenet_jax import cli, environment, train
from simplenet_jax.data import frame, images
from simplenet_jax.evaluation import results

_BACKBONE = flags.DEFINE_string('backbone', 'wide_resnet50_2', 'Which ResNet.')
_PRECISION = timing.define_precision('Of matrix products, in all three.')
_IMAGES = flags.DEFINE_integer('images', 24, 'Images of an epoch.', 8)
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'Each time is the median of.', 1)
_EPOCHS = flags.DEFINE_integer('epochs', 5, 'Of ours, in each round.', 1)
_MVTEC = flags.DEFINE_bool('mvtec', False, 'Whether to time a data set.')
_SEEDS = flags.DEFINE_integer('seeds', 1, 'Heads of each of its categories.', 1)
_ALL_EPOCHS = flags.DEFINE_integer('mvtec_epochs', 160, 'Of these heads.', 1)
_CATEGORIES = flags.DEFINE_integer('categories', 15, 'Of a data set.', 1)
_SHARE = flags.DEFINE_float('share', 1.0, 'Share of its images.', 0.0, 1.0)
_CROP = flags.DEFINE_integer('crop', 288, 'Side of an image, in pixels.', 32)


def one_epoch(config: Any, folder: pathlib.Path) -> float:
  """Returns the seconds of an epoch of ours."""

  def run(epochs: int) -> float:
    config.train.epochs = config.evaluation.every = epochs
    with tempfile.TemporaryDirectory(dir=folder) as name:
      workdir = pathlib.Path(name)
      return timing.seconds_of(train.train_and_evaluate, config, workdir)

  short = run(1)
  return (run(1 + _EPOCHS.value) - short) / _EPOCHS.value


def compare(
  device: str, folder: pathlib.Path, batch: int, side: int
) -> dict[str, Any]:
  """Times epochs of batches of whole images."""
  import torch

  from benchmarks import torch_simplenet

  count, backbone, precision = _IMAGES.value, _BACKBONE.value, _PRECISION.value
  folder.mkdir()
  sizes = {'part': (count, 1, 1)}
  config = random_data.make_config(folder, sizes, backbone, precision, side)
  config.train.batch_size = batch
  files = sorted((folder / 'data/part/train/good').iterdir())
  starts = range(0, count, batch)
  features = torch_simplenet.Features(backbone).to(device)
  released = torch_simplenet.make_step(device, compiled=False)
  lean = torch_simplenet.make_step(device, compiled=True)

  def read(path: pathlib.Path) -> np.ndarray:
    image = images.read_image(path)
    size = (image.height, image.width)
    return frame.Frame.of(size, side + 41, side).image_to_input(image)

  def placed(pixels: list[np.ndarray]) -> torch.Tensor:
    x = torch.tensor(images.normalize(np.stack(pixels))).movedim(-1, 1)
    return x.to(device)

  decoded = [placed(list(map(read, files[i : i + batch]))) for i in starts]
  cached = [features(pixels) for pixels in decoded]

  def of_files():
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      decoding = pool.map(read, files)
      for _ in starts:
        released(features(placed(list(itertools.islice(decoding, batch)))))

  def of_pixels():
    for pixels in decoded:
      released(features(pixels))

  def of_features():
    for patches in cached:
      lean(patches)

  def finished(epoch: Callable[[], object]) -> None:
    epoch()
    if device != 'cpu':
      torch.cuda.synchronize()

  epochs = {
    'released, with decoding': of_files,
    'released': of_pixels,
    'lean PyTorch': of_features,
  }
  finished(of_features)  # Compiles.
  one_epoch(config, folder)
  found: dict[str, list[float]] = {name: [] for name in (*epochs, 'ours')}
  for _ in range(_ROUNDS.value):
    for name, epoch in epochs.items():
      found[name].append(timing.seconds_of(finished, epoch))
    found['ours'].append(one_epoch(config, folder))
  seconds = {name: statistics.median(each) for name, each in found.items()}
  patches = batch * (side // 8) ** 2
  flops = operations(patches).items()
  return {
    'images': count,
    'side': side,
    'batch': batch,
    'patches_of_a_step': patches,
    'median_seconds_of_an_epoch': seconds,
    'seconds_of_a_step': {n: s / len(starts) for n, s in seconds.items()},
    'over_ours': {n: s / seconds['ours'] for n, s in seconds.items()},
    'gflop_of_a_step': {name: flop / 1e9 for name, flop in flops},
  }


def operations(patches: int, dim: int = 1536, hidden: int = 1024) -> dict:
  """Returns a step's operations, by how it is written."""
  adaptor, first = 2 * patches * dim**2, 2 * patches * dim * hidden
  # The two matrices' product and its gradients, however many the patches.
  product = 3 * 2 * dim**2 * hidden
  return {
    # Forward and the weights' gradients; the discriminator's inputs' as well.
    'as the paper writes it': 2 * adaptor + 3 * 2 * first,
    # Half of the features are multiplied on a grid with a quarter of the
    # patches; noise is not a function of any weight.
    'ours': 2 * (5 / 8 * first + first) + product,
  }


def whole_data_set(folder: pathlib.Path) -> None:
  """Times MVTec AD's sizes from files to the table; adds it to the results."""
  sizes = {
    name: [max(2, round(count * _SHARE.value)) for count in counts]
    for name, counts in [*random_data.MVTEC.items()][: _CATEGORIES.value]
  }
  backbone, precision, side = _BACKBONE.value, _PRECISION.value, _CROP.value
  config = random_data.make_config(folder, sizes, backbone, precision, side)
  config.seeds = tuple(range(_SEEDS.value))
  config.train.epochs = _ALL_EPOCHS.value
  start = time.perf_counter()
  table = train.train_and_evaluate(config, folder / 'work')
  entry = {
    'what': 'PNG files of 1024 x 1024 to the table, with compilation',
    'seconds': time.perf_counter() - start,
    'seconds_by_phase': table['wall_seconds'],
    'backbone': backbone,
    'precision': precision,
    'categories': len(sizes),
    'seeds': _SEEDS.value,
    'epochs': config.train.epochs,
    'share_of_images': _SHARE.value,
    'side': side,
    'device': environment.device(),
    'jax': jax.__version__,
  }
  path = timing.RESULTS / 'mvtec_speed.json'
  known = json.loads(path.read_text())['runs'] if path.exists() else []
  results.write_json(path, {'runs': [*known, entry]})
  print(json.dumps(entry, indent=2))


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  with tempfile.TemporaryDirectory() as name:
    folder, side = pathlib.Path(name), _CROP.value
    if _MVTEC.value:
      return whole_data_set(folder)
    device = timing.torch_device(_PRECISION.value)
    timing.write(
      'train' if device == 'cpu' else 'train_gpu',
      {
        'what': 'training: the released algorithm and a lean one in PyTorch, '
        'and ours; medians, in turns',
        'rounds': _ROUNDS.value,
        'precision': _PRECISION.value,
        'backbone': _BACKBONE.value,
        'released': compare(device, folder / 'released', 8, side),
        'paper': compare(device, folder / 'paper', 4, side * 7 // 9),
      },
    )


if __name__ == '__main__':
  cli.run(main)
