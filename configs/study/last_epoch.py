"""Is the last epoch as good as the best test epoch of the reference?

  simplenet sweep --config=study/last_epoch \
    --config.base.seeds=0,1,2,3,4

The recipe `fast` beside the reference. `last_epoch.py:small` does it on small
images and with narrow heads, where there is no accelerator. ablation.py is how
the recipe was found, docs/last_epoch.md what came of both.
"""

from simplenet_jax.config import flatten, from_protocol
from simplenet_jax.sweeps import settings


def get_config(base=None):
  """Returns the sweep; `base` is `reference`, `small`, `paper` or `demo`."""
  if base == 'fast':
    raise ValueError('fast is what is compared; choose another base')
  small = base == 'small'
  chosen = settings.base(None if small else base)
  fast = {
    field: value
    for field, value in flatten(from_protocol('fast')).items()
    if field.startswith(('train.', 'evaluation.every'))
  }
  if small:  # Small images and narrow heads.
    chosen.data.resize, chosen.data.crop = 164, 144
    chosen.patch.pretrain_dim = chosen.patch.target_dim = 384
    chosen.head.hidden = 384
    chosen.precision = 'bfloat16'
    # Small images have fewer patches, of which as many are drawn.
    fast |= {'train.epochs': 57, 'evaluation.every': 3}
  return settings.sweep(
    'last_epoch',
    'Last epochs against the best test epoch',
    chosen,
    {chosen.protocol: {}, 'fast': fast},
  )
