"""Patches of pasted defects: which heads draw from which."""

import types

import numpy as np
import pytest

from simplenet_jax.config import check_config, from_protocol
from simplenet_jax.training import pasted
from simplenet_jax.training.job import Job, parts_of

DIM, IMAGES, SIDE = 3, 6, 32


def inputs(roi=None):
  """A category whose images are plain but for a colour of their own."""
  rng = np.random.default_rng(0)
  each = rng.integers(40, 200, (IMAGES, SIDE, SIDE, 3)).astype(np.uint8)
  return types.SimpleNamespace(
    name='part', train=(None,) * IMAGES, roi=roi, pixels=each.__getitem__
  )


def mean_colours(pixels):
  """Patches `[images, 4, 4, 3]`: means of cells of 8 x 8 pixels."""
  cells = pixels.reshape(len(pixels), 4, 8, 4, 8, 3)
  return cells.astype(np.float32).mean((2, 4))


def made(count=20, size=8, **how):
  return pasted.make(inputs(**how), count, 0, size, mean_colours)


def test_patches_are_those_that_defects_cover():
  found = made()
  assert found['patches'].shape == (len(found['images']), DIM)
  # Images of noise have gray cells; where a defect is, cells are of others.
  good = mean_colours(np.stack([inputs().pixels(i) for i in range(IMAGES)]))
  near = np.abs(found['patches'][:, None] - good.reshape(-1, DIM)).max(-1)
  assert (near.min(1) > 0).all()
  assert set(found['images']) == set(range(IMAGES))


def test_batches_do_not_matter():
  one, other = made(size=8), made(size=3)
  for name in one:
    np.testing.assert_array_equal(one[name], other[name])


def test_what_lies_outside_the_region_is_left_out():
  roi = np.zeros((SIDE, SIDE), bool)
  roi[:, :16] = True
  inside, all_of_it = made(roi=roi), made()
  assert 0 < len(inside['images']) < len(all_of_it['images'])


def test_shares_of_cells_are_exact():
  places = np.zeros((1, 7, 10), bool)
  places[0, :3, :5] = True
  # Rows 0-1, 2-3 and 4-6; columns 0-4 and 5-9.
  found = pasted._covered(places, (3, 2))
  np.testing.assert_allclose(found[0], [[1, 0], [0.5, 0], [0, 0]])


def test_a_head_draws_from_images_that_it_sees():
  images = np.repeat(np.arange(8), 5)
  found = {'images': images, 'patches': np.stack([images] * DIM, 1).astype('f')}
  parts = parts_of('part', 8, 4)
  for part in range(4):
    job = Job('part', part, 8, 4, 1, (part, 4))
    own = pasted.of_head(found, job)
    assert own.shape == (pasted.KEPT, DIM)
    assert set(own[:, 0]) == set(np.flatnonzero(parts != part))
  everything = pasted.of_head(found, Job('part', 0, 8, 4, 1))
  assert set(everything[:, 0]) == set(range(8))


def test_a_head_without_any_is_told():
  nothing = {'images': np.zeros(0, int), 'patches': np.zeros((0, DIM), 'f')}
  with pytest.raises(
    ValueError, match=r'no defect .* --config\.train\.pasted=0'
  ):
    pasted.of_head(nothing, Job('part', 0, 8, 4, 1))


@pytest.mark.parametrize('protocol', ['reference', 'fast', 'combined'])
def test_heads_that_see_whole_images_are_refused(protocol):
  config = from_protocol(protocol)
  config.train.pasted = 5
  if protocol == 'reference':
    with pytest.raises(ValueError, match=r'train\.pasted needs .*patches'):
      check_config(config)
  else:
    check_config(config)
  config.nearest.size, config.nearest.head, config.seeds = 10, 0.0, (0,)
  with pytest.raises(ValueError, match=r'train\.pasted needs heads'):
    check_config(config)
