"""Folded heads against the heads that were trained."""

import jax
import numpy as np
import pytest
from flax import nnx

from simplenet_jax.models import folded_head
from simplenet_jax.models.head import ADAPTORS, Head
from simplenet_jax.models.precision import PRECISIONS
from tests.detection import detectors
from tests.models.test_folded_resnet import assert_range

DIM, HIDDEN = detectors.DIM, detectors.HIDDEN
STARTS = (0, 10)
# Level by level, the coarser one's channels last, as training sees them.
LEVELS = [
  np.random.default_rng(level).normal(size=(2, *grid, count)).astype('f')
  for level, (grid, count) in enumerate((((6, 5), 10), ((3, 3), 14)))
]
CASES = [
  (adaptor, bias)
  for adaptor in ADAPTORS
  for bias in (True, False)
  if bias or adaptor != 'identity'
]
ROUNDING = {'float32': 1e-5, 'tensorfloat32': 1e-2, 'bfloat16': 3e-2}


def trained(leaves, adaptor, bias=True):
  """Returns the head of the training code with these leaves."""
  module = Head(
    DIM,
    STARTS,
    adaptor=adaptor,
    adaptor_bias=bias,
    hidden=HIDDEN,
    rngs=nnx.Rngs(0),
  )
  for part, kind in (('params', nnx.Param), ('stats', nnx.BatchStat)):
    state = nnx.state(module, kind)
    drawn = [
      (path, leaf.replace(leaves['.'.join(map(str, (part, *path)))]))
      for path, leaf in nnx.to_flat_state(state)
    ]
    nnx.update(module, nnx.from_flat_state(drawn))
  return module


def scores(folded, precision='float32'):
  return np.asarray(
    jax.jit(folded_head.apply, static_argnums=(2, 3))(
      folded, LEVELS, STARTS, precision
    )
  )


@pytest.mark.parametrize(('adaptor', 'bias'), CASES)
def test_folded_equals_the_trained_head(adaptor, bias):
  leaves = detectors.make_head(0, adaptor, bias)
  expected = -np.asarray(trained(leaves, adaptor, bias)(LEVELS))
  assert_range(scores(folded_head.fold([leaves])), expected)


@pytest.mark.parametrize('adaptor', ADAPTORS)
def test_an_ensemble_is_the_mean_of_its_heads(adaptor):
  several = [detectors.make_head(seed, adaptor) for seed in range(3)]
  alone = [scores(folded_head.fold([leaves])) for leaves in several]
  assert np.ptp(alone, axis=0).max() > 0.1  # They differ.
  assert_range(scores(folded_head.fold(several)), np.mean(alone, axis=0))


@pytest.mark.parametrize(('adaptor', 'bias'), CASES)
def test_folding_is_exact_but_for_rounding(adaptor, bias):
  leaves = detectors.make_head(0, adaptor, bias)
  wide = {name: value.astype(np.float64) for name, value in leaves.items()}
  rows = np.random.default_rng(1).normal(size=(50, DIM))

  def linear(x, name):
    shift = wide.get(f'params.{name}.bias', 0)
    return x @ wide[f'params.{name}.kernel'] + shift

  def leaky(x):
    return np.where(x > 0, x, 0.2 * x)

  def normal(x):
    norm, stats = 'params.discriminator.norm', 'stats.discriminator.norm'
    x = (x - wide[f'{stats}.mean']) / (wide[f'{stats}.var'] + 1e-5) ** 0.5
    return x * wide[f'{norm}.scale'] + wide[f'{norm}.bias']

  x = rows
  for i in range(ADAPTORS[adaptor]):
    x = linear(leaky(x) if i else x, f'adaptor.{i}')
  expected = -linear(
    leaky(normal(linear(x, 'discriminator.first'))), 'discriminator.tail'
  )[:, 0]

  folded = folded_head.fold([leaves])
  assert all(value.dtype == np.float32 for value in folded.values())
  x = rows @ folded['head.first.kernel'] + folded['head.first.bias']
  if 'head.second.kernel' in folded:
    x = leaky(x) @ folded['head.second.kernel'][0]
    x += folded['head.second.bias'][0]
  found = leaky(x) @ folded['head.tail']
  assert_range(found, expected, 5e-7)


def test_only_the_nonlinear_adaptor_has_a_second_layer():
  for adaptor in ADAPTORS:
    several = [detectors.make_head(seed, adaptor) for seed in range(3)]
    shapes = {k: v.shape for k, v in folded_head.fold(several).items()}
    width = DIM if adaptor == 'mlp' else HIDDEN
    expected = {
      'head.first.kernel': (DIM, 3 * width),
      'head.first.bias': (3 * width,),
      'head.tail': (3 * HIDDEN,),
    }
    if adaptor == 'mlp':
      expected['head.second.kernel'] = (3, DIM, HIDDEN)
      expected['head.second.bias'] = (3, HIDDEN)
    assert shapes == expected


def test_heads_of_two_kinds_are_refused():
  kinds = [detectors.make_head(0, adaptor) for adaptor in ('linear', 'mlp')]
  with pytest.raises(ValueError, match='argument 2 is longer'):
    folded_head.fold(kinds)


@pytest.mark.parametrize('precision', PRECISIONS)
def test_products_have_the_precision_asked_for(precision):
  folded = folded_head.fold([detectors.make_head(0, 'mlp')])
  exact, found = scores(folded), scores(folded, precision)
  assert found.dtype == np.float32
  assert_range(found, exact, ROUNDING[precision])
  if precision != 'float32':
    assert np.abs(found - exact).max() > 1e-5 * np.ptp(exact)
