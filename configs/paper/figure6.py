"""Figure 6: the size of a patch's neighbourhood.

simplenet sweep --config=paper/figure6
"""

from simplenet_jax.sweeps import settings


def get_config(base=None):
  """Returns the sweep; `base` is `reference` (default), `paper` or `demo`."""
  return settings.sweep(
    'figure6',
    'Size of a patch (Figure 6)',
    settings.base(base),
    {str(size): {'patch.size': size} for size in (1, 3, 5, 7, 9)},
    view='line',
    axis='patch.size',
  )
