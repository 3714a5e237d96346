"""PyTorch's files of tensors, read without PyTorch and without running them.

Such a file, of today's format (a zip) or of the one before PyTorch 1.6, holds a
pickle, which is a program. Here it can make dictionaries, lists, numbers and
texts, and name tensors in the bytes beside it. Whatever else it asks for is
refused.
"""

import collections
import functools
import io
import math
import pickle  # noqa: TID251
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C  # Of the older format.
_TYPES: dict[str, Any] = {
  'FloatStorage': np.float32,
  'DoubleStorage': np.float64,
  'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'BoolStorage': np.bool_,
}


class _Tensor(NamedTuple):
  """A tensor whose values are not read yet; `stride` is in elements."""

  kind: str  # Of `_TYPES`.
  key: str  # Where its storage is in the file.
  elements: int  # Of the storage.
  offset: int
  size: tuple[int, ...]
  stride: tuple[int, ...]

  def read(self, storage: bytes) -> np.ndarray:
    """Returns the values, which lie in the bytes of a storage."""
    values = np.frombuffer(storage, _TYPES[self.kind], self.elements)
    if not math.prod(self.size):
      return np.zeros(self.size, values.dtype)
    pairs = zip(self.size, self.stride, strict=True)
    last = self.offset + sum((side - 1) * by for side, by in pairs)
    if (
      min([self.offset, *self.size, *self.stride]) < 0 or last >= self.elements
    ):
      raise ValueError('a tensor reaches beyond its storage')
    # A view: tensors that share a storage take its memory once.
    return np.lib.stride_tricks.as_strided(
      values[self.offset :],
      self.size,
      [by * values.itemsize for by in self.stride],
      writeable=False,
    )


class _Unpickler(pickle.Unpickler):
  """Makes nothing but plain values and `_Tensor`s."""

  def __init__(self, file: IO[bytes]):
    super().__init__(file)
    self.sizes: dict[str, int] = {}  # Bytes of storages, by their keys.

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return lambda storage, *place: _Tensor(*storage, *place[:3])
    if (module, name) == ('torch._utils', '_rebuild_parameter'):
      return lambda data, *_: data
    if module == 'torch' and name in _TYPES:
      return name
    raise pickle.UnpicklingError(f'it asks for {module}.{name}')

  def persistent_load(self, pid: Any) -> Any:
    what, kind, key, _, count, *view = pid
    if what != 'storage' or kind not in _TYPES or any(view):
      raise pickle.UnpicklingError('it holds other things than tensors')
    self.sizes[str(key)] = int(count) * np.dtype(_TYPES[kind]).itemsize
    return kind, str(key), int(count)


def read(path: Path) -> dict[str, Any]:
  """Returns what a file's dictionary holds, with tensors as arrays.

  A damaged file, or one that asks for more, can raise any error.
  """
  with path.open('rb') as file:
    is_zip = zipfile.is_zipfile(file)
    file.seek(0)
    found = _read_zip(file) if is_zip else _read_older(file)
  if not isinstance(found, dict):
    raise TypeError('holds no named tensors')
  return found


def _read_zip(file: IO[bytes]) -> Any:
  with zipfile.ZipFile(file) as archive:
    names = archive.namelist()
    if any(one.compress_type for one in archive.infolist()):
      raise ValueError('its parts are compressed')
    (name,) = (one for one in names if one.endswith('/data.pkl'))
    folder = name.removesuffix('data.pkl')
    if (order := f'{folder}byteorder') in names:
      _check_order(archive.read(order) == b'little')
    found, _ = _unpickled(io.BytesIO(archive.read(name)))
    read = functools.cache(lambda key: archive.read(f'{folder}data/{key}'))
    return _filled(found, read, {})


def _read_older(file: IO[bytes]) -> Any:
  (magic, _), _, (system, _) = (_unpickled(file) for _ in range(3))
  if magic != _MAGIC:
    raise ValueError('it is of no known format')
  _check_order(system['little_endian'])
  (found, sizes), (keys, _) = _unpickled(file), _unpickled(file)
  storages = {}
  for key in map(str, keys):
    file.read(8)  # The number of its elements, which the pickle tells, too.
    storages[key] = file.read(sizes[key])
  return _filled(found, storages.__getitem__, {})


def _check_order(little: bool) -> None:
  if not little:
    raise ValueError('its numbers are big-endian')


def _unpickled(file: IO[bytes]) -> tuple[Any, dict[str, int]]:
  """Returns what a pickle makes, and the bytes of the storages it names."""
  start = file.tell()
  for number, (code, argument, _) in enumerate(pickletools.genops(file)):
    # A place far out in the memo would take memory before it is used.
    if code.name.endswith('PUT') and (argument or 0) > number:
      raise pickle.UnpicklingError('its memo is out of order')
  file.seek(start)
  unpickler = _Unpickler(file)
  return unpickler.load(), unpickler.sizes


def _filled(
  value: Any, storage: Callable[[str], bytes], known: dict[int, Any]
) -> Any:
  """Returns a value in whose dictionaries tensors are arrays."""
  if isinstance(value, _Tensor):
    return value.read(storage(value.key))
  if not isinstance(value, dict):
    return value
  # Once each: dictionaries that hold others twice may be many on paper.
  if id(value) not in known:
    known[id(value)] = {
      str(name): _filled(one, storage, known) for name, one in value.items()
    }
  return known[id(value)]
