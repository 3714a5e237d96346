"""SimpleNet on VisA, with the data set's own split for normal images.

  python -m simplenet_jax.download --dataset=visa
  python -m simplenet_jax.main --config=configs/visa.py

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
