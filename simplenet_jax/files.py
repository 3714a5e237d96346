"""Files that are either whole or not there."""

import contextlib
import csv
import io
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  import numpy as np

ASSETS = Path(__file__).with_name('assets')  # Files of the package.
_AGAIN = 'delete it and start the run again'
_PARTIAL = '.partial-'  # What names of files begin with that are not whole.


@contextlib.contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
  """Yields a name beside `path` to write to, and renames it when done.

  Whatever interrupts the writing, `path` is as it was or whole. A file that is
  replaced passes its mode on; a folder that is missing is made.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  # Not the name itself, which with more before it may be too long.
  own = f'{os.getpid()}-{threading.get_ident()}'
  name = f'{own}-{hash(path.name)}{path.suffix[:16]}'
  aside = path.with_name(_PARTIAL + name)
  try:
    yield aside
    if path.exists():
      with contextlib.suppress(PermissionError):  # Some file systems know none.
        shutil.copymode(path, aside)
    aside.replace(path)
  except OSError as error:
    if error.errno and not error.filename:  # Of a disk that is full.
      error.filename = str(path)
    raise
  finally:
    aside.unlink(missing_ok=True)


def write_text(path: Path | str, text: str, errors: str = 'strict') -> None:
  """Writes a text in UTF-8, whole or not at all; see `str.encode`'s errors."""
  with atomic_write(path) as aside:
    aside.write_text(text, 'utf-8', errors, newline='')


def tidy(folder: Path) -> None:
  """Removes what killed processes left half-written, here and below."""
  for path in folder.rglob(f'{_PARTIAL}*'):
    path.unlink(missing_ok=True)


def refuse_existing(path: Path, overwrite: bool) -> None:
  """Raises ValueError for an output that exists and must not be replaced."""
  if not overwrite and os.path.lexists(path):
    told = 'give another --output, or --overwrite to replace it'
    raise ValueError(f'{path} exists already; {told}')


def folder(given: str, flag: str) -> Path:
  """Returns the folder that a flag names; raises ValueError if it is a file."""
  path = Path(given).expanduser()
  there = next(one for one in (path, *path.parents) if os.path.lexists(one))
  if not there.is_dir():
    told = f'{there} is not a folder; give another {flag}'
    raise ValueError(f'{flag}={given}: {told}')
  return path


def csv_text(rows: Iterable[Sequence[object]]) -> str:
  """Returns a table as CSV, to be written with `newline=''`."""
  text = io.StringIO(newline='')
  plain = csv.writer(text, lineterminator='\n')
  quoted = csv.writer(text, lineterminator='\n', quoting=csv.QUOTE_ALL)
  for row in rows:
    # With this end of lines Python leaves a carriage return unquoted, which
    # readers take for an end of the line.
    apart = any('\r' in str(field) for field in row)
    (quoted if apart else plain).writerow(row)
  return text.getvalue()


def is_formula(text: str) -> bool:
  """Returns whether spreadsheets take a cell of a table for a formula."""
  return text.startswith(tuple('=+-@\t\r'))


class FileError(ValueError):
  """A file that cannot be used; the message names it and says why."""


@contextlib.contextmanager
def naming(path: Path | str, remedy: str = _AGAIN) -> Iterator[None]:
  """Turns whatever a damaged file leads to into one line that names it."""
  try:
    yield
  except (FileError, OSError, MemoryError):
    raise
  except Exception as error:  # Anything may be missing or of another kind.
    told = f'{path}: damaged ({type(error).__name__}: {error}); {remedy}'
    raise FileError(told) from None


def read_json(path: Path, remedy: str = _AGAIN) -> Any:
  """Returns what a JSON file holds; raises as `naming` where it is none."""
  with naming(path, remedy):
    return json.loads(path.read_text(encoding='utf-8'))


def write_arrays(
  path: Path, arrays: Mapping[str, 'np.ndarray'], metadata: Mapping[str, str]
) -> None:
  """Writes a safetensors file."""
  import numpy as np  # The front door reads JSON alone.
  from safetensors.numpy import save

  # Others would be written in their order in memory.
  tensors = {n: np.asarray(one, order='C') for n, one in arrays.items()}
  path.write_bytes(save(tensors, dict(metadata)))
