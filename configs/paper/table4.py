"""Table 4: other backbones.

  simplenet sweep --config=paper/table4

Weights come from the hub, or from files: --config.weights.resnet18=FILE. The
noise belongs to torchvision's first weights, whatever the backbone; with others
set --config.base.train.sigma, too.
"""

from simplenet_jax.sweeps import settings

# Image and pixel AUROC (Liu et al., CVPR 2023), in percent: means over MVTec AD
# of the epoch that is best on the test images.
PAPER = {
  'resnet18': (98.3, 95.7),
  'resnet50': (99.6, 98.0),
  'resnet101': (99.2, 97.6),
  'wide_resnet50_2': (99.6, 98.1),
}


def get_config(base=None):
  """Returns the sweep; `base` is `reference` (default), `paper` or `demo`."""
  return settings.sweep(
    'table4',
    'Backbones (Table 4)',
    settings.base(base),
    {name: {'backbone.name': name} for name in settings.BACKBONES},
    paper=PAPER,
  )
