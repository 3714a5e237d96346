"""Table 2: which levels of the backbone features come from.

python -m simplenet_jax.sweep --config=configs/paper/table2.py
"""

from simplenet_jax.sweeps import settings


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
  )
