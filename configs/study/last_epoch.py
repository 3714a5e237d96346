"""Is the last epoch as good as the best test epoch of the reference?

  python -m simplenet_jax.sweep --config=configs/study/last_epoch.py \
    --config.base.seeds=0,1,2,3,4

The recipe `fast`, and what becomes of it without each of its parts, beside the
reference, on features that are made once for all. `last_epoch.py:small` does it
on small images and with narrow heads, where there is no accelerator.
docs/last_epoch.md has what came of it.
"""

from simplenet_jax import protocols
from simplenet_jax.sweeps import settings

_HEADS = ('train.', 'evaluation.every')


def _shrink(base):
  """Makes it a study of small images and narrow heads."""
  base.data.resize, base.data.crop = 164, 144
  base.patch.pretrain_dim = base.patch.target_dim = base.head.hidden = 384
  base.precision = 'bfloat16'


def get_config(base=None):
  """Returns the sweep.

  Args:
    base: `reference` (default), `small`, `paper` or `demo`.
  """
  if base == 'fast':
    raise ValueError('fast is what is compared; choose another base')
  small = base == 'small'
  chosen = settings.base(None if small else base)
  before, fast = (
    {
      field: value
      for field, value in protocols.leaves(protocol())
      if field.startswith(_HEADS)
    }
    for protocol in (protocols.reference, protocols.fast)
  )
  if small:
    _shrink(chosen)
    # Small images have fewer patches, of which as many are drawn.
    fast |= {'train.epochs': 60, 'evaluation.every': 3}
  sigma, epochs = fast['train.sigma'], fast['train.epochs']
  constant = {'train.schedule': 'constant', 'train.warmup': 0.0}
  # Of few images a step, at about the same cost.
  whole = {'train.patches': 0, 'train.batch_size': 8, 'train.epochs': 12}
  return settings.sweep(
    'last_epoch',
    'Last epochs against the best test epoch',
    chosen,
    {
      chosen.protocol: {},
      'fast': fast,
      'margin loss': fast | {'train.loss': 'truncated_l1'},
      'constant rates': fast | constant,
      'constant rates, averaged': fast | constant | {'train.average': 8.0},
      'averaged': fast | {'train.average': 8.0},
      'low rates': fast
      | {
        'train.adaptor.learning_rate': before['train.adaptor.learning_rate'],
        'train.discriminator.learning_rate': before[
          'train.discriminator.learning_rate'
        ],
      },
      'half the noise': fast | {'train.sigma': sigma / 2},
      'twice the noise': fast | {'train.sigma': sigma * 2},
      'non-linear adaptor': fast | {'head.adaptor': 'mlp'},
      'whole images': fast | whole | {'evaluation.every': 1},
      'a quarter of the epochs': fast
      | {'train.epochs': epochs // 4, 'evaluation.every': 1},
    },
    view='gap',
  )
