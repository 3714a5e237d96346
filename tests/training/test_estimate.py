import jax
import numpy as np
import pytest

from simplenet_jax.config import from_protocol
from simplenet_jax.training import estimate, step

SIDES, DIM, HIDDEN = (36, 18), 1536, 1024  # Of WideResNet50-2 at 288 x 288.


@pytest.mark.parametrize('name', ['reference', 'fast'])
def test_a_step_is_counted_as_it_is_computed(name):
  config = from_protocol(name)
  recipe = step.make_recipe(config, (0, DIM // 2))
  head = jax.eval_shape(
    lambda: step.init_head(config, (0, DIM // 2), recipe, step.head_key(0, ''))
  )
  shapes = [
    jax.ShapeDtypeStruct((side, side, DIM // 2), np.float32) for side in SIDES
  ]
  fine, coarse = (
    config.train.batch_size * (config.train.patches or side**2)
    for side in SIDES
  )
  # Rows of both levels, and of the noise, times the discriminator's matrix, and
  # its gradient; the features' own gradient is nobody's.
  rows = (fine + coarse) / 2 + fine
  patches = 2 * 2 * rows * DIM * HIDDEN
  # Adaptor times that matrix, and the gradients of both.
  weights = 3 * 2 * DIM**2 * HIDDEN
  assert estimate.step_flops(shapes, recipe, head) == pytest.approx(
    patches + weights, rel=0.02
  )
