"""Cases of settings, weights, detectors and what runs leave."""

import json
import os
import shutil
import tarfile
from pathlib import Path
from random import Random

import safetensors
from safetensors import numpy as arrays

from benchmarks.fuzzing import ground, mutations, pictures, values
from benchmarks.fuzzing.ground import Ground
from benchmarks.fuzzing.judge import Case, Outcome
from simplenet_jax.config import flatten, load_config
from simplenet_jax.detection import file as detectors

_FIELDS = flatten(load_config('demo'))
_FIXED = ('data.root', 'data.source')


def settings(chance: Random, known: Ground, folder: Path) -> Case:
  """Settings out of range, of other types, or that contradict each other."""
  work, chosen = folder / 'work', {}
  fields = [field for field in _FIELDS if field not in _FIXED]
  for field in chance.sample(fields, chance.choice((1, 1, 2, 3))):
    plausible = chance.random() < 0.3
    chosen[field] = (
      values.near(chance, _FIELDS[field]) if plausible else values.text(chance)
    )
  if chance.random() < 0.02:
    chosen = {f'{chance.choice(fields)}{chance.choice("x.")}': '1'}
  # Without images only what is checked at once is; that takes no time.
  root = known.root if chance.random() < 0.2 else folder / 'nothing'
  argv = ground.training(root, work, **chosen)
  return Case(argv, f'{chosen}', seconds=20.0, trains=True)


def weights(chance: Random, known: Ground, folder: Path) -> Case:
  """A file of weights that is damaged, or of another kind."""
  source = chance.choice(known.weights)
  path = folder / f'weights{source.suffix}'
  line = _forbidden(folder)
  path.write_bytes(mutations.mutated(chance, source.read_bytes(), line))
  output = folder / 'converted.safetensors'
  argv = ['simplenet_jax.models.weights', f'--weights={path}']
  return _reads([*argv, f'--output={output}'], folder, [output])


def detector(chance: Random, known: Ground, folder: Path) -> Case:
  """A detector whose bytes are damaged, or whose description makes no sense."""
  path, line = folder / 'part.safetensors', _forbidden(folder)
  if chance.random() < 0.5:
    content = mutations.mutated(chance, known.detector.read_bytes(), line)
    path.write_bytes(content)
  else:
    _forge(chance, known.detector, path)
  module = chance.choice(('predict', 'predict', 'calibrate', 'export'))
  output = folder / ('new.safetensors' if module == 'calibrate' else 'new')
  argv = [f'simplenet_jax.{module}', f'--detector={path}', f'--output={output}']
  if module != 'export':
    argv.append(f'--input={known.root / "gasket" / "test"}')
  made = output if module == 'calibrate' else output / 'model.stablehlo'
  return _reads(argv, folder, [made])


def _forge(chance: Random, source: Path, path: Path) -> None:
  """Writes a detector with another description, and the digest it needs."""
  card, tensors = ground.described(source)
  tensors = dict(tensors)
  if chance.random() < 0.3:
    name = chance.choice(list(tensors))
    odd = tensors[name]
    ways = (odd[..., :1], odd.T, odd.astype('float64'), odd * float('nan'))
    tensors[name] = chance.choice(ways)
  else:
    card = values.spoiled(chance, card)
  text = json.dumps(card)
  digest = detectors.digest(text, tensors)
  arrays.save_file(tensors, path, {'detector': text, 'sha256': digest})


def released(chance: Random, known: Ground, folder: Path) -> Case:
  """A checkpoint of the released code that is damaged."""
  path, line = folder / 'ckpt.pth', _forbidden(folder)
  path.write_bytes(mutations.mutated(chance, known.released.read_bytes(), line))
  output = folder / 'imported.safetensors'
  argv = ground.training(known.root, folder / 'work', data__crop=32)
  argv = ['simplenet_jax.import_released', *argv[1:2], *argv[3:]]
  argv += [f'--checkpoint={path}', f'--output={output}']
  return _reads(argv, folder, [output])


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
  argv = chance.choice(
    (
      page,
      [*page, str(known.run), f'--output={work}.html'],
      ground.training(known.root, work),
      ground.training(known.root, work, train__epochs=3),
    )
  )
  case = _reads(argv, folder, [])
  told = f'damaged: {path.relative_to(work)}'
  return Case(case.argv, told, trains=True, check=case.check)


def archive(chance: Random, known: Ground, folder: Path) -> Case:
  """An archive with damage, or members that want to be elsewhere."""
  del known
  path, inside = folder / 'set.tar.gz', folder / 'inside'
  inside.mkdir()
  mode = chance.choice(('w:gz', 'w:xz', 'w:bz2', 'w:'))
  with tarfile.open(path, mode) as tar:
    for _ in range(chance.randrange(1, 8)):
      tar.addfile(_member(chance))
    names = tar.getnames()
  before = {name for name in names if os.path.lexists(name)}
  if chance.random() < 0.3:
    path.write_bytes(mutations.mutated(chance, path.read_bytes()))
  argv = ['benchmarks.fuzzing.unpack', str(path), str(inside / 'target')]

  def check(outcome: Outcome) -> str | None:
    there = {one.name for one in inside.iterdir()}
    if there - ({'target'} if outcome.status == 0 else set()):
      return f'there is {", ".join(there)}'
    outside = [one for one in names if Path(one).is_absolute()]
    if any(os.path.lexists(one) for one in outside if one not in before):
      return 'it got out, far'
    usual = {path.name, 'inside', 'stdout', 'stderr'}
    return 'it got out' if {p.name for p in folder.iterdir()} - usual else None

  return Case(argv, 'an archive', check=check)


def _member(chance: Random) -> tarfile.TarInfo:
  kinds = (
    *[tarfile.REGTYPE] * 6,
    *(tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE),
    *(tarfile.CHRTYPE, tarfile.CONTTYPE, b'?'),
  )
  above = ('../', '../../', '/tmp/', './', 'a/../../', '//', '')  # noqa: S108
  name = chance.choice(above) + pictures.path(chance, chance.choice(('', '/a')))
  found = tarfile.TarInfo(name.encode('utf-8', 'replace').decode())
  found.type, found.mode = chance.choice(kinds), chance.randrange(0o7777)
  if chance.random() < 0.3:
    found.linkname = chance.choice(('..', '/etc/passwd', '.', name))
  return found


def _forbidden(folder: Path) -> str:
  """Returns a command line that leaves a trace if it runs."""
  return f'touch {folder / "ran"}'


def _reads(argv: list[str], folder: Path, written: list[Path]) -> Case:
  def check(outcome: Outcome) -> str | None:
    if (folder / 'ran').exists():
      return 'a command in the file ran'
    for path in written:
      if path.exists() and (outcome.status or not _whole(path)):
        return f'{path.name} is there'
      if not path.exists() and not outcome.status and len(written) == 1:
        return _missing(argv, path)
    return None

  return Case(argv, 'a damaged file', check=check)


def _missing(argv: list[str], path: Path) -> str | None:
  expected = argv[0].endswith(('weights', 'released', 'export', 'calibrate'))
  return f'{path.name} is missing' if expected else None


def _whole(path: Path) -> bool:
  if path.suffix != '.safetensors':
    return path.stat().st_size > 0
  with safetensors.safe_open(path, 'numpy') as file:
    return all(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
