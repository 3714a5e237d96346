"""Resizing by taps against resizing by matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simplenet_jax.models import resampling

SIDES = st.integers(1, 40)
by_taps = jax.jit(resampling.resize_by_taps, static_argnums=1)


def make(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@settings(max_examples=12, deadline=None)
@given(before=st.tuples(SIDES, SIDES), after=st.tuples(SIDES, SIDES))
@example(before=(1, 7), after=(5, 1))
@example(before=(1, 1), after=(1, 1))
@example(before=(40, 3), after=(39, 4))
def test_taps_give_what_the_matrices_give(before, after):
  grid = make(*before, 2)
  rows, cols = map(resampling.bilinear_matrix, before, after)
  expected = np.einsum('ih,jw,hwc->ijc', rows, cols, grid)
  np.testing.assert_allclose(by_taps(grid, after), expected, atol=1e-5)


@pytest.mark.parametrize('after', [(9, 8), (3, 2), (6, 7)])
@pytest.mark.parametrize('channels', [(), (2, 3)])
def test_both_resize_alike(after, channels):
  grid = jnp.asarray(make(6, 5, *channels))
  expected = resampling.resize(grid, after)
  found = resampling.resize_by_taps(grid, after)
  assert found.dtype == expected.dtype
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_change_gives_the_grid_itself_and_its_type_stays():
  grid = jnp.asarray(make(4, 3), jnp.bfloat16)
  assert resampling.resize_by_taps(grid, (4, 3)) is grid
  assert resampling.resize_by_taps(grid, (8, 3)).dtype == jnp.bfloat16
