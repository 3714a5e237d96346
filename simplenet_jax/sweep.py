"""Runs an experiment: a run per variant, numbers and figures.

  simplenet sweep --config=paper/table3

Fields of every run are set as in --config.base.seeds=0,1, some variants
chosen as in --config.only=3,2+3. Sweeps with the same --workdir and base share
runs that have the same settings. Several processes share a sweep by --process
and --processes, see launch/.
"""

from absl import flags

from simplenet_jax import cli, environment
from simplenet_jax.console import doing
from simplenet_jax.sweeps import settings

_CONFIG = cli.define_config('The settings of the sweep.', of_sweep=True)
environment.define_flags()
cli.require('config')


def main() -> None:
  """Runs the sweep that the config describes."""
  config = _CONFIG.value
  config.base.data.strict |= flags.FLAGS.strict
  # Wrong flags are refused before JAX is loaded, which takes seconds.
  settings.expand(config)
  own = environment.from_flags()
  with cli.workdir(flags.FLAGS.workdir, config.name) as workdir:
    with doing('loads JAX'):
      from simplenet_jax.sweeps import experiment

    experiment.run(config, workdir, own)


if __name__ == '__main__':
  cli.run(main)
