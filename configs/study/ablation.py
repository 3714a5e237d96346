"""What each part of the recipe `fast` is worth.

  simplenet sweep --config=study/ablation \
    --config.base.seeds=0,1,2,3,4

Every variant is a first form of the recipe with one thing changed; it had less
noise and another number of epochs than `fast` has. `ablation.py:small` is for
machines without accelerators.
"""

from simplenet_jax.config import flatten, from_protocol, load_config
from simplenet_jax.sweeps import settings

# Of the first form.
SIGMA, EPOCHS, EPOCHS_SMALL = 0.18, 100, 60


def _variants(fast, small):
  epochs = EPOCHS_SMALL if small else EPOCHS
  first = fast | {'train.sigma': SIGMA, 'train.epochs': epochs}
  constant = {'train.schedule': 'constant', 'train.warmup': 0.0}
  rates = {
    field: value
    for field, value in flatten(from_protocol('reference')).items()
    if field.endswith('.learning_rate')
  }
  # Of few images a step, at about the same cost.
  whole = {'train.patches': 0, 'train.batch_size': 8, 'train.epochs': 12}
  return {
    'first form': first,
    'margin loss': first | {'train.loss': 'truncated_l1'},
    'constant rates': first | constant,
    'low rates': first | rates,
    'half the noise': first | {'train.sigma': SIGMA / 2},
    'twice the noise': first | {'train.sigma': SIGMA * 2},
    'non-linear adaptor': first | {'head.adaptor': 'mlp'},
    'whole images': first | whole | {'evaluation.every': 1},
    'a quarter of the epochs': first
    | {'train.epochs': epochs // 4, 'evaluation.every': 1},
  }


def get_config(base=None):
  """Returns the sweep; `base` is `reference`, `small`, `paper` or `demo`."""
  study = load_config(f'study/last_epoch:{base or "reference"}')
  (reference, _), (_, fast) = study.variants
  return settings.sweep(
    'ablation',
    'The recipe without each of its parts',
    study.base,
    {reference: {}, **_variants(dict(fast), base == 'small')},
  )
