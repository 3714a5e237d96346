"""Cases of settings, weights, detectors, runs, images and their names."""

import csv
import json
import os
import shutil
from pathlib import Path
from random import Random

import safetensors
from PIL import Image
from safetensors import numpy as arrays

from benchmarks.fuzzing import ground, mutations, pictures
from benchmarks.fuzzing.ground import Ground
from benchmarks.fuzzing.judge import Case, Outcome
from simplenet_jax.config import flatten, load_config
from simplenet_jax.detection import file as detectors

_FIELDS = flatten(load_config('demo'))
_BATCH = 40  # Images that one command is shown.


def settings(chance: Random, known: Ground, folder: Path) -> Case:
  """Settings out of range, of other types, or that contradict each other."""
  fields = sorted(_FIELDS.keys() - {'data.root', 'data.source'})
  chosen = {}
  for field in chance.sample(fields, chance.choice((1, 1, 2, 3))):
    usual = chance.random() < 0.3
    value = mutations.near(chance, _FIELDS[field]) if usual else None
    chosen[field] = value or mutations.text(chance)
  if chance.random() < 0.02:
    chosen = {f'{chance.choice(fields)}{chance.choice("x.")}': '1'}
  # Without images only what is checked at once is; that takes no time.
  root = known.root if chance.random() < 0.2 else folder / 'nothing'
  argv = ground.training(root, folder / 'work', **chosen)
  return Case(argv, f'{chosen}', seconds=20.0, trains=True)


def weights(chance: Random, known: Ground, folder: Path) -> Case:
  """A file of weights that is damaged, or of another kind."""
  path = _damaged(chance, chance.choice(known.weights), folder)
  return _imports(known, folder, known.released, **{'backbone.weights': path})


def detector(chance: Random, known: Ground, folder: Path) -> Case:
  """A detector whose bytes are damaged, or whose description makes no sense."""
  if chance.random() < 0.5:
    path = _damaged(chance, known.detector, folder)
  else:
    path = _forged(chance, known.detector, folder / 'part.safetensors')
  module = chance.choice(('predict', 'predict', 'calibrate', 'export'))
  output = folder / ('new.safetensors' if module == 'calibrate' else 'new')
  argv = [f'simplenet_jax.{module}', f'--detector={path}', f'--output={output}']
  if module != 'export':
    argv.append(f'--input={known.root / "gasket" / "test"}')
  made = {'export': output / 'model.stablehlo', 'calibrate': output}
  return _reads(argv, folder, made.get(module))


def _forged(chance: Random, source: Path, path: Path) -> Path:
  """Writes a detector with another description, and the digest it needs."""
  description, tensors = detectors.load(source)
  card = json.loads(description.to_json())
  if chance.random() < 0.3:
    name = chance.choice(list(tensors))
    odd = tensors[name]
    ways = (odd[..., :1], odd.T, odd.astype('float64'), odd * float('nan'))
    tensors = {**tensors, name: chance.choice(ways)}
  else:
    card = mutations.spoiled(chance, card)
  text = json.dumps(card)
  digest = detectors.digest(text, tensors)
  arrays.save_file(tensors, path, {'detector': text, 'sha256': digest})
  return path


def released(chance: Random, known: Ground, folder: Path) -> Case:
  """A checkpoint of the released code that is damaged."""
  return _imports(known, folder, _damaged(chance, known.released, folder))


def _imports(
  known: Ground, folder: Path, checkpoint: Path, **others: object
) -> Case:
  """Returns a case that makes a detector of a checkpoint and a backbone."""
  output = folder / 'imported.safetensors'
  settings = {'data.crop': 32, **others}
  _, config, _, *options = ground.training(known.root, folder, **settings)
  argv = ['simplenet_jax.import_released', config, *options]
  argv += [f'--checkpoint={checkpoint}', f'--output={output}']
  return _reads(argv, folder, output)


def workdir(chance: Random, known: Ground, folder: Path) -> Case:
  """A work directory of which a file is damaged; gone on with, or read."""
  work = folder / 'work'
  shutil.copytree(known.run, work)
  path = chance.choice(sorted(p for p in work.rglob('*') if p.is_file()))
  content = path.read_bytes()
  if path.suffix == '.json' and chance.random() < 0.7:
    path.write_text(json.dumps(mutations.spoiled(chance, json.loads(content))))
  else:
    path.write_bytes(mutations.mutated(chance, content, _forbidden(folder)))
  page = ['simplenet_jax.report', str(work)]
  both = [*page, str(known.run), f'--output={work}.html']
  again = ground.training(known.root, work)
  longer = ground.training(known.root, work, **{'train.epochs': 3})
  argv = chance.choice((page, both, again, longer))
  told = f'damaged: {path.relative_to(work)}'
  check = _reads(argv, folder).check
  return Case(argv, told, trains=True, check=check)


def _forbidden(folder: Path) -> str:
  """Returns a command line that leaves a trace if it runs."""
  return f'touch {folder / "ran"}'


def _damaged(chance: Random, source: Path, folder: Path) -> Path:
  path = folder / f'damaged{source.suffix}'
  content = source.read_bytes()
  path.write_bytes(mutations.mutated(chance, content, _forbidden(folder)))
  return path


def _reads(argv: list[str], folder: Path, made: Path | None = None) -> Case:
  """Returns a case that must not run what it reads, and makes a whole file."""

  def check(outcome: Outcome) -> str | None:
    if (folder / 'ran').exists():
      return 'a command in the file ran'
    if made and made.exists() == (outcome.status > 0):
      return f'{made.name} is {"there" if made.exists() else "missing"}'
    if made and made.exists() and made.suffix == '.safetensors':
      with safetensors.safe_open(made, 'numpy') as file:
        if not all(file.get_tensor(name).size for name in file.keys()):  # noqa: SIM118
          return f'{made.name} is not whole'
    return None

  return Case(argv, 'a damaged file', check=check)


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
    if any(len(row) != 10 or not os.path.lexists(row[0]) for row in rows):
      return 'a row without its image'
    errors = outcome.out.count('\n  error: ')
    if len(rows) + errors != count:
      return f'{len(rows)} rows, {errors} errors, {count} images'
    if len(list((output / 'pictures').rglob('*.jpg'))) < len(rows):
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
