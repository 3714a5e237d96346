"""How much there is to write, and whether it fits."""

import shutil
from pathlib import Path


def amount(count: float) -> str:
  """Returns bytes as people say them: '12 kB', '850 MB', '5.3 GB'."""
  for unit in ('bytes', 'kB', 'MB'):
    if count < 999.5:
      return f'{count:.0f} {unit}'
    count /= 1000
  return f'{count:.1f} GB'


def require_room(folder: Path, needed: int, purpose: str) -> None:
  """Has what does not fit told before it begins.

  Args:
    folder: Where it goes; it exists.
    needed: Bytes.
    purpose: What needs them, for the error.

  Raises:
    OSError: If fewer are free.
  """
  free = shutil.disk_usage(folder).free
  if free < needed:
    raise OSError(
      f'{folder}: {purpose} needs {amount(needed)}, {amount(free)} are free; '
      'free some, or give a --root on another disk'
    )
