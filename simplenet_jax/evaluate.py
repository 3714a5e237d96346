"""Evaluates a run again, or joins and prints tables of runs.

  simplenet evaluate --workdir=W --config.data.root=CORRECTED
  simplenet evaluate --workdir=W --config.seeds=0,1,2
  simplenet evaluate W --format=latex
  simplenet evaluate W1 W2 --output=DIR

With --workdir, the run's heads score test images and masks that are new or were
corrected; seeds that are new or not finished are trained first, and nothing
else is. With the directories of runs, their tables are joined: each has
categories of its own.
"""

import pathlib
import sys

from absl import flags

from simplenet_jax import cli
from simplenet_jax.config import check_config, load_config
from simplenet_jax.files import naming, refuse_existing

_CONFIG = cli.define_config('The settings; --workdir has them already.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'The run to evaluate again.')
_OUTPUT = flags.DEFINE_string('output', None, 'Where tables are written to.')
_FORMS = ['text', 'markdown', 'csv', 'latex']
_FORMAT = flags.DEFINE_enum('format', 'text', _FORMS, "The printed table's.")
_OVERWRITE = cli.define_overwrite()


def main(workdirs: list[str]) -> None:
  """Evaluates a run again, or joins the tables of several."""
  if bool(workdirs) == bool(_WORKDIR.value):
    raise ValueError(
      'give --workdir=W to evaluate a run again, or the work directories of '
      'runs whose tables are to be joined and printed'
    )
  output = cli.folder(_OUTPUT.value, '--output') if _OUTPUT.value else None
  if output:
    refuse_existing(output / 'results.json', _OVERWRITE.value)
  tables = {}
  if _WORKDIR.value:
    workdir = cli.folder(_WORKDIR.value, '--workdir')
    check_config(_CONFIG.value)
    if not (workdir / 'run.json').is_file():
      raise ValueError(f'{workdir} holds no run; simplenet train starts one')
    given, before = _CONFIG.value.train, load_config(str(workdir)).train
    if any(given[one] > before[one] for one in ('epochs', 'min_steps')):
      raise ValueError(
        'evaluate trains new seeds alone; give more --config.train.epochs or '
        '.min_steps to simplenet train'
      )
    from simplenet_jax import train

    tables = {str(workdir): train.train_and_evaluate(_CONFIG.value, workdir)}
  from simplenet_jax.evaluation import results
  from simplenet_jax.evaluation.tables import format_table

  for name in workdirs:
    tables[name] = results.read(pathlib.Path(name).expanduser())
  with naming(' or '.join(f'{name}/results.json' for name in tables)):
    table = results.join(tables)
    if output:
      results.write(output, table)
    if workdirs or _FORMAT.value != 'text':  # The run has printed its own.
      print(format_table(table, _FORMAT.value))


if __name__ == '__main__':
  sys.argv = cli.with_config(sys.argv)
  cli.run(main, positional=True)
