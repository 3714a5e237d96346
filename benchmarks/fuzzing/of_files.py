"""Cases of settings, weights, detectors and what runs leave."""

import json
import shutil
from pathlib import Path
from random import Random

import safetensors
from safetensors import numpy as arrays

from benchmarks.fuzzing import ground, mutations, values
from benchmarks.fuzzing.ground import Ground
from benchmarks.fuzzing.judge import Case, Outcome
from simplenet_jax.config import flatten, load_config
from simplenet_jax.detection import file as detectors

_FIELDS = flatten(load_config('demo'))


def settings(chance: Random, known: Ground, folder: Path) -> Case:
  """Settings out of range, of other types, or that contradict each other."""
  fields = sorted(_FIELDS.keys() - {'data.root', 'data.source'})
  chosen = {}
  for field in chance.sample(fields, chance.choice((1, 1, 2, 3))):
    usual = chance.random() < 0.3
    value = values.near(chance, _FIELDS[field]) if usual else None
    chosen[field] = value or values.text(chance)
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
  card, tensors = ground.described(source)
  if chance.random() < 0.3:
    name = chance.choice(list(tensors))
    odd = tensors[name]
    ways = (odd[..., :1], odd.T, odd.astype('float64'), odd * float('nan'))
    tensors = {**tensors, name: chance.choice(ways)}
  else:
    card = values.spoiled(chance, card)
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
    path.write_text(json.dumps(values.spoiled(chance, json.loads(content))))
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
