"""SimpleNet on MVTec AD, trained so that the last epoch can be taken.

  simplenet train --config=mvtec_fast

Images, backbone and features are those of configs/mvtec.py. Heads train on
patches drawn from many images, with cross-entropy, learning rates that fall to
zero, and noise in units of the features' own spread: docs/last_epoch.md tells
what that is worth. configs/folder.py trains the same way, and so do
configs/visa.py:fast and its like.
"""

from simplenet_jax.config import load_config


def get_config():
  """Returns the settings."""
  return load_config('mvtec:fast')
