"""What can happen to the bytes of a file."""

import io
import os
import pickle
import random
import struct
import zipfile

# Whole numbers that readers trip over, as 1, 2, 4 or 8 bytes.
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63)


class Command:
  """Pickled, it is a command that runs when it is read by what trusts it."""

  def __init__(self, line: str):
    """Notes a command line."""
    self.line = line

  def __reduce__(self):
    """Has whoever reads it run the line."""
    return os.system, (self.line,)


def commanding(line: str) -> bytes:
  """Returns a pickle that runs a command line when it is trusted."""
  return pickle.dumps(Command(line))


def strangers(line: str) -> dict[str, bytes]:
  """Returns files of other kinds than any that is asked for.

  Args:
    line: A command line that must not run.
  """
  archive = io.BytesIO()
  with zipfile.ZipFile(archive, 'w') as file:
    file.writestr('archive/data.pkl', commanding(line))
    file.writestr('archive/version', '3\n')
  return {
    'nothing': b'',
    'zeros': bytes(4096),
    'a page': b'<!DOCTYPE html><html><body>404</body></html>',
    'a pointer': b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n',
    'a pickle': commanding(line),
    'a zip': archive.getvalue(),
    'text': 'häßlich\r\n\0'.encode('utf-16'),
    'an array': b'\x93NUMPY\x01\x00v\x00' + b"{'descr': '|O', " + bytes(99),
    'json': b'[' * 100_000,
  }


def mutated(chance: random.Random, content: bytes, line: str = ':') -> bytes:
  """Returns a file's content, changed in one to three ways.

  Args:
    chance: Where randomness comes from.
    content: What the file held.
    line: A command line that must not run.
  """
  if chance.random() < 0.1:
    return chance.choice(list(strangers(line).values()))
  changed = bytearray(content)
  for _ in range(chance.choice((1, 1, 1, 2, 3))):
    changed = chance.choice(_WAYS)(chance, changed)
  return bytes(changed)


def _place(chance: random.Random, content: bytearray) -> int:
  """Returns a place, as often as not in what is likely to be the header."""
  most = len(content) if chance.random() < 0.5 else min(len(content), 256)
  return chance.randrange(max(most, 1))


def _flip(chance: random.Random, content: bytearray) -> bytearray:
  for _ in range(chance.choice((1, 1, 4, 64)) if content else 0):
    content[_place(chance, content)] ^= 1 << chance.randrange(8)
  return content


def _cut(chance: random.Random, content: bytearray) -> bytearray:
  return content[: _place(chance, content)]


def _lengthen(chance: random.Random, content: bytearray) -> bytearray:
  return content + chance.randbytes(chance.choice((1, 16, 5000)))


def _blank(chance: random.Random, content: bytearray) -> bytearray:
  start, length = _place(chance, content), chance.choice((4, 64, 1024))
  content[start : start + length] = bytes(len(content[start : start + length]))
  return content


def _set_number(chance: random.Random, content: bytearray) -> bytearray:
  form = chance.choice(('<B', '<H', '>H', '<I', '>I', '<Q', '>Q'))
  size = struct.calcsize(form)
  start = _place(chance, content)
  number = chance.choice(_NUMBERS) % (1 << 8 * size)
  content[start : start + size] = struct.pack(form, number)
  return content


def _repeat(chance: random.Random, content: bytearray) -> bytearray:
  start, length = _place(chance, content), chance.choice((4, 64, 1024))
  return content[: start + length] + content[start:]


def _exchange(chance: random.Random, content: bytearray) -> bytearray:
  middle = _place(chance, content)
  return content[middle:] + content[:middle]


_WAYS = (_flip, _flip, _cut, _lengthen, _blank, _set_number, _repeat, _exchange)
