"""Makes the page of a run anew, or one page of several runs.

  simplenet report WORKDIR
  simplenet report WORKDIR WORKDIR --output=both.html

Runs are joined into one table with the mean: they must be of different
categories, with the same settings and weights.
"""

import pathlib

from absl import flags

from simplenet_jax import cli
from simplenet_jax.files import refuse_existing

_OUTPUT = flags.DEFINE_string(
  'output', None, 'The page; else WORKDIR/report.html, joined.html of several.'
)
_OVERWRITE = cli.define_overwrite()


def main(names: list[str]) -> None:
  """Makes the page and says where it is."""
  from simplenet_jax.report import page

  folders = [pathlib.Path(name).expanduser() for name in names]
  if not folders:
    raise ValueError('name the work directory of a run, or several')
  own = folders[0] / page.NAME if len(folders) == 1 else None
  output = pathlib.Path(_OUTPUT.value or own or 'joined.html')
  if output != own:
    refuse_existing(output, _OVERWRITE.value)
  page.write(*folders, output=output)
  print(f'Report: {output}')


if __name__ == '__main__':
  cli.run(main, positional=True)
