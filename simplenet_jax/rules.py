"""What each field of a run's settings must fulfil; nothing imports jax."""

import math
from collections.abc import Callable
from typing import Any

# Of matrix products.
PRECISIONS = ('float32', 'tensorfloat32', 'bfloat16')

_SIDE = 2**14  # Pixels.
_MOST = 2**31 - 1  # What devices count to.
_POSITIVE = (lambda x: 1 <= x <= _MOST, f'from 1 to {_MOST}')
_COUNT = (lambda x: 0 <= x <= _MOST, f'from 0 to {_MOST}')
_GIGABYTES = (lambda x: 0 <= x <= 1e6, 'from 0 to a million')
_NOT_NEGATIVE = (lambda x: 0 <= x < math.inf, 'at least 0')
_ABOVE_ZERO = (lambda x: 0 < x < math.inf, 'above 0')


def _one_of(*choices):
  return (lambda x: x in choices, f'one of {", ".join(choices)}')


# What each field must fulfil. Names of backbones, adaptors and losses are
# checked where they are looked up.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
  'seeds': (
    lambda x: (
      len(x) == len(set(x)) > 0
      and all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in x)
    ),
    'one or more different whole numbers from 0 up, such as 0,1,2',
  ),
  'precision': _one_of(*PRECISIONS),
  'data.source': _one_of('folder', 'cifar10', 'tfds', 'demo'),
  'data.resize': (lambda x: 32 <= x <= _SIDE, f'from 32 to {_SIDE} pixels'),
  'data.crop': (
    lambda x: x == 0 or 32 <= x <= _SIDE,
    f'0 (no crop), or from 32 to {_SIDE}',
  ),
  'data.bits': (lambda x: 8 <= x <= 16, 'from 8 to 16'),
  'data.mask_rule': _one_of('reference', 'half'),
  'data.demo_seed': _COUNT,
  'data.workers': _COUNT,
  'data.held_out': (lambda x: 0 <= x < 1, 'from 0 to below 1'),
  'data.held_out_least': _COUNT,
  'backbone.batch_size': _POSITIVE,
  'bank.dtype': _one_of('float32', 'bfloat16', 'float16'),
  'bank.device_gb': _GIGABYTES,
  'bank.host_gb': _GIGABYTES,
  'engine.devices': _COUNT,
  'engine.lanes': _COUNT,
  'engine.checkpoint_seconds': _NOT_NEGATIVE,
  'patch.size': (lambda x: 1 <= x <= 255, 'from 1 to 255'),
  'patch.pretrain_dim': _POSITIVE,
  'patch.target_dim': _POSITIVE,
  'head.hidden': _POSITIVE,
  'train.epochs': _POSITIVE,
  'train.batch_size': _POSITIVE,
  'train.patches': _COUNT,
  'train.schedule': _one_of('constant', 'cosine'),
  'train.warmup': (lambda x: 0 <= x < 1, 'from 0 to below 1'),
  'train.average': _NOT_NEGATIVE,
  'train.noise': _one_of('absolute', 'relative'),
  'train.margin': _NOT_NEGATIVE,
  'train.sigma': _ABOVE_ZERO,
  'train.adaptor.learning_rate': _ABOVE_ZERO,
  'train.adaptor.weight_decay': _NOT_NEGATIVE,
  'train.discriminator.learning_rate': _ABOVE_ZERO,
  'train.discriminator.weight_decay': _NOT_NEGATIVE,
  'evaluation.every': _POSITIVE,
  'evaluation.smoothing': _NOT_NEGATIVE,
  'evaluation.pictures': _COUNT,
  'detector.false_alarm_rate': (lambda x: 0 < x < 1, 'between 0 and 1'),
}
