"""What XLA makes of the programs for accelerators, which need not be there."""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks import aot, hlo

ROOT = pathlib.Path(__file__).parents[2]
COMPILERS = {'h200': 'jax-cuda12-plugin', 'v5e': 'libtpu'}


def test_kernels_of_a_loop_are_counted():
  @jax.jit
  def loop(x, w):
    return jax.lax.fori_loop(0, 5, lambda _, x: jnp.tanh(x @ w), x)

  text = loop.lower(jnp.ones((64, 32)), jnp.ones((32, 32))).compile().as_text()
  assert text
  program = hlo.Program(text)
  [(body, trips)] = program.loops().items()
  products = [one for one in program.kernels(body) if one.flop]
  assert trips == 5
  assert [one.flop for one in products] == [2 * 64 * 32 * 32]
  least = 4 * (64 * 32 + 32 * 32)
  assert least <= products[0].read <= least + 64
  assert products[0].written >= 4 * 64 * 32
  whole = list(program.kernels(program.entry))
  assert sum(one.times * one.flop for one in whole) == 5 * 2 * 64 * 32 * 32


def compiled(case: aot.Case) -> dict:
  """Compiles in a process of its own: plugins stay once they are loaded."""
  try:
    importlib.metadata.version(COMPILERS[case.device])
  except importlib.metadata.PackageNotFoundError:
    pytest.skip(f"no compiler for {case.device}; pip install -e '.[aot]'")
  code = (
    'import json; from benchmarks import aot, roofline; '
    f'case = aot.{case!r}; '
    'print(json.dumps(roofline.describe(case, *aot.compiled(case))))'
  )
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run(
    *([sys.executable, '-c', code],),
    **{'cwd': ROOT, 'env': environment, 'text': True, 'check': False},
    capture_output=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return json.loads(done.stdout.splitlines()[-1])


# Of every step.
LEAN = {
  'copies_of_features': 0,
  'waits_for_the_host': 0,
  'temporary_over_features': 0.3,
}


def at_most(kernels, megabytes):
  return {'kernels': kernels, 'megabytes': megabytes}


@pytest.mark.slow
def test_pixels_are_normalised_by_arithmetic_on_tpus():
  # By a table it is .48 s for these eight images.
  found = compiled(aot.Case('v5e', 'normalize', 'float32', batch=8))
  assert 5 < found['microseconds_of_all'] <= 50


@pytest.mark.slow
@pytest.mark.parametrize(
  ('case', 'most'),
  [
    (aot.Case('h200', 'step', 'bfloat16'), LEAN | at_most(55, 950)),
    # Rounded are the products' factors alone.
    (
      aot.Case('h200', 'step', 'bfloat16', bank='float32'),
      LEAN | at_most(55, 1320),
    ),
    (aot.Case('h200', 'step', 'tensorfloat32'), LEAN | at_most(55, 1540)),
    (aot.Case('h200', 'step', 'bfloat16', 'fast'), LEAN | at_most(45, 400)),
    (aot.Case('v5e', 'step', 'bfloat16'), LEAN),
    # 43 more kernels and 98 MB more were kernels of convolutions, transposed.
    (aot.Case('h200', 'predict', 'bfloat16'), at_most(70, 240)),
    (aot.Case('h200', 'extract', 'tensorfloat32', batch=8), at_most(62, 2400)),
  ],
  ids=str,
)
def test_programs_stay_lean(case, most):
  found = compiled(case)
  assert found['kernels'] > 10
  for figure, ceiling in most.items():
    assert found[figure] <= ceiling, figure
