"""SimpleNet on MVTec AD.

  simplenet download --dataset=mvtec_ad --accept_license
  simplenet train --config=mvtec
  simplenet train --config=mvtec:paper

The second follows the released code (resize 329, crop 288, batches of 8, its
reflected borders and its probed BatchNorm statistics), the third the paper's
text (256, 224, batches of 4, the backbone as it was trained). The data set is
expected under data/mvtec, one folder per category; --config.data.root names
another place, and --config.data.source=tfds reads what TFDS has prepared.
"""

from simplenet_jax.config import from_protocol


def get_config(protocol=None):
  """Returns the settings of `reference` (default), `paper` or `fast`."""
  config = from_protocol(protocol)
  config.name = 'mvtec'
  config.data.root = 'data/mvtec'
  config.data.dataset = 'mvtec_ad'
  return config
