"""Table 3: a more complex adaptor, none, and the cross-entropy loss.

simplenet sweep --config=paper/table3
"""

from simplenet_jax.sweeps import settings

# Image and pixel AUROC (Liu et al., CVPR 2023), in percent: means over MVTec AD
# with a WideResNet50-2, of the epoch that is best on the test images.
PAPER = {
  'linear': (99.6, 98.1),
  'non-linear': (98.3, 97.2),
  'none': (99.2, 97.9),
  'cross-entropy': (99.4, 97.8),
}


def get_config(base=None):
  """Returns the sweep; `base` is `reference` (default), `paper` or `demo`."""
  return settings.sweep(
    'table3',
    'Adaptor and loss (Table 3)',
    settings.base(base),
    {
      label: {'head.adaptor': adaptor, 'train.loss': loss}
      for label, adaptor, loss in (
        ('linear', 'linear', 'truncated_l1'),
        ('non-linear', 'mlp', 'truncated_l1'),
        ('none', 'identity', 'truncated_l1'),
        ('cross-entropy', 'linear', 'cross_entropy'),
      )
    },
    paper=PAPER,
  )
