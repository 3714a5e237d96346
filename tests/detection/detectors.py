"""Small detectors and pictures for tests."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from simplenet_jax.config import from_protocol
from simplenet_jax.detection import assembly
from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.detector import Detector
from simplenet_jax.models import weights
from simplenet_jax.models.backbone import fold
from simplenet_jax.models.weights import Weights
from tests.models import fabricated

DIM, HIDDEN = 24, 8
RESNET, LITE0 = 'resnet18', 'efficientnet_lite0'


@functools.cache
def backbone(levels, architecture=RESNET):
  """Returns a ResNet's weights, all random, or those of the one in the box."""
  if architecture == LITE0:
    return weights.load(LITE0, LITE0, levels).state
  return fold(fabricated.tensors(architecture), architecture, levels)


def loaded(levels=(2, 3), architecture=RESNET):
  """Returns them as if they came from a file."""
  state = backbone(levels, architecture)
  return Weights(state, Path('w.pth'), '0' * 64, 'random')


def make_config(
  crop=0, adaptor='linear', padding='reflect', architecture=RESNET
):
  config = from_protocol()
  config.backbone.name, config.backbone.padding = architecture, padding
  config.backbone.probe, config.backbone.batch_size = False, 64
  config.data.resize, config.data.crop = 32 + 8 * bool(crop), crop
  config.patch.pretrain_dim = config.patch.target_dim = DIM
  config.head.hidden, config.head.adaptor = HIDDEN, adaptor
  return config


def make_head(seed, adaptor='linear'):
  """Returns a trained head's leaves, random, statistics included."""
  rng = np.random.default_rng(seed)

  def random(*shape, scale=1.0):
    return rng.normal(size=shape, scale=scale).astype(np.float32)

  count = {'linear': 1, 'mlp': 2, 'identity': 0}[adaptor]
  head = {
    'params.discriminator.first.kernel': random(DIM, HIDDEN, scale=DIM**-0.5),
    'params.discriminator.first.bias': random(HIDDEN),
    'params.discriminator.norm.scale': random(HIDDEN),
    'params.discriminator.norm.bias': random(HIDDEN),
    'params.discriminator.tail.kernel': random(HIDDEN, 1),
    'stats.discriminator.norm.mean': random(HIDDEN),
    'stats.discriminator.norm.var': np.abs(random(HIDDEN)) + 0.1,
  }
  for i in range(count):
    head[f'params.adaptor.{i}.kernel'] = random(DIM, DIM, scale=DIM**-0.5)
    head[f'params.adaptor.{i}.bias'] = random(DIM)
  return head


def make(
  *,
  crop=0,
  heads=1,
  adaptor='linear',
  padding='reflect',
  thresholds=False,
  size=(32, 40),
  levels=(2, 3),
  architecture=RESNET,
  bank=0,
  score='patch',
):
  """Returns a detector with random weights, in a second or two."""
  config = make_config(crop, adaptor, padding, architecture)
  config.backbone.levels = levels
  config.evaluation.score = score
  patches = np.random.default_rng(1).random((bank, DIM), np.float32)
  detector = assembly.assemble(
    config,
    'part',
    (crop, crop) if crop else size,
    loaded(levels, architecture),
    [make_head(seed, adaptor) for seed in range(heads)],
    {'seeds': list(range(heads))},
    bank=(patches, (0.5, 0.25)) if bank else None,
  )
  if thresholds:
    scores = [p.score for p in detector.predict(list(arrays()))]
    middle = float(np.median(scores))
    detector.thresholds = Thresholds(
      image=middle, pixel=middle, median=min(scores), images=len(scores)
    )
  return detector


def assert_range(found, expected, share=1e-5):
  """Asserts a largest difference as a share of the expected values' range."""
  assert found.shape == expected.shape
  error = np.abs(np.asarray(found, np.float64) - expected).max()
  assert error < share * np.ptp(expected)


def as_on_accelerators(detector, precision='float32', batch_size=64):
  """Returns a detector that computes batches, with convolutions."""
  options = {'precision': precision, 'batch_size': batch_size}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, 'default_backend', lambda: 'gpu')
    return Detector(detector.card, detector.weights, **options)


def arrays(count=6):
  """Yields pictures of several sizes, uint8 RGB, every other one coarse."""
  rng = np.random.default_rng(0)
  for index in range(count):
    height, width = ((40, 52), (64, 48), (33, 90))[index % 3]
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    if index % 2:
      pixels = pixels[::4, ::4].repeat(4, 0).repeat(4, 1)[:height, :width]
    yield pixels


def pictures(folder, count=6):
  """Writes them, one gray and one of 16 bit among them; returns the paths."""
  folder.mkdir(parents=True, exist_ok=True)
  paths = [folder / f'{index}.png' for index in range(count)]
  for index, pixels in enumerate(arrays(count)):
    if index == 1:
      pixels = pixels[..., 0]
    if index == 2:
      pixels = pixels[..., 0].astype(np.uint16) * 257
    Image.fromarray(pixels).save(paths[index])
  return paths


def part(rng, size):
  """A red part on a green ground, brighter above, not twice the same."""
  height, width = size
  pixels = np.zeros((height, width, 3))
  pixels[:] = (40, 90, 60)
  pixels += np.linspace(60, 0, height)[:, None, None]
  row = height // 4 + rng.integers(0, height // 8)
  pixels[row : row + height // 3, width // 8 : width // 2] = (200, 60, 30)
  pixels += rng.normal(0, 6, pixels.shape) + rng.normal(0, 4)
  return pixels.clip(0, 255).astype(np.uint8)


def parts(count=30, size=(40, 40), seed=0):
  rng = np.random.default_rng(seed)
  return [part(rng, size) for _ in range(count)]
