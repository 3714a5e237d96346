"""What drawing patches from many images costs, against whole images.

  python -m benchmarks.sampling

Steps of one head on random features of WideResNet50-2 at 288 x 288, as
`reference` and as `fast` take them from the bank, and what the gathering alone
takes. Writes benchmarks/results/sampling.json.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import timing
from simplenet_jax import cli
from simplenet_jax.config import Config, from_protocol
from simplenet_jax.fields import PRECISIONS
from simplenet_jax.training import estimate, lanes, sampling, setup
from simplenet_jax.training.job import Job, batches

_PRECISION = flags.DEFINE_enum('precision', 'float32', PRECISIONS, 'Of steps.')
_IMAGES = flags.DEFINE_integer('images', 64, 'In the bank.', 16)
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'That are timed.', 1)
_STEPS = 4  # Of a round.
_SHAPES = tuple(
  jax.ShapeDtypeStruct((side, side, 768), jnp.float32) for side in (36, 18)
)
_STARTS = (0, 768)


class Head:
  """One head on the bank's features, trained as a protocol says."""

  def __init__(self, config: Config, levels):
    """Makes it; `levels` are the bank's."""
    config.precision = _PRECISION.value
    self.levels, train = levels, config.train
    self.recipe = setup.make_recipe(config, _STARTS)
    self.key = setup.head_key(0, 'part')
    head = setup.init_head(config, _STARTS, self.recipe, self.key)
    self.flops = estimate.step_flops(_SHAPES, self.recipe, head)
    self.states = jax.tree.map(lambda leaf: leaf[None], head)
    images = len(levels[0])
    job = Job('part', 0, images, train.batch_size, train.epochs)
    self.rows, valid = batches(job, 0, _STEPS)
    self.work = lanes.Work(
      jnp.asarray(self.rows[None]),
      jnp.asarray(valid[None]),
      jax.random.key_data(self.key)[None],
      jnp.zeros(1, jnp.int32),
      jnp.full(1, train.sigma),
      jnp.ones((1, _STEPS)),
    )

  @property
  def patches(self) -> int:
    """Of a step."""
    whole = self.levels[0].shape[1] * self.levels[0].shape[2]
    return self.recipe.batch_size * (self.recipe.patches or whole)

  def train(self) -> None:
    """Does the steps of a round."""
    self.states, _ = lanes.advance(
      self.recipe, self.states, self.levels, self.work, jnp.int32(_STEPS)
    )
    jax.block_until_ready(self.states)

  def gather(self) -> None:
    """Takes the features of as many steps from the bank, and no more."""
    key = jax.random.key_data(self.key)
    for rows in self.rows:
      jax.block_until_ready(
        _gather(self.recipe.patches, self.levels, jnp.asarray(rows), key)
      )


@functools.partial(jax.jit, static_argnums=0)
def _gather(patches, levels, rows, key):
  if patches:
    return sampling.draw(levels, rows, key, patches)
  return [jnp.take(level, rows, axis=0) for level in levels]


def main() -> None:
  """Runs the benchmark and writes its result."""
  rng = np.random.default_rng(0)
  levels = tuple(
    jnp.asarray(rng.normal(size=(_IMAGES.value, *one.shape)), one.dtype)
    for one in _SHAPES
  )
  reference, fast = (
    Head(from_protocol(name), levels) for name in ('reference', 'fast')
  )
  many = from_protocol('fast')
  # As many patches as whole images have, drawn from eight times as many images.
  many.train.batch_size, many.train.patches = 64, 162
  heads = {
    'reference': reference,
    'fast': fast,
    'fast, as many patches': Head(many, levels),
  }
  of_a_round, of_gathering = (
    timing.in_turns(
      {name: getattr(head, part) for name, head in heads.items()},
      _ROUNDS.value,
    )
    for part in ('train', 'gather')
  )
  on_cpu = jax.default_backend() == 'cpu'
  timing.write(
    'sampling' if on_cpu else 'sampling_gpu',
    {
      'what': 'one step of one head; seconds are medians',
      'precision': _PRECISION.value,
      'images_in_the_bank': _IMAGES.value,
      'steps': {
        name: {
          'images': head.recipe.batch_size,
          'patches': head.patches,
          'gflop': head.flops / 1e9,
          'seconds': of_a_round[name] / _STEPS,
          'seconds_of_gathering_alone': of_gathering[name] / _STEPS,
        }
        for name, head in heads.items()
      },
    },
  )


if __name__ == '__main__':
  cli.run(main)
