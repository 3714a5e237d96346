"""Is the last epoch as good as the best test epoch of the reference?

  python -m simplenet_jax.sweep --config=configs/study/last_epoch.py \
    --config.base.seeds=0,1,2,3,4

The recipe `fast` beside the reference. `last_epoch.py:small` does it on small
images and with narrow heads, where there is no accelerator. ablation.py is how
the recipe was found, docs/last_epoch.md what came of both.
"""

from simplenet_jax.sweeps import settings


def get_config(base=None):
  """Returns the sweep; `base` is `reference`, `small`, `paper` or `demo`."""
  return settings.study(
    'last_epoch',
    'Last epochs against the best test epoch',
    base,
    lambda fast, small: {'fast': fast},
  )
