"""The demo's settings with a ResNet18 in place of its small backbone."""

from simplenet_jax.config import Config, from_protocol

# The heads' noise must fit the size of the features: about a third of their
# deviation for so short a training.
SIGMA = 0.05
EPOCHS = 12
_FASTER = 3  # Times the learning rates, for so few epochs.


def settings(config: Config, source: str, sigma: float = SIGMA) -> Config:
  """Returns settings that train heads on a ResNet18's features.

  Args:
    config: The demo's; left as they are.
    source: Where the weights are.
    sigma: Of the heads' noise.
  """
  config = config.copy_and_resolve_references()
  config.backbone.name, config.backbone.weights = 'resnet18', source
  config.patch.pretrain_dim = config.patch.target_dim = 384
  config.head.hidden = 256
  config.train = from_protocol().train
  config.train.sigma, config.train.epochs = sigma, EPOCHS
  config.train.adaptor.learning_rate *= _FASTER
  config.train.discriminator.learning_rate *= _FASTER
  return config
