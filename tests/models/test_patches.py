import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from simplenet_jax.models import patches, resampling


def judge(features, patch_size, pretrain_dim, target_dim):
  """The aggregation written with torch's unfold and adaptive pooling."""
  pad = (patch_size - 1) // 2
  levels = []
  for level in features:
    level = torch.tensor(np.asarray(level)).permute(0, 3, 1, 2)
    batch, channels, height, width = level.shape
    unfolded = torch.nn.functional.unfold(level, patch_size, padding=pad)
    grid = [side + 2 * pad - patch_size + 1 for side in (height, width)]
    levels.append(unfolded.reshape(batch, channels * patch_size**2, *grid))
  size = levels[0].shape[-2:]
  pooled = []
  for level in levels:
    resized = torch.nn.functional.interpolate(
      level, size, mode='bilinear', align_corners=False
    )
    rows = resized.permute(0, 2, 3, 1).flatten(0, 2)
    pooled.append(
      torch.nn.functional.adaptive_avg_pool1d(rows[:, None], pretrain_dim)
    )
  joined = torch.cat(pooled, dim=2)
  final = torch.nn.functional.adaptive_avg_pool1d(joined, target_dim)[:, 0]
  return final.reshape(len(features[0]), *size, target_dim).numpy()


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def embed(features, patch_size, pretrain_dim, target_dim):
  """Aggregates a batch of feature maps into patch features."""
  channels = tuple(level.shape[-1] for level in features)
  pooling = patches.pooling_for(channels, patch_size, pretrain_dim, target_dim)
  offsets = [level.start for level in pooling]

  def embed_image(image):
    pooled = list(map(patches.pool_level, image, pooling))
    return patches.merge(pooled, offsets, target_dim)

  return jax.vmap(embed_image)(features)


@pytest.mark.parametrize('target_dim', [0, 12, 5])
def test_levels_can_keep_their_own_channels(target_dim):
  features = make_features((4, 8), ((6, 5), (3, 3)))
  pooling = patches.pooling_for((4, 8), 3, 0, target_dim)
  # As if each level was pooled to its own number of channels.
  own = [judge([one], 3, n, n) for one, n in zip(features, (4, 8), strict=True)]
  coarse = torch.tensor(own[1]).permute(0, 3, 1, 2)
  coarse = torch.nn.functional.interpolate(coarse, (6, 5), mode='bilinear')
  rows = torch.cat([torch.tensor(own[0]), coarse.permute(0, 2, 3, 1)], dim=-1)
  size = target_dim or 12
  rows = torch.nn.functional.adaptive_avg_pool1d(rows.flatten(0, 2)[None], size)
  offsets = [level.start for level in pooling]
  merged = [
    patches.merge(list(map(patches.pool_level, one, pooling)), offsets, size)
    for one in zip(*features, strict=True)
  ]
  expected = rows.reshape(2, 6, 5, size).numpy()
  np.testing.assert_allclose(np.stack(merged), expected, atol=1e-6)
  if not target_dim:
    assert offsets == [0, 4]


def make_features(channels, grids, batch=2, seed=0):
  rng = np.random.default_rng(seed)
  return [
    rng.normal(size=(batch, *grid, count)).astype(np.float32)
    for count, grid in zip(channels, grids, strict=True)
  ]


@pytest.mark.parametrize(
  'name', ['embed_two_levels_divisible', 'embed_two_levels_nondivisible']
)
def test_embed_matches_released_code(shared, name):
  golden = np.load(shared(f'golden/{name}.npz'))
  features = [
    golden[f'features_{level}'].transpose(0, 2, 3, 1) for level in (0, 1)
  ]
  sizes = ('patchsize', 'pretrain_embed_dimension', 'target_embed_dimension')
  result = embed(features, *(int(golden[size]) for size in sizes))
  result = np.asarray(result).reshape(golden['patches'].shape)
  np.testing.assert_allclose(result, golden['patches'], atol=1e-6)


@pytest.mark.parametrize(
  ('channels', 'grids', 'sizes'),
  [
    ((512, 1024), ((6, 5), (3, 3)), (3, 1536, 1536)),  # WideResNet50
    ((128, 256), ((6, 6), (3, 3)), (3, 1536, 1536)),  # ResNet18
    ((256, 512, 1024), ((8, 8), (4, 4), (2, 2)), (3, 1536, 1536)),
    ((64,), ((5, 7),), (3, 1536, 1536)),  # One level, more outputs than inputs
    ((30, 50), ((6, 6), (3, 3)), (3, 128, 100)),  # Nothing divides
    ((17, 19), ((7, 5), (4, 3)), (5, 23, 29)),
    ((8, 16), ((6, 6), (3, 3)), (1, 24, 24)),
    ((8, 16), ((6, 6), (3, 3)), (2, 24, 24)),  # Even: the grid shrinks
    ((8, 16), ((7, 6), (4, 3)), (4, 20, 30)),
  ],
)
def test_embed_matches_unfolding(channels, grids, sizes):
  features = make_features(channels, grids)
  expected = judge(features, *sizes)
  found = embed(features, *sizes)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('level', [0, 1])
def test_pooling_in_bfloat16_does_not_scale_features(level):
  # A wide ResNet's weights are 1/6 and 1/12, which bfloat16 rounds up.
  pooling = patches.pooling_for((512, 1024), 3, 1536, 1536)[level]
  shape = (8, 8, (512, 1024)[level])
  uniform = np.random.default_rng(0).uniform(1, 2, shape)
  features = jnp.asarray(uniform, jnp.bfloat16)
  pooled = patches.pool_level(features, pooling)
  assert pooled.dtype == jnp.bfloat16
  exact = patches.pool_level(features.astype(jnp.float32), pooling)
  ratio = pooled.astype(jnp.float32).mean() / exact.mean()
  assert float(ratio) == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize('sizes', [(3, 6), (5, 9), (7, 3), (1, 4), (4, 4)])
def test_resizing_is_torchs_and_so_is_its_derivative(sizes):
  old, new = (sizes[0], 5), (sizes[1], 8)
  grid, gradient = (
    np.random.default_rng(seed).normal(size=(*size, 2)).astype('f')
    for seed, size in enumerate((old, new))
  )
  theirs = torch.tensor(np.moveaxis(grid, 2, 0)[None], requires_grad=True)
  expected = torch.nn.functional.interpolate(theirs, new, mode='bilinear')
  expected.backward(torch.tensor(np.moveaxis(gradient, 2, 0)[None]))
  resized, back = jax.vjp(lambda x: resampling.resize(x, new), grid)
  ours = resized, *back(jnp.asarray(gradient))
  for one, other in zip(ours, (expected.detach(), theirs.grad), strict=True):
    other = np.moveaxis(other[0].numpy(), 0, 2)
    np.testing.assert_allclose(one, other, atol=1e-5)
