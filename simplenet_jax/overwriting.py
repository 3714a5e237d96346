"""One rule for outputs that exist already: refused, or replaced if told so."""

import os
from pathlib import Path

from absl import flags


def define_flag() -> flags.FlagHolder[bool]:
  """Defines --overwrite."""
  return flags.DEFINE_bool(
    'overwrite', False, 'Whether to replace what is at --output already.'
  )


def check(path: Path, overwrite: bool) -> None:
  """Refuses an output that exists already.

  Args:
    path: A file or folder that is to be written.
    overwrite: Whether it may be replaced.

  Raises:
    ValueError: If it exists and must not be replaced.
  """
  if not overwrite and os.path.lexists(path):
    raise ValueError(
      f'{path} is there already; give another --output, or --overwrite to '
      'replace it'
    )
