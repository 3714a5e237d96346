"""SimpleNet on BTAD, three kinds of industrial parts.

  simplenet download --dataset=btad --accept_license
  simplenet train --config=btad

The whole image is seen, whatever its aspect.
"""

from simplenet_jax.config import from_protocol


def get_config(protocol=None):
  """Returns the settings of `reference` (default), `paper` or `fast`."""
  config = from_protocol(protocol)
  config.name = config.data.dataset = 'btad'
  config.data.root = 'data/btad'
  config.data.resize, config.data.crop = config.data.crop, 0
  config.data.mask_rule = 'half'
  return config
