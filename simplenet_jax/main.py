"""Trains detectors on good images, and evaluates them.

  simplenet train --config=mvtec

Any field of the config can be overridden, as in --config.seeds=0,1. Several
processes share a run by --process and --processes; see launch/.
"""

from absl import flags

from simplenet_jax import cli, environment
from simplenet_jax.config import check_config
from simplenet_jax.console import doing

_CONFIG = cli.define_config('The settings of the run.')
environment.define_flags()
cli.require('config')


def main() -> None:
  """Runs what the config says."""
  config = _CONFIG.value
  config.data.strict |= flags.FLAGS.strict
  # Wrong flags are refused before JAX is loaded, which takes seconds.
  check_config(config)
  own = environment.from_flags()
  with cli.workdir(flags.FLAGS.workdir, config.name) as workdir:
    with doing('loads JAX'):
      from simplenet_jax import train

    train.train_and_evaluate(config, workdir, own)


if __name__ == '__main__':
  cli.run(main)
