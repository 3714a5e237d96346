"""What can happen to the bytes of a file, and to the values in it.

What stands where a value of some kind is expected may be of any.
"""

import io
import os
import pickle
import struct
import zipfile
from random import Random
from typing import Any

# Whole numbers that readers trip over, as 1, 2, 4 or 8 bytes.
_BYTES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63)
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


class Command:
  """Pickled, it is a command that runs when it is read by what trusts it."""

  def __init__(self, line: str):
    self.line = line

  def __reduce__(self):
    return os.system, (self.line,)


def strangers(line: str) -> list[bytes]:
  """Returns files of other kinds; `line` is a command that must not run."""
  pickled, archive = pickle.dumps(Command(line)), io.BytesIO()
  with zipfile.ZipFile(archive, 'w') as file:
    file.writestr('archive/data.pkl', pickled)
    file.writestr('archive/version', '3\n')
  return [
    b'',
    bytes(4096),
    b'<!DOCTYPE html><html><body>404</body></html>',
    b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n',
    pickled,
    archive.getvalue(),
    'häßlich\r\n\0'.encode('utf-16'),
    b'\x93NUMPY\x01\x00v\x00' + b"{'descr': '|O', " + bytes(99),
    b'[' * 100_000,
  ]


def mutated(chance: Random, content: bytes, line: str = ':') -> bytes:
  """Returns changed content, or a stranger's; `line` must never be run."""
  if chance.random() < 0.1:
    return chance.choice(strangers(line))
  for _ in range(chance.choice((1, 1, 1, 2, 3))):
    content = chance.choice((_flip, _flip, *_WAYS))(chance, content)
  return content


def _place(chance: Random, content: bytes) -> int:
  """Returns a place, as often as not in what is likely to be the header."""
  most = len(content) if chance.random() < 0.5 else min(len(content), 256)
  return chance.randrange(max(most, 1))


def _put(content: bytes, start: int, new: bytes) -> bytes:
  return content[:start] + new + content[start + len(new) :]


def _flip(chance: Random, content: bytes) -> bytes:
  changed = bytearray(content)
  for _ in range(chance.choice((1, 1, 4, 64)) if content else 0):
    changed[_place(chance, content)] ^= 1 << chance.randrange(8)
  return bytes(changed)


def _set_number(chance: Random, content: bytes) -> bytes:
  form = chance.choice(('<B', '<H', '>H', '<I', '>I', '<Q', '>Q'))
  number = chance.choice(_BYTES) % (1 << 8 * struct.calcsize(form))
  return _put(content, _place(chance, content), struct.pack(form, number))


_WAYS = (
  _set_number,
  lambda chance, content: _put(content, _place(chance, content), bytes(64)),
  lambda chance, content: content[: _place(chance, content)],
  lambda chance, content: content + chance.randbytes(chance.choice((1, 5000))),
)


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
