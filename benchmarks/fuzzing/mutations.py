"""What can happen to the bytes of a file."""

import io
import os
import pickle
import struct
import zipfile
from random import Random

# Whole numbers that readers trip over, as 1, 2, 4 or 8 bytes.
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63)


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
  number = chance.choice(_NUMBERS) % (1 << 8 * struct.calcsize(form))
  return _put(content, _place(chance, content), struct.pack(form, number))


_WAYS = (
  _set_number,
  lambda chance, content: _put(content, _place(chance, content), bytes(64)),
  lambda chance, content: content[: _place(chance, content)],
  lambda chance, content: content + chance.randbytes(chance.choice((1, 5000))),
)
