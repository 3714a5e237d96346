"""Table 1: image and pixel AUROC of every category of MVTec AD.

python -m simplenet_jax.sweep --config=configs/paper/table1.py
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
