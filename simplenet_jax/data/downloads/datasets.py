"""Public data sets on this disk: downloaded, checked, unpacked."""

import contextlib
import json
from pathlib import Path

from simplenet_jax.console import console
from simplenet_jax.data.downloads import extraction, fetching, part
from simplenet_jax.data.downloads.archives import Archive
from simplenet_jax.data.downloads.disk import amount
from simplenet_jax.stop import at_once

MARKER = '.download.json'  # In folders that are whole, made by `obtain`.

_DOWNLOADS = 'downloads'  # Below the root.


def obtain(
  archive: Archive,
  root: Path,
  *,
  given: Path | None = None,
  accepted: bool = False,
  keep: bool = False,
) -> Path:
  """Makes a data set's folder, unless it is there.

  Args:
    archive: What the data set is published as.
    root: Where the folder goes.
    given: The archive, if it is on this disk already; it is left there.
    accepted: Whether terms that have to be accepted are.
    keep: Whether a downloaded archive stays.

  Returns:
    The folder, whole.

  Raises:
    FileNotFoundError: If the given archive is not there.
    ValueError: If the folder is there and of another origin, the terms are not
      accepted, or the archive is not the one that was published.
    OSError: If it cannot be downloaded or written.
    stop.Stopped: If a signal asked it to stop; it can go on later.
  """
  target = root / archive.folder
  if _is_made(target, archive):
    console.print(f'{target}/ holds all of {archive.title} already')
    return target
  if not extraction.is_free(target):
    raise ValueError(
      f'{target} is there already, not made by this command, and left as it '
      f'is; use it with --config.data.root={target}, or move it away'
    )
  console.print(
    f'{archive.title} to {target}/\n  {archive.terms}\n'
    f'  cite {archive.citation}'
  )
  if archive.noncommercial and not accepted:
    raise ValueError(
      f'{archive.name} comes under {archive.terms}; give --accept_license if '
      'you accept that'
    )
  file = given or root / _DOWNLOADS / archive.file_name
  with at_once(lambda: _kept(file)):
    _bring(archive, file, given is not None)
    extraction.extract(
      file,
      target,
      most_bytes=archive.most_bytes,
      most_entries=archive.most_entries,
      also={MARKER: json.dumps(_mark(archive))},
    )
  if not given and not keep:
    console.print(f'  deletes {file} (--keep_archive keeps it)')
    file.unlink()
    with contextlib.suppress(OSError):  # Others may lie there.
      file.parent.rmdir()
  return target


def _bring(archive: Archive, file: Path, is_given: bool) -> None:
  """Sees to it that the archive is there and the published one."""
  if not is_given:
    fetching.fetch(archive.url, archive.sha256, file, archive.license)
    return
  if file.is_file():
    console.print(f'  takes {file}, {amount(file.stat().st_size)}')
  fetching.verify(
    file, archive.sha256, 'give another --archive, or none to download it'
  )


def _mark(archive: Archive) -> dict[str, str]:
  return {'name': archive.name, 'sha256': archive.sha256}


def _is_made(target: Path, archive: Archive) -> bool:
  try:
    return json.loads((target / MARKER).read_text()) == _mark(archive)
  except (FileNotFoundError, NotADirectoryError, ValueError):
    return False


def _kept(file: Path) -> str:
  for path in (file, part.path_of(file)):
    if path.is_file():
      size = amount(path.stat().st_size)
      return f'stopped; {path} stays, {size}, start again to go on'
  return 'stopped before anything came'
