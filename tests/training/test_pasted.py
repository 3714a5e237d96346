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


def made(count=20, size=8, patches_of=mean_colours, **how):
  return pasted.make(inputs(**how), count, size, patches_of)


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
  places = np.moveaxis(np.indices((4, 4)), 0, -1)  # As if they were patches.

  def columns(roi):
    found = made(
      roi=roi, patches_of=lambda x: np.stack([places] * len(x)).astype('f')
    )
    return set(found['patches'][:, 1])

  left = np.zeros((SIDE, SIDE), bool)
  left[:, :16] = True
  assert columns(None) == {0, 1, 2, 3}
  assert columns(left) == {0, 1} and columns(~left) == {2, 3}


def test_a_small_region_has_as_many_defects():
  roi = np.zeros((SIDE, SIDE), bool)
  roi[8:16, 8:16] = True
  assert len(made(roi=roi)['images']) > 10  # Of 20 defects.


def test_few_defects_are_on_images_from_all_over():
  found = [pasted.make(inputs(), count, 8, mean_colours) for count in (3, 18)]
  assert len(set(found[0]['images'])) == 3
  assert set(found[0]['images']) != {0, 1, 2}
  assert set(found[1]['images']) == set(range(IMAGES))


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
  with pytest.raises(ValueError, match=r'no defect .*; raise --config'):
    pasted.of_head(nothing, Job('part', 0, 8, 4, 1))


@pytest.mark.parametrize('protocol', ['reference', 'fast', 'combined'])
def test_heads_that_see_whole_images_are_refused(protocol):
  config = from_protocol(protocol)
  config.train.pasted = 5
  if protocol == 'reference':
    with pytest.raises(ValueError, match=r'is 5, but --config\.train\.patches'):
      check_config(config)
  else:
    check_config(config)
  config.nearest.size, config.nearest.head, config.seeds = 10, 0.0, (0,)
  with pytest.raises(ValueError, match=r'nearest\.head=0 trains no .*sted=0$'):
    check_config(config)
