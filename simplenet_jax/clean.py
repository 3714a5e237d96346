"""Ranks good images by how little they look like the others.

  simplenet clean --config=folder --config.data.root=parts
  simplenet clean --workdir=runs/parts

A bad part among the good ones teaches that it is good. Trains where --workdir
has no finished run. A run scores each good image by a head, and beside a bank
of patches, that have not seen it: clean.csv has all scores, the page shows the
highest with heat maps. Nothing is deleted.
"""

import sys

from absl import flags

from simplenet_jax import cli, environment
from simplenet_jax.config import check_config
from simplenet_jax.console import console
from simplenet_jax.files import csv_text, write_text

_CONFIG = cli.define_config('The settings; --workdir may have them already.')
environment.define_flags()

_SHOWN = 12  # Images of a category.


def main() -> None:
  """Trains, if need be, and ranks."""
  config, own = _CONFIG.value, environment.from_flags()
  if config is None:
    raise ValueError('give --config, or the --workdir of a run')
  check_config(config)
  with cli.workdir(flags.FLAGS.workdir, config.name) as workdir:
    from simplenet_jax.data import dataset

    for one in dataset.find(config.data)[1].categories:
      if one.validation or not config.train.folds:
        raise ValueError(
          f'{one.name}: no head leaves out images that it could then score; '
          'take --config=folder and a folder of good images alone, such as '
          '--config.data.root=parts/train/good'
        )
    from simplenet_jax import train

    found = train.train_and_evaluate(config, workdir, own)
    rows: list[tuple[object, ...]] = [('category', 'rank', 'score', 'image')]
    for name, one in found.get('categories', {}).items():
      if not (scores := one.get('threshold', {}).get('scores')):
        raise ValueError(f'{name}: no scores are kept; take another --workdir')
      console.print(f'\n{name}: the good images least like the others first')
      for rank, (image, score) in enumerate(scores, 1):
        rows.append((name, rank, f'{score:.7g}', image))
        if rank <= _SHOWN:
          console.print(f'  {rank:4}  {score:8.4g}  {image}')
    write_text(workdir / 'clean.csv', csv_text(rows), 'surrogateescape')
    console.print(
      f'All scores: {workdir}/clean.csv\nLook at them: {workdir}/report.html\n'
      'Nothing was deleted: take bad parts away, and train in a new --workdir'
    )


if __name__ == '__main__':
  sys.argv = cli.with_config(sys.argv)
  cli.run(main)
