"""SimpleNet on your own folder of images.

  simplenet train --config=folder \
    --config.data.root=FOLDER

FOLDER holds train/good with good images, or several such folders, one per kind
of part. test/good, test/<defect> and ground_truth/<defect> are used where they
are there. The whole image is seen, whatever its aspect: nothing is cropped.

Heads train with the recipe `fast`, whose last epoch can be taken, in at least
1,000 steps however few the images are; configs/folder.py:reference trains as
the released code does, configs/folder.py:paper as the paper says.
configs/folder.py:nearest trains no head: its detector scores patches by their
distance to the nearest of 4,000 good ones. The other choices show what such
distances are worth beside their heads: is the training worth it on this part?

With `fast` and no accelerator the backbone is the small efficientnet_lite0,
whose weights are installed with the package; with one it is wide_resnet50_2,
whose weights are downloaded. --config.backbone.name=resnet18, and others,
choose.

Thresholds come from validation/good, or from a tenth of train/good, at least 20
images (but not more than a quarter), which are then not trained on.
"""

from simplenet_jax.config import from_protocol

BANK = 4000  # Good patches.


def get_config(protocol=None):
  """Returns the settings of `fast`, `reference`, `paper` or `nearest`."""
  alone = protocol == 'nearest'
  config = from_protocol('fast' if alone else protocol or 'fast')
  config.name = 'folder'
  config.data.resize = config.data.crop
  config.data.crop = 0
  config.data.mask_rule = 'half'
  config.data.held_out = 0.1
  if config.protocol == 'fast':
    config.train.min_steps = 1000  # Few images would make too few steps.
    config.backbone.name = 'auto'
  config.evaluation.baseline = BANK
  if alone:
    config.protocol = 'nearest'
    config.nearest.size, config.nearest.head = BANK, 0.0
    config.patch.pretrain_dim = config.patch.target_dim = 0
    config.evaluation.score, config.evaluation.baseline = 'map', 0
  return config
