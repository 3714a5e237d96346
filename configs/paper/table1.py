"""Table 1: image and pixel AUROC of every category of MVTec AD.

simplenet sweep --config=paper/table1
"""

from simplenet_jax.sweeps import settings


def get_config(base=None):
  """Returns the sweep; `base` is `reference` (default), `paper` or `demo`."""
  return settings.sweep(
    'table1',
    'Every category (Table 1)',
    settings.base(base),
    {'SimpleNet': {}},
    view='categories',
  )
