"""SimpleNet on generated images, without a download.

  simplenet train --config=demo

Textures and objects with defects are generated under data/demo, and the
backbone's weights are installed with the package. It shows a run from end to
end.
"""

from simplenet_jax.config import from_protocol


def get_config():
  """Returns the settings."""
  config = from_protocol('combined')
  config.name = 'demo'
  config.protocol = 'demo'
  config.data.source = 'demo'
  config.data.root = 'data/demo'
  config.data.resize, config.data.crop = 192, 0
  config.backbone.name = 'efficientnet_lite0'
  # Of each category 20 good images are kept for its threshold.
  config.seeds, config.train.folds = (0,), False
  return config
