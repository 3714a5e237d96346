"""Table 3: a more complex adaptor, none, and the cross-entropy loss.

python -m simplenet_jax.sweep --config=configs/paper/table3.py
"""

from simplenet_jax.sweeps import settings


def get_config(base=None):
  """Returns the sweep; `base` is `reference` (default), `paper` or `demo`."""
  return settings.sweep(
    'table3',
    'Adaptor and loss (Table 3)',
    settings.base(base),
    {
      'linear': {},
      'non-linear': {'head.adaptor': 'mlp'},
      'none': {'head.adaptor': 'identity'},
      'cross-entropy': {'train.loss': 'cross_entropy'},
    },
  )
