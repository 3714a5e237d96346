"""Cases of images, masks, their names and their folders."""

import os
import shutil
from html import parser
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from benchmarks.fuzzing import ground, judge, pictures
from benchmarks.fuzzing.ground import Ground
from benchmarks.fuzzing.judge import Case, Outcome

_BATCH = 40  # Images that one command is shown.


def images(chance: Random, known: Ground, folder: Path) -> Case:
  """Many images that may be anything, shown to a detector."""
  shown, output = folder / 'shown', folder / 'found'
  shown.mkdir()
  for index in range(_BATCH):
    path = shown / f'{index:02}{pictures.suffix(chance)}'
    path.write_bytes(pictures.hostile(chance))
  return _predicts(known, shown, output, _BATCH, 'hostile images')


def names(chance: Random, known: Ground, folder: Path) -> Case:
  """Images with names that have to be quoted, and links in circles."""
  shown, output = folder / 'shown', folder / 'found'
  whole = sorted(known.root.rglob('good/*.png'))
  for _ in range(_BATCH // 2):
    inner = [pictures.path(chance) for _ in range(chance.randrange(3))]
    suffix = pictures.suffix(chance)
    path = shown.joinpath(*inner) / pictures.path(chance, suffix)
    if _make(path.parent) and not path.exists():
      shutil.copyfile(chance.choice(whole), path)
  # Something must be there whatever was not taken for a name.
  shutil.copyfile(whole[0], shown / 'usual.png')
  pictures.entangle(chance, shown)
  count = sum(not path.is_dir() for path in _below(shown))
  return _predicts(known, shown, output, count, 'hostile names')


def _make(folder: Path) -> bool:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:  # A file has the name, or it is too long.
    return False
  return True


def _below(folder: Path) -> list[Path]:
  """Returns the images that are there to be found."""
  suffixes = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
  return [
    Path(place, name)
    for place, inner, names in os.walk(folder)
    if all(part[0] != '.' for part in Path(place).relative_to(folder).parts)
    for name in names
    if name[0] != '.' and name.lower().endswith(suffixes)
    # Links to nothing and to devices are left out, and told.
    if Path(place, name).is_file()
  ]


def _predicts(known, shown, output, count, told) -> Case:
  def check(outcome: Outcome) -> str | None:
    table = output / 'predictions.csv'
    if not table.exists():
      return None if outcome.status else 'no table'
    rows = judge.rows(table)
    if any(len(row) != 5 or not os.path.lexists(row[0]) for row in rows):
      return 'a row without its image'
    errors = outcome.out.count('\n  error: ')
    if len(rows) + errors != count:
      return f'{len(rows)} rows, {errors} errors, {count} images'
    if len(list((output / 'pictures').rglob('*.png'))) < len(rows):
      return 'a picture is missing'
    return None if (outcome.status == 1) == (errors > 0) else 'the status lies'

  return Case(
    [
      'simplenet_jax.predict',
      f'--detector={known.detector}',
      f'--input={shown}',
      f'--output={output}',
    ],
    told,
    inputs=count,
    check=check,
  )


def trained_on(chance: Random, known: Ground, folder: Path) -> Case:
  """A run on a data set of which one file or folder is not as it should be."""
  root, work = folder / 'data', folder / 'work'
  shutil.copytree(known.root, root)
  category = root / 'gasket'
  ways = (_spoil_image, _spoil_mask, _rename, _remove, _rename_category)
  told = chance.choice(ways)(chance, category)
  if chance.random() < 0.2:
    pictures.entangle(chance, chance.choice(_folders(category.parent)))
  return _trains(ground.training(root, work), work, told)


def _trains(argv: list, work: Path, told: str) -> Case:
  def check(outcome: Outcome) -> str | None:
    if outcome.status:
      return None
    page = work / 'report.html'
    if not page.exists():
      return 'no page'
    found = _Page(page.read_text(encoding='utf-8'))
    return f'a page with {found.odd}' if found.odd else None

  return Case(
    [str(one) for one in argv], told, seconds=90.0, trains=True, check=check
  )


class _Page(parser.HTMLParser):
  """What a page must not have: what only a name could have brought in."""

  def __init__(self, text: str):
    super().__init__()
    self.odd, self._scripts = '', 0
    self.feed(text)

  def handle_starttag(self, tag, attrs) -> None:
    if tag in ('b', 'img') and not attrs:  # Its own have attributes.
      self.odd = self.odd or tag
    if any(name.startswith('on') for name, _ in attrs) or dict(attrs).get(
      'src', ''
    ) in ('x', None):
      self.odd = self.odd or tag


def _files(category: Path) -> list[Path]:
  return sorted(path for path in category.rglob('*.png') if path.is_file())


def _folders(root: Path) -> list[Path]:
  return sorted(path for path in root.rglob('*') if path.is_dir())


def _spoil_image(chance: Random, category: Path) -> str:
  path = chance.choice(_files(category))
  path.write_bytes(pictures.hostile(chance))
  return f'changed: {path.relative_to(category)}'


def _spoil_mask(chance: Random, category: Path) -> str:
  masks = [path for path in _files(category) if 'ground_truth' in path.parts]
  path = chance.choice(masks)
  with Image.open(path) as mask:
    size = mask.size
  draw = chance.random()
  if draw < 0.2:
    path.with_name(f'another{chance.choice(("", "_mask"))}.png').write_bytes(
      path.read_bytes()
    )
    return 'a mask without an image'
  if draw < 0.4:
    path.unlink()
    return 'an image without a mask'
  if draw < 0.6:
    sides = [max(1, side + chance.choice((-1, 1, -30, 30))) for side in size]
    Image.new('L', (sides[0], sides[1])).save(path)
    return 'a mask of another size'
  if draw < 0.8:
    value = chance.choice((0, 1, 2, 127, 254, 255))
    Image.fromarray(np.full(size[::-1], value, np.uint8)).save(path)
    return f'a mask of {value}'
  pictures.image(chance).resize(size, Image.Resampling.NEAREST).save(
    path.with_suffix('.tif')
  )
  return 'two masks'


def _rename(chance: Random, category: Path) -> str:
  path = chance.choice(_files(category))
  name = pictures.name(chance, pictures.suffix(chance))
  if not path.with_name(name).exists():
    path.rename(path.with_name(name))
  return f'renamed: {path.relative_to(category)} to {name!r}'


def _rename_category(chance: Random, category: Path) -> str:
  path = chance.choice((category, *_folders(category)))
  name = pictures.name(chance)
  if not path.with_name(name).exists():
    path.rename(path.with_name(name))
  return f'folder renamed: {path.name} to {name!r}'


def _remove(chance: Random, category: Path) -> str:
  path = chance.choice((*_files(category), *_folders(category)))
  shutil.rmtree(path) if path.is_dir() else path.unlink()
  return f'removed: {path.relative_to(category)}'
