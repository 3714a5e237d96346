"""SimpleNet on your own folder of images.

  simplenet train --config=folder \
    --config.data.root=FOLDER

FOLDER holds train/good with good images, or several such folders, one per kind
of part. test/good, test/<defect> and ground_truth/<defect> are used where they
are there. The whole image is seen, whatever its aspect: nothing is cropped.

Heads train with the recipe `fast`, whose last epoch can be taken, in at least
1,000 steps however few the images are; configs/folder.py:reference trains as
the released code does, configs/folder.py:paper as the paper says.

Thresholds come from validation/good, or from a tenth of train/good, at least 20
images (but not more than a quarter), which are then not trained on.
"""

from simplenet_jax.config import from_protocol


def get_config(protocol=None):
  """Returns the settings of `fast` (default), `reference` or `paper`."""
  config = from_protocol(protocol or 'fast')
  config.name = 'folder'
  config.data.resize = config.data.crop
  config.data.crop = 0
  config.data.mask_rule = 'half'
  config.data.held_out = 0.1
  if config.protocol == 'fast':
    config.train.min_steps = 1000  # Few images would make too few steps.
  return config
