"""Figure 7: the loss, mean and range over categories, with and without adaptor.

simplenet sweep --config=paper/figure7
"""

from simplenet_jax.sweeps import settings


def get_config(base=None):
  """Returns the sweep; `base` is `reference` (default), `paper` or `demo`."""
  return settings.sweep(
    'figure7',
    'Loss by epoch (Figure 7)',
    settings.base(base),
    {
      'linear': {'head.adaptor': 'linear'},
      'non-linear': {'head.adaptor': 'mlp'},
      'none': {'head.adaptor': 'identity'},
    },
    view='losses',
  )
