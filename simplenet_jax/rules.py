"""What each field of a run's settings must fulfil; nothing imports jax."""

import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

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
      all(type(seed) is int and 0 <= seed < 2**32 for seed in x)
      and len(x) == len(set(x)) > 0
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
  'data.categories': (
    lambda x: all(isinstance(name, str) for name in x),
    "names, such as ('screw', '01')",
  ),
  'data.demo_seed': _COUNT,
  'data.workers': _COUNT,
  'data.held_out': (lambda x: 0 <= x < 1, 'from 0 to below 1'),
  'data.held_out_least': _COUNT,
  'backbone.levels': (
    lambda x: (
      all(type(level) is int and 1 <= level <= 4 for level in x)
      and len(x) == len(set(x)) > 0
    ),
    'one or more different numbers from 1 to 4, such as 2,3',
  ),
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
  'train.min_steps': _COUNT,
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

_TYPES = {
  bool: 'True or False',
  int: 'a whole number',
  float: 'a number',
  str: 'a text',
  tuple: 'a tuple',
}


def misfits(
  config: Any, model: Any, known: Sequence[str], prefix: str = ''
) -> Iterator[str]:
  """Yields what is wrong with the fields of settings, whatever their range.

  Args:
    config: The settings, or a section of them.
    model: Settings that have every field, with a value of its type.
    known: The paths of all fields, to suggest the one that was meant.
    prefix: Path of the section.

  Yields:
    A sentence for each field that no setting has or whose value has another
    type than the model's, and one for all that are missing.
  """
  for name in config:
    if name not in model:
      field = prefix + name
      yield f'there is no --config.{field}{suggestion(field, known)}'
  if missing := [prefix + name for name in model if name not in config]:
    yield (
      f'there must be {", ".join(f"--config.{name}" for name in missing)}; '
      'start from protocols.reference(), as the files in configs do'
    )
  for name in set(config) & set(model):
    field, value = prefix + name, config[name]
    if isinstance(model[name], ConfigDict):
      if isinstance(value, ConfigDict):
        yield from misfits(value, model[name], known, f'{field}.')
      else:
        yield f'--config.{field} is {value!r}, expected a section'
    elif not _is_like(value, model[name]):
      yield (
        f'--config.{field} is {value!r}, expected {_TYPES[type(model[name])]}'
      )


def _is_like(value: Any, model: Any) -> bool:
  """Returns whether a value is of a type that can replace the model's."""
  if type(model) is float:
    return type(value) in (int, float)
  if type(model) is tuple:
    return isinstance(value, (tuple, list))
  return isinstance(value, type(model)) and (
    type(model) is bool or not isinstance(value, bool)
  )


def suggestion(path: str, known: Sequence[str]) -> str:
  """Returns a question for the field that was meant, or nothing.

  Args:
    path: A field that there is not, such as 'train.epoch'.
    known: Those that there are.
  """
  sections = {field.rpartition('.')[0] for field in known} - {''}
  close = difflib.get_close_matches(path, [*known, *sections], n=1)
  by_name = {field.split('.')[-1]: field for field in known}
  names = difflib.get_close_matches(path.split('.')[-1], by_name, n=1)
  close += [by_name[name] for name in names]
  return f'; did you mean --config.{close[0]}?' if close else ''


def framing(data: Any, usual: Any) -> str:
  """Returns what a crop leaves out or adds, where it does not fit the resize.

  Args:
    data: The `data` section of settings, checked.
    usual: That of the protocol they follow, or None.

  Returns:
    A sentence with the remedy; nothing where as much of an image is seen as the
    protocol lets see, or all of it.
  """
  resize, crop = data.resize, data.crop
  remedy = 'set both, or --config.data.crop=0 to see the whole image'
  if crop > resize:
    return (
      f'resize {resize} is smaller than crop {crop}: every image gets a black '
      f'frame of {(crop - resize + 1) // 2} pixels; {remedy}'
    )
  if not crop or not usual or crop == resize:
    return ''
  if abs(crop / resize - usual.crop / usual.resize) < 0.005:
    return ''
  return (
    f'crop is {crop} of an image whose shorter side is resized to {resize}: '
    f'{100 * (crop / resize) ** 2:.0f} % of a square image is seen; {remedy}'
  )
