"""SimpleNet on generated images, without a download.

  simplenet train --config=demo

The recipe is that of configs/folder.py, but no defects are pasted; demo.py:fast
trains heads alone. Textures and objects with defects are generated under
data/demo, and the backbone's weights are installed with the package. It shows a
run from end to end.
"""

from simplenet_jax.config import from_protocol


def get_config(protocol=None):
  """Returns the settings of `combined` (default), or of `fast`: heads alone."""
  if protocol not in (None, 'combined', 'fast'):
    raise ValueError(f'protocol is {protocol!r}; choose combined or fast')
  config = from_protocol(protocol or 'combined')
  if config.protocol == 'fast':
    # The small backbone's levels have 40 and 112 channels.
    config.patch.pretrain_dim = config.patch.target_dim = 256
    config.head.hidden, config.train.epochs = 256, 60
    config.backbone.padding, config.backbone.probe = 'zeros', False
  config.name = 'demo'
  config.protocol = 'demo'
  config.data.source = 'demo'
  config.data.root = 'data/demo'
  config.data.resize, config.data.crop = 192, 0
  config.data.mask_rule = 'half'
  config.backbone.name = 'efficientnet_lite0'
  # Of each category 20 good images are kept for its threshold.
  config.seeds, config.train.folds = (0,), False
  config.train.pasted = 0  # Its defects are found without, and sooner.
  return config
