"""SimpleNet on your own folder of images.

  simplenet train --config=folder \
    --config.data.root=FOLDER

FOLDER holds train/good with good images, or several such folders, one per kind
of part. test/good, test/<defect> and ground_truth/<defect> are used where they
are there. The whole image is seen, whatever its aspect: nothing is cropped.

The recipe `combined` adds two scores of a patch, each in units of its own
spread: its distance to the nearest of 4,000 good patches, and that of heads
trained for 500 steps, if not an epoch takes more (docs/study.md). The heads
learn from noise, and from 400 defects that are pasted on the good images.
configs/folder.py:nearest takes the distance alone and trains nothing; :fast,
:reference and :paper train heads alone, the last two as the released code does
and as the paper says. Columns beside theirs tell what distances alone are worth
on this part.

Without an accelerator the backbone is the small efficientnet_lite0, whose
weights are installed with the package; with one it is wide_resnet50_2, whose
weights are downloaded. --config.backbone.name=resnet18, and others, choose;
:reference and :paper always take wide_resnet50_2.

Thresholds come from validation/good. Without one, each of the four heads leaves
out another quarter of the good images and scores it, so that none is lost; with
the other choices a tenth of train/good, at least 20 images (but not more than a
quarter), is held out and not trained on.
"""

from simplenet_jax.config import from_protocol

BANK = 4000  # Good patches.


def get_config(protocol=None):
  """Returns the settings of `combined` or of another protocol."""
  alone = protocol == 'nearest'
  config = from_protocol('combined' if alone else protocol or 'combined')
  config.name = 'folder'
  config.data.resize = config.data.crop
  config.data.crop = 0
  config.data.mask_rule = 'half'
  config.evaluation.baseline = BANK
  if config.protocol not in ('reference', 'paper'):
    config.backbone.name = 'auto'
  if config.protocol != 'combined' or alone:
    config.data.held_out = 0.1
  if config.protocol == 'fast':
    config.train.min_steps = 1000  # Few images would make too few steps.
  if alone:
    config.protocol = 'nearest'
    config.seeds, config.train.folds, config.train.pasted = (0,), False, 0
    config.nearest.head, config.evaluation.baseline = 0.0, 0
  return config
