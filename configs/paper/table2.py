"""Table 2: which levels of the backbone features come from.

simplenet sweep --config=paper/table2
"""

from simplenet_jax.sweeps import settings

# Image and pixel AUROC (Liu et al., CVPR 2023), in percent: means over MVTec AD
# with a WideResNet50-2, of the epoch that is best on the test images.
PAPER = {
  '1': (93.0, 94.2),
  '2': (98.4, 96.7),
  '3': (99.2, 97.5),
  '1+2': (96.7, 96.7),
  '2+3': (99.6, 98.1),
  '1+2+3': (99.1, 98.1),
}


def get_config(base=None):
  """Returns the sweep; `base` is `reference` (default), `paper` or `demo`."""
  chosen = ((1,), (2,), (3,), (1, 2), (2, 3), (1, 2, 3))
  return settings.sweep(
    'table2',
    'Levels of the backbone (Table 2)',
    settings.base(base),
    {
      '+'.join(map(str, levels)): {'backbone.levels': levels}
      for levels in chosen
    },
    paper=PAPER,
  )
