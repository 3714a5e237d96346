"""SimpleNet on VisA, with the data set's own split for normal images.

  simplenet download --dataset=visa
  simplenet train --config=visa

The images are half again as wide as high, and defects lie at their borders as
well: nothing is cropped, the whole image is seen.
"""

from simplenet_jax.config import from_protocol


def get_config(protocol=None):
  """Returns the settings of `reference` (default), `paper` or `fast`."""
  config = from_protocol(protocol)
  config.name = config.data.dataset = 'visa'
  config.data.root = 'data/visa'
  config.data.resize, config.data.crop = config.data.crop, 0
  config.data.mask_rule = 'half'
  return config
