"""What a sweep costs beside the training of its heads.

  python -m benchmarks.sweep

Eight sigmas and five seeds on generated images, from files to table and figure:
decoding, extraction of features, all heads, evaluation. Against it stands what
its heads cost alone: a run of one sigma of twice as many epochs takes so much
longer than one of as many epochs. Writes benchmarks/results/sweep.json
(sweep_gpu.json on a GPU).
"""

import pathlib
import statistics
import tempfile

import jax
from absl import flags

from benchmarks import timing
from simplenet_jax import cli, train
from simplenet_jax.config import Config
from simplenet_jax.sweeps import experiment, settings

_EPOCHS = flags.DEFINE_integer('epochs', 6, 'Of each head.', 1)
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'Of the runs of one sigma.', 1)
_SIGMAS = (0.15, 0.3, 0.6, 1.2, 2.4, 4.8, 9.6, 19.2)
_SEEDS = 5


def make_config(folder: pathlib.Path, epochs: int) -> Config:
  """Returns a sweep over the noise of the demo's heads."""
  base = settings.base('demo')
  base.data.root = str(folder / 'demo')
  base.data.categories = ('gasket', 'weave')
  base.train.epochs, base.seeds = epochs, tuple(range(_SEEDS))
  base.engine.lanes = 1
  variants = {f'{sigma:g}': {'train.sigma': sigma} for sigma in _SIGMAS}
  return settings.sweep('sigma', 'Noise', base, variants, 'line', 'train.sigma')


def main() -> None:
  """Runs the benchmark and writes its result."""
  epochs = _EPOCHS.value
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    experiment.run(make_config(folder, 1), folder / 'compiled')
    runs: dict[int, list[float]] = {epochs: [], 2 * epochs: []}
    for number in range(_ROUNDS.value):
      for count, seconds in runs.items():
        config = make_config(folder, count).base
        config.evaluation.every, config.evaluation.pictures = count, 0
        workdir = folder / f'run {number} {count}'
        run = train.train_and_evaluate
        seconds.append(timing.seconds_of(run, config, workdir))
    sweep = make_config(folder, epochs)
    whole = timing.seconds_of(experiment.run, sweep, folder / 'sweep')
  short, long = (statistics.median(seconds) for seconds in runs.values())
  alone = len(_SIGMAS) * (long - short)
  timing.write(
    'sweep' if jax.default_backend() == 'cpu' else 'sweep_gpu',
    {
      'what': 'a sweep from files to table and figure, against the training '
      'of its heads alone; compiled before',
      'sigmas': len(_SIGMAS),
      'seeds': _SEEDS,
      'categories': 2,
      'epochs': epochs,
      'seconds_of_the_sweep': whole,
      'seconds_of_runs_of_one_sigma': {str(n): s for n, s in runs.items()},
      'seconds_of_the_heads_alone': alone,
      'sweep_over_heads_alone': whole / alone,
    },
  )


if __name__ == '__main__':
  cli.run(main)
