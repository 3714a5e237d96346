"""Downloads a public data set, checks it and unpacks it.

  simplenet download --dataset=mvtec_ad --accept_license

ROOT/<folder> then holds it, whole, and the archive is deleted. A download that
was stopped goes on where it ended; --archive takes a file that is there.
"""

import shlex
from pathlib import Path

from absl import flags

from simplenet_jax import cli
from simplenet_jax.console import console
from simplenet_jax.data.download import ARCHIVES, obtain

_DATASET = flags.DEFINE_enum('dataset', None, list(ARCHIVES), 'The data set.')
_ROOT = flags.DEFINE_string('root', 'data', 'Where it goes, a folder.')
_ARCHIVE = flags.DEFINE_string(
  'archive', None, 'The archive, a file, if it is there already; it stays.'
)
_ACCEPTED = flags.DEFINE_bool(
  'accept_license', False, 'Whether you accept terms without commercial use.'
)
_KEEP = flags.DEFINE_bool('keep_archive', False, 'Whether the archive stays.')
cli.require('dataset', 'root')
flags.register_validator('archive', lambda x: x != '', 'must name a file')


def main() -> None:
  """Downloads."""
  archive = ARCHIVES[_DATASET.value or '']
  root = Path(_ROOT.value or '').expanduser()
  given = Path(_ARCHIVE.value).expanduser() if _ARCHIVE.value else None
  options = {'accepted': _ACCEPTED.value, 'keep': _KEEP.value}
  folder = obtain(archive, root, given=given, **options)
  line = f'Go on with: simplenet train --config={archive.folder}'
  if folder != Path('data', archive.folder):
    line += f' --config.data.root={shlex.quote(str(folder))}'
  console.print(line)


if __name__ == '__main__':
  cli.run(main)
