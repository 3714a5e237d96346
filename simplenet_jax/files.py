"""Files that are either whole or not there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_aside(path: Path | str) -> Iterator[Path]:
  """Yields a name beside `path` to write to, and renames it when done.

  Whatever interrupts the writing, `path` holds its old content or all of the
  new one.

  Args:
    path: The file to make or replace; its folder is made where missing.

  Yields:
    The name to write to, with the suffix of `path`.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  aside = path.with_name(f'.partial-{os.getpid()}-{path.name}')
  try:
    yield aside
    aside.replace(path)
  finally:
    aside.unlink(missing_ok=True)
