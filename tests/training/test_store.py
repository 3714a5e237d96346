"""Features made by the backbone, kept on the device or streamed to it."""

import functools
import types

import jax
import numpy as np
import pytest

from simplenet_jax.config import from_protocol
from simplenet_jax.data import images
from simplenet_jax.data.frame import Frame
from simplenet_jax.fields import PRECISIONS
from simplenet_jax.models import patches
from simplenet_jax.training import bank, layout
from simplenet_jax.training.levels import Levels
from simplenet_jax.training.store import BLOCK, Features, FeatureStore


def make_store(shapes, rows):
  """Returns an empty store, of which no category is asked for."""
  run = types.SimpleNamespace(
    config=from_protocol(), weights=types.SimpleNamespace(state={})
  )
  shapes = tuple(jax.ShapeDtypeStruct(one, np.float32) for one in shapes)
  device = jax.devices()[0]
  task = layout.DeviceTask(device, (), (), 1, rows, shapes)
  return FeatureStore(run, task)


class Level:
  """Features on the host that note how many were copied at a time."""

  def __init__(self, values):
    self.values, self.copied = values, []

  def __getitem__(self, images):
    self.copied.append(len(images))
    return self.values[images]


def test_a_window_is_filled_without_a_copy_of_it_on_the_host():
  values = np.arange(200 * 2 * 2 * 3, dtype=np.float32).reshape(200, 2, 2, 3)
  store = make_store([values.shape[1:]], 150)
  level = Level(values)
  streamed = Features(np.arange(150), [level], limit=75)
  wanted = np.random.default_rng(0).permutation(200)[:70].reshape(7, 10)
  rows = store.rows(streamed, 1, wanted)
  assert (rows >= 75).all()
  [found] = store.levels.images(rows.ravel())
  np.testing.assert_array_equal(found, values[wanted.ravel()])
  [others] = store.levels.images(np.arange(75))  # The other lane's.
  assert not np.asarray(others).any()
  assert max(level.copied) <= BLOCK < sum(level.copied) == 70


def test_the_spread_is_that_of_all_positions():
  store = make_store([(4, 5, 6), (2, 3, 8)], 40)
  rng = np.random.default_rng(0)
  levels = [
    rng.normal(3, 2, shape).astype('f')
    for shape in ((40, 4, 5, 6), (40, 2, 3, 8))
  ]
  store.levels = Levels.of(list(map(jax.numpy.asarray, levels)))
  variances = [level[:37].var(axis=(0, 1, 2)) for level in levels]
  expected = np.sqrt(np.mean(np.concatenate(variances)))
  found = store._spread(Features(np.arange(40)), 37)
  assert found == pytest.approx(expected, rel=1e-5)
  streamed = Features(np.arange(40), levels, limit=20)
  assert store._spread(streamed, 37) == found


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    (1.7, 'do not vary; give other images'),
    (np.nan, 'not finite; use --config.bank.dtype=float32'),
  ],
)
def test_features_that_noise_cannot_follow_are_told(value, message):
  store = make_store([(4, 5, 6)], 4)
  store.levels = jax.tree.map(lambda level: level + value, store.levels)
  with pytest.raises(ValueError, match=message):
    store._spread(Features(np.arange(4)), 4)


def test_features_can_be_halved():
  config, found = from_protocol(), []
  config.backbone.name = 'efficientnet_lite0'
  state = bank.load_backbone(config).state
  pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), np.uint8)
  for config.bank.dtype in ('float32', 'bfloat16'):
    network = bank.Extraction.of(config)
    placed = bank.on_device(network, state, jax.devices()[0])
    found.append(bank.extract(network, placed, pixels))
  for full, half in zip(*found, strict=True):
    assert half.dtype == jax.numpy.bfloat16
    np.testing.assert_allclose(half.astype('f'), full, rtol=2**-8)


def test_the_backbones_precision_is_a_setting():
  config, found = from_protocol(), {}
  config.backbone.name = 'efficientnet_lite0'
  pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), np.uint8)
  for config.backbone.precision in PRECISIONS:
    found[config.backbone.precision] = extract(config, pixels)
  exact, rounded = found['float32'], found['bfloat16']
  np.testing.assert_array_equal(found['tensorfloat32'], exact)  # On CPUs.
  error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
  assert 2**-10 < error < 2**-4


def golden_case(shared, network):
  """Returns recorded values, the config and the two images, read the same."""
  golden = np.load(shared(f'golden/features_{network}.npz'))
  config = from_protocol()
  for field in ('resize', 'crop'):
    config.data[field] = int(golden[field])
  config.backbone.name = network
  config.backbone.weights = str(shared(f'weights/{network}.safetensors'))
  pixels = []
  for name in golden['files']:
    picture = images.read_image(shared('data/transistor') / str(name))
    frame = Frame.of(
      (picture.height, picture.width), config.data.resize, config.data.crop
    )
    pixels.append(frame.image_to_input(picture))
  inputs = np.moveaxis(images.normalize(np.stack(pixels)), -1, 1)
  np.testing.assert_array_equal(
    inputs[..., ::37, ::41], golden['pixels'], strict=True
  )
  return golden, config, np.stack(pixels)


def extract(config, pixels):
  """Returns patch features `[image, patch, 1536]` of the images."""
  network, state = bank.Extraction.of(config), bank.load_backbone(config).state
  state = bank.on_device(network, state, jax.devices()[0])
  levels = bank.extract(network, state, pixels)
  merge = functools.partial(patches.merge, target_dim=1536)
  merged = jax.vmap(lambda x: merge(x, network.level_offsets))(levels)
  return np.asarray(merged).reshape(len(pixels), -1, 1536)


def errors(features, golden):
  """Returns each image's relative error in norm at the recorded patches."""
  expected = golden['patches']
  difference = features[:, golden['patch_index']] - expected
  return np.linalg.norm(difference, axis=(1, 2)) / np.linalg.norm(
    expected, axis=(1, 2)
  )


# `probe` computes exactly what the released code's float32 pass of ones rounds.
# The first BatchNorm of this ResNet50 has variances of thousands, where that
# rounding alone moves features by 6e-5.
@pytest.mark.parametrize(
  ('network', 'bound'), [('resnet18', 1e-5), ('resnet50', 1e-4)]
)
def test_features_of_real_images_match_released_code(shared, network, bound):
  golden, config, pixels = golden_case(shared, network)
  features = extract(config, pixels)
  assert (errors(features, golden) <= bound).all()
  for name in ('mean', 'std'):
    found = getattr(features, name)((1, 2))
    np.testing.assert_allclose(found, golden[f'{name}_per_image'], rtol=bound)
