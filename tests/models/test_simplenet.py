"""Anomaly maps against the released code; detectors against training's path."""

import functools

import jax
import numpy as np
import pytest
import torch
from scipy import ndimage

from simplenet_jax.detection import assembly
from simplenet_jax.models import channels_first, resnet, simplenet
from simplenet_jax.training import bank, progress, step
from tests.detection import detectors
from tests.detection.detectors import assert_range
from tests.models import torch_resnet

# Precision, and whether convolutions become matrix products.
CONVOLUTIONS, PRODUCTS = ('float32', False), ('float32', True)
BFLOAT16 = ('bfloat16', False)
SIZE = (32, 40)
# Backbone, adaptor, heads, padding.
KINDS = [('basic', 'linear', 1, 'reflect'), ('bottleneck', 'mlp', 2, 'zeros')]
BACKBONES = {
  'basic': resnet.Architecture(False, (1, 1, 1), width=12),
  'bottleneck': resnet.Architecture(True, (1, 1, 1), width=6),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
  for name, spec in BACKBONES.items():
    monkeypatch.setitem(resnet.ARCHITECTURES, name, spec)


def make_config(architecture, adaptor, padding):
  config = detectors.make_config(adaptor=adaptor, padding=padding)
  config.backbone.name = architecture
  return config


@functools.cache
def backbone(architecture):
  """Returns folded weights, every parameter and statistic random."""
  spec = BACKBONES[architecture]
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(
      torch_resnet.SPECS,
      architecture,
      (spec.bottleneck, spec.depths, spec.width, 1),
    )
    model = torch_resnet.fabricate(architecture)
  return resnet.fold(torch_resnet.tensors(model), architecture, (2, 3))


@functools.cache
def pixels():
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (4, *SIZE, 3), np.uint8)
  noise[1:] //= np.array([2, 4, 8], np.uint8)[:, None, None, None]
  return noise


@functools.cache
def by_trainer(architecture, adaptor, count, padding):
  """Returns maps and scores of trained heads, each on its own, averaged."""
  config = make_config(architecture, adaptor, padding)
  extractor = bank.make_extractor(config)
  levels = bank.extract(extractor, backbone(architecture), pixels())
  recipe = step.make_recipe(config, extractor.level_offsets)
  like = jax.eval_shape(lambda: step.init_head(recipe, step.head_key(0, '')))
  patches = []
  for seed in range(count):
    tree = progress.unflat(
      detectors.make_head(seed, adaptor),
      {'params': like.params, 'stats': like.stats},
    )
    state = step.HeadState(**tree, opt_state=())
    patches.append(step.patch_scores(recipe, state, levels))
  mean = np.mean(patches, axis=0)
  maps = simplenet.anomaly_maps(mean, SIZE, config.evaluation.smoothing)
  return np.asarray(maps), np.asarray(simplenet.image_scores(mean))


@functools.cache
def detector(architecture, adaptor, count, padding):
  config = make_config(architecture, adaptor, padding)
  made = assembly.assemble(
    config,
    'part',
    SIZE,
    backbone(architecture),
    [detectors.make_head(seed, adaptor) for seed in range(count)],
    {},
  )
  return made.card.network, made.weights


def run(kind, mode, chosen):
  of, weights = detector(*kind)
  prepared = simplenet.prepare(of, weights, *mode)
  found = simplenet.run(of, prepared, chosen, mode[0])
  maps, scores = map(np.asarray, found)
  assert maps.dtype == scores.dtype == np.float32
  assert maps.shape == (len(chosen), *SIZE)
  assert scores.shape == (len(chosen),)
  return maps, scores


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('mode', [CONVOLUTIONS, PRODUCTS])
def test_maps_and_scores_are_the_trainers(kind, mode):
  expected_maps, expected_scores = by_trainer(*kind)
  maps, scores = run(kind, mode, pixels())
  assert_range(maps, expected_maps)
  assert_range(scores, expected_scores)
  # So that agreement says something: images differ by more than that.
  assert np.ptp(expected_maps, axis=0).max() > 0.1


def test_bfloat16_changes_little():
  both = run(KINDS[0], BFLOAT16, pixels()), by_trainer(*KINDS[0])
  for found, expected in zip(*both, strict=True):
    assert_range(found, expected, 3e-2)
    assert np.abs(found - expected).max() > 1e-4 * np.ptp(expected)


@pytest.mark.parametrize(
  ('mode', 'share'), [(PRODUCTS, 1e-5), (BFLOAT16, 2e-2)]
)
def test_an_image_does_not_depend_on_its_company(mode, share):
  maps, scores = run(KINDS[0], mode, pixels())
  turned_maps, turned_scores = run(KINDS[0], mode, pixels()[::-1])
  assert_range(turned_maps[::-1], maps, share)
  assert_range(turned_scores[::-1], scores, share)
  alone = [run(KINDS[0], mode, pixels()[i : i + 1]) for i in range(4)]
  alone_maps, alone_scores = map(np.concatenate, zip(*alone, strict=True))
  assert_range(alone_maps, maps, share)
  assert_range(alone_scores, scores, share)


def test_anomaly_maps_match_released_code(shared):
  golden = np.load(shared('golden/anomaly_maps.npz'))
  size = tuple(map(int, golden['target_size']))
  maps = simplenet.anomaly_maps(golden['patch_scores'], size)
  np.testing.assert_allclose(maps, golden['anomaly_maps'], atol=1e-5)
  scores = simplenet.image_scores(golden['patch_scores'])
  np.testing.assert_array_equal(scores, golden['image_scores'])


@pytest.mark.parametrize(
  ('grid', 'size', 'sigma'),
  [
    ((9, 9), (72, 72), 4.0),
    ((5, 8), (41, 67), 4.0),
    ((6, 6), (20, 9), 1.5),
    ((4, 4), (8, 4), 0),
  ],
)
def test_anomaly_maps_match_torch_and_scipy(grid, size, sigma):
  scores = np.random.default_rng(0).normal(size=(3, *grid)).astype(np.float32)
  upsampled = torch.nn.functional.interpolate(
    torch.from_numpy(scores)[:, None].double(),
    size,
    mode='bilinear',
    align_corners=False,
  )[:, 0].numpy()
  expected = [ndimage.gaussian_filter(one, sigma) for one in upsampled]
  maps = simplenet.anomaly_maps(scores, size, sigma)
  np.testing.assert_allclose(maps, np.stack(expected), atol=1e-5)


@pytest.mark.parametrize(
  ('padding', 'adaptor', 'heads'),
  [
    ('zeros', 'mlp', 3),
    pytest.param('reflect', 'linear', 2, marks=pytest.mark.slow),
    pytest.param('zeros', 'linear', 1, marks=pytest.mark.slow),
    pytest.param('reflect', 'mlp', 1, marks=pytest.mark.slow),
    pytest.param('reflect', 'identity', 1, marks=pytest.mark.slow),
  ],
)
def test_channels_first_agree_with_the_detector(padding, adaptor, heads):
  made = detectors.make(padding=padding, adaptor=adaptor, heads=heads)
  structure, weights = made.card.network, made.weights
  found = jax.jit(functools.partial(channels_first.detect, structure, weights))
  expected = jax.jit(simplenet.plain(structure, weights))
  maps, scores = map(np.asarray, expected(pixels()))
  assert np.ptp(scores) > 0.01
  for value, truth in zip(found(pixels()), (maps, scores), strict=True):
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, truth, rtol=0, atol=1e-5 * np.ptp(maps))
