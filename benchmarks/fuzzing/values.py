"""Values of any kind where one of some kind is expected."""

from random import Random
from typing import Any

_NUMBERS = (
  *(-1, 0, 1, 2, 3, 31, 32, 255, 4096, 65536, 2**31 - 1, 2**31, 2**32, 2**63),
  *(10**18, 10**40, -(2**63), 1e-40, 1e-9, 0.5, 1.0, 1.5, 1e9, 1e38, 1e308),
  *(float('nan'), float('inf'), -float('inf')),
)
_CHOICES = ('demo', 'float16', 'folder', 'linear', 'adam')
_TEXTS = (
  '', ' ', 'None', 'True', 'no', '0x10', '1e3', '1_000', '1,2', '(1,2)', '[]',
  '{}', '{"a": 1}', 'a' * 5000, 'é', '日本', '😀', '\u202e', '\n', '\t', "'",
  '"', '`id`', '$(id)', '../..', '/', '.', '~', '-', '--help', '%s', '{0}',
  '/dev/zero', '/dev/null', *_CHOICES,
)  # fmt: skip


def text(chance: Random) -> str:
  """Returns what may stand behind a flag."""
  draw = chance.random()
  if draw < 0.9:
    return str(chance.choice(_NUMBERS if draw < 0.5 else _TEXTS))
  parts = chance.choices((*_NUMBERS, *_TEXTS), k=chance.randrange(1, 6))
  return ','.join(map(str, parts))


def value(chance: Random, depth: int = 2) -> Any:
  """Returns what may stand in JSON."""
  draw = chance.random()
  if depth and draw < 0.15:
    return [value(chance, depth - 1) for _ in range(chance.randrange(4))]
  if depth and draw < 0.25:
    return {text(chance): value(chance, depth - 1) for _ in range(2)}
  if draw < 0.4:
    return chance.choice((None, True, False))
  return chance.choice(_NUMBERS if draw < 0.75 else _TEXTS)


def near(chance: Random, usual: Any) -> str:
  """Returns another value of the kind that a setting has."""
  match usual:
    case bool():
      return chance.choice(('true', 'false'))
    case int():
      return str(chance.choice((0, 1, 2, 3, usual + 1, 2 * usual, 33, 1000)))
    case float():
      return str(
        chance.choice((0.0, 1e-6, usual / 2, 2 * usual, 0.99, 1.0, 30.0))
      )
    case tuple() | list():
      return ','.join(map(str, chance.sample(range(5), chance.randrange(1, 4))))
  return chance.choice((*_CHOICES, '/dev/zero', usual))


def spoiled(chance: Random, found: Any) -> Any:
  """Returns JSON with one thing in it changed, removed or added."""
  if isinstance(found, dict) and found and chance.random() < 0.9:
    name, draw = chance.choice(list(found)), chance.random()
    if draw < 0.1:
      return {key: one for key, one in found.items() if key != name}
    if draw < 0.15:
      return {**found, text(chance): value(chance)}
    return {**found, name: spoiled(chance, found[name])}
  if isinstance(found, list) and found and chance.random() < 0.8:
    place = chance.randrange(len(found))
    changed = spoiled(chance, found[place])
    return [*found[:place], changed, *found[place + 1 :]]
  return value(chance)
