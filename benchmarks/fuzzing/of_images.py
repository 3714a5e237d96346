"""Cases of images, masks, their names and their folders."""

import csv
import os
import shutil
from pathlib import Path
from random import Random

from PIL import Image

from benchmarks.fuzzing import ground, pictures
from benchmarks.fuzzing.ground import Ground
from benchmarks.fuzzing.judge import Case, Outcome

_BATCH = 40  # Images that one command is shown.


def images(chance: Random, known: Ground, folder: Path) -> Case:
  """Many images that may be anything, shown to a detector."""
  shown = folder / 'shown'
  shown.mkdir()
  for index in range(_BATCH):
    path = shown / f'{index:02}{pictures.suffix(chance)}'
    path.write_bytes(pictures.hostile(chance))
  return _predicts(known, folder, _BATCH, 'hostile images')


def names(chance: Random, known: Ground, folder: Path) -> Case:
  """Images with names that have to be quoted, and links in circles."""
  shown, whole = folder / 'shown', sorted(known.root.rglob('good/*.png'))
  shown.mkdir()
  for _ in range(_BATCH // 2):
    inner = [pictures.path(chance) for _ in range(chance.randrange(3))]
    path = shown.joinpath(*inner) / pictures.path(
      chance, pictures.suffix(chance)
    )
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:  # A file has the name, or it is too long.
      continue
    if not path.exists():
      shutil.copyfile(chance.choice(whole), path)
  # Something must be there whatever was not taken for a name.
  shutil.copyfile(whole[0], shown / 'usual.png')
  pictures.entangle(chance, shown)
  found = [
    Path(place, name)
    for place, _, names in os.walk(shown)
    if all(part[0] != '.' for part in Path(place).relative_to(shown).parts)
    for name in names
    if name[0] != '.' and name.lower().endswith(pictures.SUFFIXES)
  ]
  # Links to nothing and to devices are left out, and told.
  count = sum(path.is_file() for path in found)
  return _predicts(known, folder, count, 'hostile names')


def _predicts(known: Ground, folder: Path, count: int, told: str) -> Case:
  output = folder / 'found'

  def check(outcome: Outcome) -> str | None:
    table = output / 'predictions.csv'
    if not table.exists():
      return None if outcome.status else 'no table'
    with table.open(errors='surrogateescape', newline='') as file:
      _, *rows = csv.reader(file)
    if any(len(row) != 5 or not os.path.lexists(row[0]) for row in rows):
      return 'a row without its image'
    errors = outcome.out.count('\n  error: ')
    if len(rows) + errors != count:
      return f'{len(rows)} rows, {errors} errors, {count} images'
    if len(list((output / 'pictures').rglob('*.png'))) < len(rows):
      return 'a picture is missing'
    return None if (outcome.status == 1) == (errors > 0) else 'the status lies'

  argv = ['simplenet_jax.predict', f'--detector={known.detector}']
  argv += [f'--input={folder / "shown"}', f'--output={output}']
  return Case(argv, told, inputs=count, check=check)


def trained_on(chance: Random, known: Ground, folder: Path) -> Case:
  """A run on a data set of which one file or folder is not as it should be."""
  root, work = folder / 'data', folder / 'work'
  shutil.copytree(known.root, root)
  told = _spoil(chance, root / 'gasket')
  if chance.random() < 0.2:
    inner = sorted(path for path in root.rglob('*') if path.is_dir())
    pictures.entangle(chance, chance.choice(inner))

  def check(outcome: Outcome) -> str | None:
    whole = outcome.status or (work / 'report.html').exists()
    return None if whole else 'no page'

  argv = ground.training(root, work)
  return Case(argv, told, seconds=90.0, trains=True, check=check)


def _spoil(chance: Random, category: Path) -> str:
  """Changes, renames, removes or adds something; returns what."""
  path = chance.choice([category, *sorted(category.rglob('*'))])
  mask = chance.choice(sorted(category.glob('ground_truth/*/*.png')))
  sides = [chance.choice((31, 64, 191, 192, 193)) for _ in range(2)]
  match chance.randrange(6):
    case 0 if path.is_file():
      path.write_bytes(pictures.hostile(chance))
    case 1:
      Image.new('L', sides, chance.choice((0, 1, 127, 254, 255))).save(mask)
      return f'a mask of {sides}'
    case 2:
      pictures.image(chance).resize((192, 192)).save(mask.with_suffix('.tif'))
      return 'two masks'
    case 3:
      shutil.copyfile(mask, mask.with_name('another_mask.png'))
      return 'a mask without an image'
    case 4:
      shutil.rmtree(path) if path.is_dir() else path.unlink()
      return f'removed: {path}'
    case _:
      suffix = pictures.suffix(chance) if path.is_file() else ''
      new = path.with_name(pictures.name(chance, suffix))
      if not new.exists():
        path.rename(new)
      return f'renamed: {path} to {new.name!r}'
  return f'changed: {path}'
