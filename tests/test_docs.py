"""Every command of the guides is run, or at least understood."""

import pathlib
import re
import runpy
import shlex

import pytest
import safetensors.numpy
from PIL import Image

from simplenet_jax import __main__, train
from tests import commands
from tests.models import fabricated
from tests.small import SMALL, make_category, make_config

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
  [
    *ROOT.glob('docs/*.md'),
    *(ROOT / name for name in ('README.md', 'SECURITY.md', 'launch/README.md')),
    ROOT / 'runtime/README.md',
  ]
)
COMMAND = re.compile(
  r'^(?:    )?((?:python -m simplenet_jax\.|simplenet [a-z]).*)$', re.MULTILINE
)
BENCHMARK = re.compile(r'python -m (benchmarks\.\w+)((?: --[^`\n]+)*)')
LINK = re.compile(r'\]\(([^)#\s]+)(?:#[^)]*)?\)')

# Of every kind of command, what stands before the flags of the kinds below:
# these need a network, a data set, a checkpoint or images that were held back,
# or never end, and are parsed only.
PARSED = (
  'export --detector=runs/parts/detectors/parts --format=openvino --precision',
  'serve',
  'clean',
  'calibrate --detector=DETECTOR --from_served',
  'download',
  'prepare',
  'import_released',
  'main --config=configs/cifar10.py',
  'main --config=mvtec --config.data.source=tfds',
)
TINY = SMALL | {
  'seeds': '0,',
  'precision': 'float32',
  'data.source': 'folder',
  'data.categories': 'gear,',
  'data.held_out': 0.0,
  'train.epochs': 1,
  'train.min_steps': 0,
  'engine.lanes': 1,
}


def found(pattern):
  return [
    pytest.param(match, id=f'{page.name}: {shlex.join(match.split())[10:90]}')
    for page in PAGES
    for match in dict.fromkeys(pattern.findall(page.read_text()))
  ]


class World:
  """What the guides' placeholders stand for, small."""

  def __init__(self, folder, backbone):
    self.folder, self.backbone = folder, backbone
    make_category(folder / 'data/gear')
    config = make_config(folder / 'data', backbone)
    config.seeds, config.train.epochs = (0,), 1
    train.train_and_evaluate(config, folder / 'run')
    path = folder / 'resnet18.safetensors'
    safetensors.numpy.save_file(fabricated.tensors('resnet18'), path)
    Image.new('L', (40, 32), 255).save(folder / 'roi.png')

  def placed(self, argument, out):
    """Returns an argument with paths of this world."""
    detector = self.folder / 'run/detectors/gear'
    good = self.folder / 'data/gear/test/good'
    for name, path in (
      (r'runs/parts/detectors/parts', detector),
      (r'\bDETECTOR\b', detector),
      (r'\bWORKDIR\b', self.folder / 'run'),
      (r'\b(MORE_)?(GOOD_IMAGES|NEW_IMAGES)\b', good),
      (r'(?<=--input=)FOLDER\b', good),
      (r'\bFILE_OR_NAME\b', self.folder / 'resnet18.safetensors'),
      (r'(?<==)resnet18.safetensors', self.folder / 'resnet18.safetensors'),
      (r'(?<=--roi=)roi.png', self.folder / 'roi.png'),
      (r'(?<==)(DIR|found)$', out / 'output'),
      (r'(?<=workdir=)runs/\w+', out / 'run'),
    ):
      argument = re.sub(name, str(path), argument)
    return argument

  def shrunk(self, kind, arguments):
    """Adds what makes a run small, after what it was told."""
    if kind not in ('main', 'sweep'):
      return []
    of_run = '--config.' if kind == 'main' else '--config.base.'
    small = {**TINY, 'data.root': self.folder / 'data'}
    small['backbone.weights'] = self.backbone
    if 'table4' in ' '.join(arguments):
      del small['backbone.name'], small['backbone.weights']
    return [f'{of_run}{name}={value}' for name, value in small.items()]


@pytest.fixture(scope='module')
def world(tmp_path_factory, backbone):
  return World(tmp_path_factory.mktemp('world'), backbone)


@pytest.mark.parametrize('command', found(COMMAND))
def test_every_command_works(world, command, tmp_path):
  program, *arguments = shlex.split(command, comments=True)
  if program == 'simplenet':
    kind = __main__.COMMANDS[arguments.pop(0)]
  else:
    kind = arguments[1].removeprefix('simplenet_jax.')
    arguments = arguments[2:]
  if ' '.join([kind, *arguments]).startswith(PARSED):
    assert commands.parse(f'simplenet_jax.{kind}', *arguments) == []
    return
  small = world.shrunk(kind, arguments)
  if small:  # The command as it stands, before it is shrunk.
    commands.parse(f'simplenet_jax.{kind}', *arguments)
    replaced = tuple(argument.split('=')[0] + '=' for argument in small)
    arguments = [a for a in arguments if not a.startswith(replaced)]
    if not any(argument.startswith('--workdir') for argument in arguments):
      arguments.append('--workdir=runs/new')
  placed = [world.placed(argument, tmp_path) for argument in arguments]
  done = commands.run(kind, *placed, *small)
  assert done.status == 0, done.errors


TEXT = '\n'.join(x.read_text() for x in [*PAGES, ROOT / 'CONTRIBUTING.md'])


@pytest.mark.parametrize(
  ('module', 'arguments'), sorted(set(BENCHMARK.findall(TEXT)))
)
def test_every_benchmark_is_there_and_knows_its_flags(module, arguments):
  given = arguments.replace('$seeds', '1').split()
  assert commands.parse(module, *given) == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
  for link in LINK.findall(page.read_text()):
    if not link.startswith('http'):
      assert (page.parent / link).exists(), link


def test_the_api_page_is_made_from_the_docstrings():
  made = runpy.run_path(str(ROOT / 'docs/make_api.py'))['page']()
  assert made == (ROOT / 'docs/api.md').read_text()
