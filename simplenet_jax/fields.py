"""Every setting of a run: its default, its meaning, and the values it takes.

They stand in `assets/settings.json`, and the defaults are those of the protocol
`reference`. Nothing here imports jax.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from simplenet_jax.files import ASSETS, read_json

# The precisions of matrix products.
PRECISIONS = ('float32', 'tensorfloat32', 'bfloat16')

_SIDE = 2**14  # Pixels.

# What values of a type are called, and which types stand for it.
TYPES = {
  bool: ('True or False', (bool,)),
  int: ('a whole number', (int,)),
  float: ('a number', (int, float)),
  str: ('a text', (str,)),
  tuple: ('a tuple', (tuple, list)),
}


class Rule(NamedTuple):
  """Which values a setting takes: a test, and the words for it."""

  accepts: Callable[[Any], bool]
  allowed: str


class Field(NamedTuple):
  """A setting of a run; without a rule it takes any value of its type."""

  default: Any
  meaning: str
  rule: Rule | None = None


def _one_of(choices: tuple[str, ...]) -> Rule:
  return Rule(lambda x: x in choices, f'one of {", ".join(choices)}')


def _within(low: int, high: int, what: str = '') -> Rule:
  return Rule(lambda x: low <= x <= high, f'from {low} to {high}{what}')


_MOST = 2**31 - 1  # What devices count to.
_RULES = {
  'above zero': Rule(lambda x: 0 < x < math.inf, 'above 0'),
  'bank': Rule(
    lambda x: x == 0 or 16 <= x <= 2**20, '0, or from 16 to a million'
  ),
  'count': _within(0, _MOST),
  'crop': Rule(
    lambda x: x == 0 or 32 <= x <= _SIDE, f'0, or from 32 to {_SIDE}'
  ),
  'gigabytes': Rule(lambda x: 0 <= x <= 1e6, 'from 0 to a million'),
  'levels': Rule(
    lambda x: len(x) > 0 and list(x) == [n for n in (1, 2, 3) if n in x],
    'ascending numbers from 1 to 3, such as 2,3',
  ),
  'names': Rule(
    lambda x: set(map(type, x)) <= {str}, 'names, such as screw,01'
  ),
  'not negative': Rule(lambda x: 0 <= x < math.inf, 'at least 0'),
  'positive': _within(1, _MOST),
  'precision': _one_of(PRECISIONS),
  'rate': Rule(lambda x: 0 < x < 1, 'between 0 and 1'),
  'resize': _within(32, _SIDE, ' pixels'),
  'seeds': Rule(
    lambda x: (
      0 < len(x) == len({n for n in x if type(n) is int and n >> 32 == 0})
    ),
    'one or more different whole numbers from 0 up, such as 0,1,2',
  ),
  'share': Rule(lambda x: 0 <= x < 1, 'from 0 to below 1'),
}


def as_value(stored: Any) -> Any:
  """Returns a setting as JSON keeps it: its lists are tuples."""
  return tuple(stored) if isinstance(stored, list) else stored


def _field(default: Any, meaning: str, takes: Any = None) -> Field:
  """Reads a row; it takes choices, a lowest and highest, or names a rule."""
  rule = _RULES[takes] if isinstance(takes, str) else None
  if isinstance(takes, list):
    is_text = isinstance(takes[0], str)
    rule = _one_of(tuple(takes)) if is_text else _within(*takes)
  return Field(as_value(default), meaning, rule)


TABLES = read_json(ASSETS / 'settings.json')
FIELDS = {name: _field(*one) for name, one in TABLES['settings'].items()}


def resolved(values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns settings, by path, with the type that `bank.dtype=auto` means."""
  halves = values['precision'] == 'bfloat16'
  auto = {'auto': 'bfloat16' if halves else 'float32'}
  stored = values['bank.dtype']
  return {**values, 'bank.dtype': auto.get(stored, stored)}
