"""Times training against PyTorch, in one run on the same machine and work.

  python -m benchmarks.train
  python -m benchmarks.train --precision=tensorfloat32   # on a GPU

Compared are (a) the released algorithm in PyTorch, with the backbone in every
epoch and batches of 8 whole images, with decoding and without; (b) a lean
PyTorch with cached features and a compiled step; (c) this project. Weights and
pixels are random: times do not depend on them. Compilation is left out and told
apart. Writes benchmarks/results/train.json (train_gpu.json on a GPU); takes
about eight minutes on two CPU cores.
"""

import functools
import itertools
import os
import time
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx

from benchmarks import mvtec_sizes, timing
from simplenet_jax import cli
from simplenet_jax.config import from_protocol
from simplenet_jax.data import images
from simplenet_jax.models import resnet
from simplenet_jax.models.precision import PRECISIONS
from simplenet_jax.training import bank, estimate, lanes, setup
from simplenet_jax.training.job import Job, batches

_BACKBONE = flags.DEFINE_string('backbone', 'wide_resnet50_2', 'Which ResNet.')
_PRECISION = flags.DEFINE_enum(
  'precision', 'float32', list(PRECISIONS), 'Of matrix products, in all three.'
)
_IMAGES = flags.DEFINE_integer('images', 24, 'Images of an epoch.', 8)
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'Each time is the median of.', 1)
_CROP = flags.DEFINE_integer('crop', 288, 'Side of an image, in pixels.', 32)

BATCH = 8
EPOCHS = 160


class Ours:
  """This project's step, epoch and extraction on random images."""

  def __init__(self, config, pixels: np.ndarray):
    """Extracts the images' features; `pixels` is `[images, side, side, 3]`."""
    self.config, self.pixels = config, pixels
    self.extractor = setup.make_extractor(config)
    network = resnet.ResNet(
      config.backbone.name,
      tuple(config.backbone.levels),
      padding=config.backbone.padding,
      rngs=nnx.Rngs(0),
    )
    self.weights = nnx.split(network)[1]
    size = pixels.shape[1:3]
    self.bank = bank.Bank(
      self.extractor.shapes(self.weights, size), len(pixels)
    )
    self.recipe = setup.make_recipe(config, self.extractor.level_offsets)
    self.extract()
    key = setup.head_key(0, 'part')
    head = setup.init_head(
      config, self.extractor.level_offsets, self.recipe, key
    )
    self.states = jax.tree.map(lambda leaf: leaf[None], head)
    size = config.train.batch_size
    job = Job('part', 0, len(pixels), size, 1)
    rows, valid = batches(job, 0, job.steps)
    self.work = lanes.Work(
      jnp.asarray(rows[None]),
      jnp.asarray(valid[None]),
      jax.random.key_data(key)[None],
      jnp.zeros(1, jnp.int32),
      jnp.full(1, config.train.sigma),
      jnp.ones((1, job.steps)),
    )

  def extract(self) -> None:
    """Passes all images through the backbone."""
    for start in range(0, len(self.pixels), BATCH):
      part = self.pixels[start : start + BATCH]
      rows = np.arange(start, start + len(part), dtype=np.int32)
      self.bank.extract(self.extractor, self.weights, part, rows, BATCH)
    jax.block_until_ready(self.bank.levels)

  def train(self, steps: int) -> None:
    """Does some steps, in one call of the device."""
    self.states, metrics = lanes.advance(
      self.recipe, self.states, self.bank.levels, self.work, jnp.int32(steps)
    )
    jax.block_until_ready((self.states, metrics))

  def flops(self) -> float:
    """Returns the operations of a step as it is compiled."""
    head = jax.tree.map(lambda leaf: leaf[0], self.states)
    shapes = self.extractor.shapes(self.weights, self.pixels.shape[1:3])
    return estimate.step_flops(shapes, self.recipe, head)


def make_config(batch_size: int):
  """Returns the reference protocol's settings."""
  config = from_protocol()
  config.backbone.name = _BACKBONE.value
  config.precision = _PRECISION.value
  config.train.batch_size = batch_size
  return config


def random_pixels(count: int, side: int) -> np.ndarray:
  """Returns noise, uint8 `[count, side, side, 3]`."""
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (count, side, side, 3), np.uint8)


def step_against_lean(device: str) -> dict:
  """Times one head's steps at the paper's protocol: 3136 patches.

  Several in a row, as they are done in training: each call of ours does many.
  """
  import torch

  from benchmarks import torch_train

  steps = 4
  ours = Ours(make_config(batch_size=4), random_pixels(4 * steps, 224))
  patches = torch.randn(4 * 28 * 28, torch_train.DIM, device=device)
  lean, eager = (torch_train.make_step(device, c) for c in (True, False))

  def torch_step(step):
    for _ in range(steps):
      step(patches)
    torch_train.finish(device)

  seconds = timing.in_turns(
    {
      'ours': lambda: ours.train(steps),
      'lean PyTorch': lambda: torch_step(lean),
      'eager PyTorch': lambda: torch_step(eager),
    },
    2 * _ROUNDS.value + 1,
  )
  seconds = {name: value / steps for name, value in seconds.items()}
  return {
    'patches': len(patches),
    'steps_in_a_row': steps,
    'median_seconds_of_a_step': seconds,
    'lean_over_ours': seconds['lean PyTorch'] / seconds['ours'],
  }


def epochs(device: str) -> dict:
  """Times whole epochs at the reference protocol."""
  import torch

  from benchmarks import torch_train

  count, side = _IMAGES.value, _CROP.value
  pixels = random_pixels(count, side)
  files = [mvtec_sizes.encode(image) for image in random_pixels(count, 32)]
  start = time.perf_counter()
  ours = Ours(make_config(BATCH), pixels)
  ours.train(1)
  ours_first = time.perf_counter() - start

  features = torch_train.Features(_BACKBONE.value).to(device)
  released = torch_train.make_step(device, compiled=False)
  lean = torch_train.make_step(device, compiled=True)
  channels_last = functools.partial(
    torch.Tensor.contiguous, memory_format=torch.channels_last
  )
  starts = range(0, count, BATCH)
  decoded = torch.tensor(images.normalize(pixels)).movedim(-1, 1).to(device)
  with torch.no_grad():
    cached = [features(channels_last(decoded[i : i + BATCH])) for i in starts]

  def released_epoch():
    for i in starts:
      released(features(decoded[i : i + BATCH]))
    torch_train.finish(device)

  def released_epoch_with_decoding():
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      decoding = pool.map(
        functools.partial(mvtec_sizes.decode, side=side), files
      )
      for _ in starts:
        batch = np.stack(list(itertools.islice(decoding, BATCH)))
        tensor = torch.tensor(images.normalize(batch)).movedim(-1, 1)
        released(features(tensor.to(device)))
    torch_train.finish(device)

  def lean_epoch():
    for patches in cached:
      lean(patches)
    torch_train.finish(device)

  start = time.perf_counter()
  lean_epoch()
  lean_first = time.perf_counter() - start
  seconds = timing.in_turns(
    {
      'released, with decoding': released_epoch_with_decoding,
      'released': released_epoch,
      'lean PyTorch': lean_epoch,
      'ours': lambda: ours.train(len(starts)),
      'extraction, ours': ours.extract,
    },
    _ROUNDS.value,
  )
  trained = [train for train, _, _ in mvtec_sizes.SIZES.values()]
  steps = sum(-(-count // BATCH) for count in trained) * EPOCHS
  per_step = {name: value / len(starts) for name, value in seconds.items()}
  total = sum(sum(sizes) for sizes in mvtec_sizes.SIZES.values())
  once = per_step.pop('extraction, ours') / BATCH * total
  extracted = {'lean PyTorch': once, 'ours': once}
  return {
    'images': count,
    'side': side,
    'backbone': _BACKBONE.value,
    'batch': BATCH,
    'median_seconds_of_an_epoch': seconds,
    'seconds_of_a_step': per_step,
    'over_ours': {
      name: value / seconds['ours']
      for name, value in seconds.items()
      if name not in ('ours', 'extraction, ours')
    },
    'seconds_until_first_step_is_done': {
      'ours, with backbone and head compiled': ours_first,
      'lean PyTorch, head compiled': lean_first,
    },
    'mvtec_ad_hours': {
      name: (value * steps + extracted.get(name, 0.0)) / 3600
      for name, value in per_step.items()
    },
    'mvtec_ad_method': (
      f'seconds of a step x {steps} steps (15 categories, {EPOCHS} epochs, one '
      'seed), without evaluation and compilation; where features are cached, '
      f'plus {total} images at the measured time of our extraction'
    ),
    'gflop_of_a_step': {
      'as the paper writes it': as_written(BATCH * (side // 8) ** 2) / 1e9,
      'ours': ours.flops() / 1e9,
    },
  }


def as_written(patches: int, dim: int = 1536, hidden: int = 1024) -> float:
  """Returns a step's operations if every layer is applied to every patch."""
  adaptor, discriminator = 2 * patches * dim**2, 2 * 2 * patches * dim * hidden
  # Forward and the weights' gradients; the discriminator's inputs' as well.
  return 2 * adaptor + 3 * discriminator


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  import torch

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  platform = jax.devices()[0].platform
  if (device == 'cpu') != (platform == 'cpu'):
    raise ValueError(
      f'PyTorch would run on {device} but JAX on {platform}; install both for '
      'the same'
    )
  torch.set_num_threads(os.cpu_count() or 1)
  if _PRECISION.value != 'float32':
    torch.set_float32_matmul_precision('high')
  with jax.default_matmul_precision('float32'):
    timing.write(
      'train' if device == 'cpu' else 'train_gpu',
      {
        'what': 'training: the released algorithm and a lean one in PyTorch, '
        'and ours; medians, in turns',
        'rounds': _ROUNDS.value,
        'precision': _PRECISION.value,
        'torch': torch.__version__,
        'step': step_against_lean(device),
        'epoch': epochs(device),
      },
    )


if __name__ == '__main__':
  cli.run(main)
