"""Makes the page of a run anew, or compares several.

  python -m simplenet_jax.report WORKDIR
  python -m simplenet_jax.report WORKDIR WORKDIR --output=comparison.html

One work directory's page is its own report.html; the comparison of several goes
to --output.
"""

import pathlib

from absl import flags

from simplenet_jax import cli

_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'The page; WORKDIR/report.html, or comparison.html of several.',
)


def main(names: list[str]) -> None:
  """Makes the page and says where it is."""
  from simplenet_jax.report import comparison, page

  folders = [pathlib.Path(name).expanduser() for name in names]
  if not folders:
    raise ValueError('name the work directory of a run, or several')
  if len(folders) == 1:
    output = pathlib.Path(_OUTPUT.value or folders[0] / page.NAME)
    page.write(folders[0], output)
  else:
    output = pathlib.Path(_OUTPUT.value or 'comparison.html')
    comparison.write(folders, output)
  print(f'Report: {output}')


if __name__ == '__main__':
  cli.run(main, positional=True)
