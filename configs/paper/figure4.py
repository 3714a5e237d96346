"""Figure 4: how far each dimension spreads before and after the adaptor.

simplenet sweep --config=paper/figure4
"""

from simplenet_jax.sweeps import settings


def get_config(base=None):
  """Returns the sweep; `base` is `reference` (default), `paper` or `demo`."""
  return settings.sweep(
    'figure4',
    'Standard deviation of each dimension, before and after the adaptor '
    '(Figure 4)',
    settings.base(base),
    {'SimpleNet': {}},
    view='deviations',
  )
