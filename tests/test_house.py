"""What keeps the house small: who imports whom, and how much there is."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'simplenet_jax'

# From the ground up; a module imports nothing from a storey above its own, and
# rooms of one storey that are named apart import nothing from each other.
STOREYS = (
  ('config', 'fields', 'protocols', 'console', 'files', 'environment'),
  ('demo', 'pictures'),
  ('data',),
  ('models',),
  ('training', 'evaluation', 'detection', 'detector'),
  ('report',),
  ('workdir', 'tensorboard'),
  ('run_results', 'category_results'),
  ('train',),
  ('sweeps', 'serving'),
  (
    *('cli', 'main', 'evaluate', 'predict', 'calibrate', 'export', 'sweep'),
    'serve',
    *('show_config', 'download', 'prepare', 'import_released', '__main__'),
    'clean',
  ),
)
APART = ('training', 'evaluation', 'detection')
# `Detector.train` is `simplenet train` in a call; it loads that when called.
UPWARD = {'detector': ('cli', 'train')}

# Ceilings; lower them where there is less.
LINES = {'simplenet_jax': 18_415, 'tests': 15_530, 'benchmarks': 5_410}
CORE, CORE_LINES = ('config', 'train', 'models', 'training'), 5_280
FILES, LONGEST = 115, 300


def modules():
  """Yields every module's path and dotted name below the package."""
  for path in sorted(PACKAGE.rglob('*.py')):
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    yield path, '.'.join(parts).removesuffix('.__init__')


def imported(path):
  """Yields the names below the package that a module imports."""
  for node in ast.walk(ast.parse(path.read_text())):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names = [f'{node.module}.{alias.name}' for alias in node.names]
    for name in names:
      if name.startswith('simplenet_jax.'):
        yield name.removeprefix('simplenet_jax.')


def room(name):
  # `python -m` on a package runs a command.
  return '__main__' if name.endswith('__main__') else name.split('.')[0]


def storey(name):
  found = [i for i, rooms in enumerate(STOREYS) if room(name) in rooms]
  assert found, f'{name} belongs to no storey; add it to STOREYS'
  return found[0]


@pytest.mark.parametrize(
  ('path', 'name'),
  [one for one in modules() if one[1] not in ('__init__', '')],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_no_module_imports_from_above(path, name):
  for other in imported(path):
    if other.startswith('__'):  # The version.
      continue
    if other.split('.')[0] in UPWARD.get(name, ()):
      continue
    assert storey(other) <= storey(name), f'{name} imports {other}'
    if room(name) in APART and room(other) in APART:
      assert room(other) == room(name), f'{name} imports {other}'


@pytest.mark.parametrize('brick', ['layers', 'patches'])
def test_one_network(brick):
  """Training, detectors and exports take the network whole, from models."""
  for path, name in [one for one in modules() if room(one[1]) in APART]:
    for other in imported(path):
      assert not other.startswith(f'models.{brick}'), name


def lines(paths):
  return sum(len(path.read_text().splitlines()) for path in paths)


@pytest.mark.parametrize(('folder', 'most'), LINES.items())
def test_no_more_lines(folder, most):
  assert lines((ROOT / folder).rglob('*.py')) <= most


def test_the_core_is_small():
  core = [path for path, name in modules() if room(name) in CORE]
  assert lines(core) <= CORE_LINES


def test_no_more_files():
  assert len(list(modules())) <= FILES
  for path, name in modules():
    assert lines([path]) <= LONGEST, name


@pytest.mark.parametrize(('tour', 'most'), [('step', 10), ('map', 8)])
def test_the_tours_lead_somewhere(tour, most):
  text = (ROOT / 'CONTRIBUTING.md').read_text()
  section = text.split(f'<!-- tour: {tour} -->')[1].split('<!-- end -->')[0]
  paths = set(re.findall(r'`([\w/]+\.py)`', section))
  assert 3 < len(paths) <= most
  for path in paths:
    assert (PACKAGE / path).exists(), path


@pytest.mark.parametrize(
  ('modules', 'absent'),
  [
    ('configs.mvtec', 'jax'),
    ('simplenet_jax, simplenet_jax.cli, simplenet_jax.config', 'jax'),
    ('simplenet_jax.main, simplenet_jax.__main__', 'jax'),
    ('simplenet_jax.predict', 'jax'),
    ('simplenet_jax.serve', 'jax'),
    ('simplenet_jax.sweep', 'jax'),
    ('simplenet_jax.detector, simplenet_jax.train', 'tensorflow_datasets'),
  ],
)
def test_the_front_door_is_light(modules, absent):
  code = f'import sys, {modules}; sys.exit({absent!r} in sys.modules)'
  subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)
