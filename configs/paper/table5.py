"""Table 5: CIFAR-10, one class against the others, image AUROC.

simplenet download --dataset=cifar10
simplenet sweep --config=paper/table5
"""

from simplenet_jax.config import load_config
from simplenet_jax.sweeps import settings


def get_config(base=None):
  """Returns the sweep; `base` is `paper` (default), `reference` or `demo`."""
  if base == 'demo':
    chosen = settings.base(base)
  else:
    chosen = load_config(f'cifar10:{base or "paper"}')
  return settings.sweep(
    'table5',
    'One class of CIFAR-10 against the others (Table 5)',
    chosen,
    {'SimpleNet': {}},
    view='categories',
  )
