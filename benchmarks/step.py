"""Times training steps alone, on the default device.

  python -m benchmarks.step
  python -m benchmarks.step --small   # Tries it.

Milliseconds of a step, for each head side by side, by protocol, precision and
heads; and after which share of the time the calls had returned: 1 means that
their thread waited, and could not prepare the next steps meanwhile. Features
are random, of MVTec AD's largest category. Writes benchmarks/results/step.json
(step_gpu.json on a GPU).
"""

import itertools
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import aot, timing
from simplenet_jax import cli
from simplenet_jax.config import PROTOCOLS
from simplenet_jax.fields import PRECISIONS
from simplenet_jax.training import lanes, step

_PROTOCOL = flags.DEFINE_multi_enum(
  'protocol', ['reference', 'fast'], list(PROTOCOLS), 'Repeat for more.'
)
_PRECISION = flags.DEFINE_multi_enum(
  'precision', PRECISIONS, PRECISIONS, "The heads' products; repeat for more."
)
_LANES = flags.DEFINE_multi_integer('lanes', [1, 5], 'Heads side by side.', 1)
_BANK = flags.DEFINE_string('bank', 'auto', 'The type of stored features.')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Times are medians of.', 1)
_SMALL = flags.DEFINE_bool('small', False, 'A few steps of small images.')


def arguments(case: aot.Case) -> list[Any]:
  """Returns random features, fresh heads and steps to take."""
  rng = np.random.default_rng(0)
  recipe, states, levels, inputs = aot.step_arguments(
    case, jax.ShapeDtypeStruct
  )
  keys = [step.head_key(seed, '') for seed in range(case.lanes)]
  heads = [step.init_head(recipe, key) for key in keys]
  states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *heads)
  grid = levels.grids[0]
  levels = jax.tree.map(
    lambda x: jax.random.normal(keys[0], x.shape, x.dtype), levels
  )
  inputs = inputs._replace(
    rows=jnp.asarray(rng.integers(0, case.images, inputs.rows.shape), 'int32'),
    valid=jnp.ones(inputs.valid.shape),
    keys=jnp.stack([jax.random.key_data(key) for key in keys]),
    first=jnp.zeros(case.lanes, jnp.int32),
    sigma=jnp.full(case.lanes, 0.015),
    rate=jnp.ones(inputs.rate.shape),
    places=inputs.places and lanes.places([None] * case.lanes, grid),
  )
  return [recipe, states, levels, inputs]


def measure(case: aot.Case, calls: int) -> dict[str, float]:
  """Returns the milliseconds of a step and head, and when calls returned."""
  recipe, states, levels, inputs = arguments(case)
  whole, returned, loss = [], [], float('nan')
  for _ in range(1 + _ROUNDS.value):  # The first one compiles.
    start = time.perf_counter()
    states, metrics = lanes.advance(recipe, states, levels, inputs)
    for _ in range(calls - 1):
      states, metrics = lanes.advance(recipe, states, levels, inputs)
    returned.append(time.perf_counter() - start)
    loss = float(metrics[0, -1, 0])
    whole.append(time.perf_counter() - start)
  seconds = statistics.median(whole[1:])
  shares = [a / b for a, b in zip(returned, whole, strict=True)]
  steps = calls * case.steps * case.lanes
  return {
    'milliseconds_of_a_step_and_head': 1e3 * seconds / steps,
    'returned_after_a_share_of': statistics.median(shares[1:]),
    'seconds_with_compilation': whole[0],
    'loss': loss,
  }


def main() -> None:
  """Measures, prints and writes."""
  small = {'side': 64, 'images': 16, 'steps': 2} if _SMALL.value else {}
  calls, found = 2 if _SMALL.value else 8, []
  for protocol, precision, count in itertools.product(
    _PROTOCOL.value, _PRECISION.value, _LANES.value
  ):
    case = aot.Case(
      *('', 'step', precision, protocol, _BANK.value, count), **small
    )
    names = 'protocol', 'precision', 'lanes', 'bank', 'side', 'images'
    about = {name: getattr(case, name) for name in names}
    with jax.default_matmul_precision('float32'):
      found.append({**about, **measure(case, calls)})
    print(found[-1], flush=True)
  timing.write(
    'step' if jax.default_backend() == 'cpu' else 'step_gpu',
    {
      'what': 'training steps, medians',
      'rounds': _ROUNDS.value,
      'steps': found,
    },
  )


if __name__ == '__main__':
  cli.run(main)
