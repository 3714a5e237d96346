"""What the package never does, and what hostile files never achieve."""

import ast
import pathlib
import pickle

import numpy as np
import pytest
import torch

from benchmarks.fuzzing.mutations import Command
from simplenet_jax.data import images
from simplenet_jax.detection import assembly
from simplenet_jax.detection import file as detectors
from simplenet_jax.models.weights import files as weights
from simplenet_jax.report import page
from simplenet_jax.training.checkpoint import Checkpoints
from tests.training.test_lanes import make_job

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted(
  path
  for folder in ('simplenet_jax', 'configs', 'launch')
  for path in (ROOT / folder).rglob('*.py')
)

# Modules that run what a file holds, or that start other programs.
_MODULES = {
  *(
    'cloudpickle',
    'code',
    'ctypes',
    'dill',
    'joblib',
    'marshal',
    'pickle',
    'pty',
  ),
  *('runpy', 'shelve', 'subprocess', 'yaml'),
}
_HARMLESS = {'pickle.UnpicklingError'}  # What torch raises.
_CALLS = {'__import__', 'compile', 'eval', 'exec', 'os.popen', 'os.system'}


def found_in(source):
  """Returns what a source does that runs what a file may hold."""
  found, known = [], {}  # What names stand for: `t` for `torch`.
  for node in ast.walk(ast.parse(source)):
    match node:
      case ast.Import(names=names):
        known |= {n.asname: n.name for n in names if n.asname}
        found += [n.name for n in names if n.name.split('.')[0] in _MODULES]
      case ast.ImportFrom(module=str(module), names=names):
        known |= {n.asname or n.name: f'{module}.{n.name}' for n in names}
        if module.split('.')[0] in _MODULES:
          whole = {f'{module}.{one.name}' for one in names}
          found += sorted(whole - _HARMLESS)
      case ast.Call(func=func, keywords=keywords):
        first, *rest = ast.unparse(func).split('.')
        name = '.'.join([known.get(first, first), *rest])
        name = name.removeprefix('builtins.')
        given = {k.arg: k.value for k in keywords}
        if name in _CALLS or name.startswith(
          ('os.exec', 'os.spawn', 'os.posix_spawn')
        ):
          found.append(name)
        if name.endswith(('read_pickle', 'jit.load')):
          found.append(name)
        if name.endswith('torch.load') and not _is(given, 'weights_only', True):
          found.append(name)
        if 'allow_pickle' in given and not _is(given, 'allow_pickle', False):
          found.append(name)
        if 'shell' in given and not _is(given, 'shell', False):
          found.append(name)
  return found


def _is(given, name, value):
  return isinstance(given.get(name), ast.Constant) and (
    given[name].value is value
  )


def test_nothing_but_a_config_file_is_run():
  found = {
    str(path.relative_to(ROOT)): one
    for path in SOURCES
    if (one := found_in(path.read_text(encoding='utf-8')))
  }
  assert len(SOURCES) > 100
  # Config files are programs, and trusted: see SECURITY.md; verbs are modules.
  assert found == {
    'simplenet_jax/__main__.py': ['runpy'],
    'simplenet_jax/config.py': ['runpy'],
  }


@pytest.mark.parametrize(
  ('source', 'expected'),
  [
    ('eval("1")', ['eval']),
    ('import pickle\npickle.loads(b"")', ['pickle']),
    ('from pickle import loads, UnpicklingError', ['pickle.loads']),
    ('np.load("x", allow_pickle=True)', ['np.load']),
    ('torch.load("x", weights_only=False)', ['torch.load']),
    ('torch.load("x", weights_only=True)', []),
    ('import torch as t\nt.load("x")', ['torch.load']),
    ('from os import system\nsystem("ls")', ['os.system']),
    ('run("ls", shell=True)', ['run']),
    ('model.eval()\nre.compile("x")', []),
  ],
)
def test_it_would_be_found(source, expected):
  assert found_in(source) == expected


@pytest.fixture
def ran(tmp_path):
  """What a hostile file leaves behind if it is trusted."""
  return tmp_path / 'ran'


@pytest.fixture(
  params=['pickle', 'torch', 'old torch', 'numpy', 'with tensors']
)
def hostile(request, ran):
  """Returns what writes a file that runs a command when it is trusted."""
  command = Command(f'touch {ran}')

  def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    match request.param:
      case 'pickle':
        path.write_bytes(pickle.dumps(command))
      case 'torch':
        torch.save({'conv1.weight': command}, path)
      case 'old torch':
        torch.save([command], path, _use_new_zipfile_serialization=False)
      case 'numpy':
        with path.open('wb') as file:
          np.save(file, np.array([command], object), allow_pickle=True)
      case 'with tensors':
        torch.save({'discriminator': {'x': torch.ones(3)}, 'x': command}, path)
    return path

  return write


@pytest.mark.parametrize(
  ('name', 'read'),
  [
    ('weights.pth', weights.read),
    ('weights.safetensors', weights.read),
    ('ckpt.pth', lambda path: assembly.load_released(path, 64)),
    ('part.safetensors', detectors.load),
    ('part.safetensors', detectors.read_card),
    ('results.json', lambda path: page.read(path.parent)),
    ('image.png', images.read_image),
  ],
)
def test_hostile_files_are_refused(hostile, ran, tmp_path, name, read):
  path = hostile(tmp_path / name)
  with pytest.raises(ValueError, match=name):
    read(path)
  assert not ran.exists()


def test_hostile_checkpoints_are_passed_over(hostile, ran, tmp_path, capsys):
  job = make_job(2)
  home = tmp_path / job.category / f'seed-{job.seed}' / '3'
  hostile(home / 'arrays.safetensors')
  assert Checkpoints(tmp_path).load(job) is None
  assert 'cannot be read' in capsys.readouterr().out
  assert not ran.exists()


def test_the_traps_work(tmp_path, ran):
  path = tmp_path / 'x'
  path.write_bytes(pickle.dumps(Command(f'touch {ran}')))
  with path.open('rb') as file:
    pickle.load(file)
  assert ran.exists()
