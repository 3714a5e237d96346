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
      label: {'head.adaptor': adaptor, 'train.loss': loss}
      for label, adaptor, loss in (
        ('linear', 'linear', 'truncated_l1'),
        ('non-linear', 'mlp', 'truncated_l1'),
        ('none', 'identity', 'truncated_l1'),
        ('cross-entropy', 'linear', 'cross_entropy'),
      )
    },
  )
