"""SimpleNet on generated images, without a download.

  simplenet train --config=demo

Textures and objects with defects are generated under data/demo, and the
backbone's weights are installed with the package. It shows a run from end to
end.
"""

from simplenet_jax.config import from_protocol


def get_config():
  """Returns the settings."""
<<<<<<< HEAD
  config = from_protocol('fast')
=======
  config = from_protocol('combined')
>>>>>>> 477ca7f (Guides of the recipe; the demo stands on it)
  config.name = 'demo'
  config.protocol = 'demo'
  config.data.source = 'demo'
  config.data.root = 'data/demo'
  config.data.resize, config.data.crop = 192, 0
<<<<<<< HEAD
  config.data.mask_rule = 'half'
  # As it was trained; its levels have 40 and 112 channels.
  config.backbone.name = 'efficientnet_lite0'
  config.backbone.padding, config.backbone.probe = 'zeros', False
  config.patch.pretrain_dim = config.patch.target_dim = 256
  config.head.hidden = 256
  config.train.epochs = 60
=======
  config.backbone.name = 'efficientnet_lite0'
  # Of each category 20 good images are kept for its threshold.
  config.seeds, config.train.folds = (0,), False
>>>>>>> 477ca7f (Guides of the recipe; the demo stands on it)
  return config
