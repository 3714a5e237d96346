"""What a sweep costs beside the training of its heads.

  python -m benchmarks.sweep

Eight sigmas and five seeds on generated images, from files to table and figure:
decoding, one extraction of features, all heads, evaluation. Against it stand
the same steps of the same heads alone, on features that are on the device
already. Both in one process, compiled before. Writes
benchmarks/results/sweep.json (sweep_gpu.json on a GPU); takes about two minutes
on two CPU cores.
"""

import pathlib
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import timing
from simplenet_jax import cli
from simplenet_jax.config import Config
from simplenet_jax.data import dataset
from simplenet_jax.sweeps import experiment, settings
from simplenet_jax.training import bank, lanes, layout, setup
from simplenet_jax.training.job import batches

_EPOCHS = flags.DEFINE_integer('epochs', 6, 'Of each head.', 1)
_SIGMAS = (0.15, 0.3, 0.6, 1.2, 2.4, 4.8, 9.6, 19.2)
_SEEDS = 5
_STEPS = 64  # Of heads alone that are timed at once.


def make_config(folder: pathlib.Path, epochs: int, seeds: int) -> Config:
  """Returns a sweep over the noise of the demo's heads."""
  base = settings.base('demo')
  base.data.root = str(folder / 'demo')
  base.data.categories = ('gasket', 'weave')
  base.train.epochs, base.seeds = epochs, tuple(range(seeds))
  base.engine.lanes = 1
  variants = {f'{sigma:g}': {'train.sigma': sigma} for sigma in _SIGMAS}
  return settings.sweep(
    'sigma', 'Noise', base, variants, view='line', axis='train.sigma'
  )


def seconds_of_a_step(config: Config) -> float:
  """Times heads' steps on features that are there, nothing else."""
  extractor = setup.make_extractor(config)
  state = setup.load_backbone(config, extractor.graph).state
  inputs = dataset.open_categories(config.data).categories[0]
  home = bank.Bank(extractor.shapes(state, inputs.size), inputs.images)
  home.write(
    [
      np.random.default_rng(0).normal(size=level.shape).astype(level.dtype)
      for level in home.levels
    ],
    np.arange(inputs.images, dtype=np.int32),
  )
  recipe = setup.make_recipe(config, extractor.level_offsets)
  job = layout.make_jobs(config, [inputs])[0]
  key = setup.head_key(0, inputs.name)
  head = setup.init_head(config, extractor.level_offsets, recipe, key)
  states = jax.tree.map(lambda leaf: leaf[None], head)
  rows, valid = batches(job, 0, _STEPS)
  work = lanes.Work(
    jnp.asarray(rows[None]),
    jnp.asarray(valid[None]),
    jax.random.key_data(key)[None],
    jnp.zeros(1, jnp.int32),
    jnp.full(1, config.train.sigma),
    jnp.ones((1, _STEPS)),
  )
  found = []
  for _ in range(6):
    start = time.perf_counter()
    states, _ = lanes.advance(
      recipe, states, home.levels, work, jnp.int32(_STEPS)
    )
    jax.block_until_ready(states)
    found.append((time.perf_counter() - start) / _STEPS)
  return statistics.median(found[1:])


def main() -> None:
  """Runs the benchmark and writes its result."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    first = make_config(folder, 1, 1)
    experiment.run(first, folder / 'compiled')
    config = make_config(folder, _EPOCHS.value, _SEEDS)
    before = seconds_of_a_step(config.base)
    start = time.perf_counter()
    experiment.run(config, folder / 'sweep')
    whole = time.perf_counter() - start
    after = seconds_of_a_step(config.base)
    inputs = dataset.open_categories(config.base.data).categories
    jobs = layout.make_jobs(config.base, inputs)
  steps = len(_SIGMAS) * sum(job.steps for job in jobs)
  alone = steps * (before + after) / 2
  on_cpu = jax.default_backend() == 'cpu'
  timing.write(
    'sweep' if on_cpu else 'sweep_gpu',
    {
      'what': 'a sweep from files to table and figure, against the steps of '
      'its heads alone; compiled before',
      'sigmas': len(_SIGMAS),
      'seeds': _SEEDS,
      'categories': len(inputs),
      'epochs': _EPOCHS.value,
      'head_steps': steps,
      'seconds_of_the_sweep': whole,
      'seconds_of_a_step_alone_before_and_after': [before, after],
      'seconds_of_the_heads_alone': alone,
      'sweep_over_heads_alone': whole / alone,
    },
  )


if __name__ == '__main__':
  cli.run(main)
