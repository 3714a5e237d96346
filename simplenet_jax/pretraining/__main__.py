"""Trains the demo's backbone: `python -m simplenet_jax.pretraining`."""

import pathlib

from absl import flags, logging

from simplenet_jax import cli
from simplenet_jax.pretraining import train

_OUTPUT = flags.DEFINE_string(
  'output', None, 'Folder for the rendered images and the weights.'
)
_ARCHITECTURE = flags.DEFINE_string(
  'architecture', 'demo_resnet', 'Which network to train.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of images, weights and batches.')
_CLASSES = flags.DEFINE_integer(
  'classes', 1600, 'How many recipes of images.', lower_bound=2
)
_PAIRS = flags.DEFINE_integer(
  'pairs', 12, 'Pairs of images of each recipe.', lower_bound=1
)
_STEPS = flags.DEFINE_integer('steps', 3000, 'Training steps.', lower_bound=1)
_BATCH = flags.DEFINE_integer('batch', 64, 'Images a step.', lower_bound=2)
_LEARNING_RATE = flags.DEFINE_float(
  'learning_rate', 2e-3, 'The highest learning rate.', lower_bound=0
)
_EVERY = flags.DEFINE_integer(
  'save_every', 500, 'Steps between saved weights.', lower_bound=1
)


cli.require('output')


def main() -> None:
  """Renders, trains and saves as the flags say."""
  logging.set_verbosity(logging.INFO)
  options = train.Options(
    architecture=_ARCHITECTURE.value,
    seed=_SEED.value,
    classes=_CLASSES.value,
    pairs=_PAIRS.value,
    steps=_STEPS.value,
    batch=_BATCH.value,
    learning_rate=_LEARNING_RATE.value,
  )
  train.run(pathlib.Path(str(_OUTPUT.value)), options, _EVERY.value)


if __name__ == '__main__':
  cli.run(main)
