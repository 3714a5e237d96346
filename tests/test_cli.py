"""Commands as a user types them: what is wrong fits on one line."""

import pathlib

import pytest

from simplenet_jax import __main__ as verbs
from simplenet_jax import cli, train
from tests import commands

MVTEC = '--config=mvtec'
SWEEP = '--config=paper/table3'
EPOCH = 'no --config.train.epoch; did you mean --config.train.epochs?'
A_SWEEPS = 'the config of a sweep: simplenet sweep'


@pytest.mark.parametrize(
  ('arguments', 'status', 'message'),
  [
    ('', 2, '--config must be given, one of btad, cifar10, demo, folder, '),
    ('--config=configs/no.py', 2, '--config=configs/no.py: no such file;'),
    ('--config=mvtec_fast:paper', 2, 'this one has no choices; leave'),
    ('--config=demo:paper', 2, "'paper'; choose combined or fast"),
    (f'{MVTEC}:papr', 2, "'papr'; choose one of reference, paper"),
    (f'{SWEEP} --config.train.epochs=3', 2, A_SWEEPS),
    (f'{MVTEC} data', 2, "unexpected argument 'data'"),
    (f'{MVTEC} --confg=x', 2, "'confg'. Did you mean: config"),
    (f'{MVTEC} --data.root=x', 2, '; did you mean --config.data.root?'),
    (f'{MVTEC} --epochs=3', 2, '; did you mean --config.train.epochs?'),
    (f'{MVTEC} --flagfile=no', 2, 'Unable to open flagfile: [Errno 2] No such'),
    (f'--config.seeds=3 {MVTEC}', 2, 'Found --config.seeds=3 before --config='),
    ('--config.seeds=3', 2, "no --config=... before '--config.seeds'"),
    (f'{MVTEC} --config.data=x', 2, '--config.data is a section; set its '),
    (f'{MVTEC} --config.trian.epochs=3', 2, 'did you mean --config.train.e'),
    (f'{MVTEC} --config.only=x', 2, 'there is no --config.only'),
    ('--config=README.md', 2, '--config=README.md: SyntaxError: '),
    (f'{MVTEC} --workdir=setup.py/x', 1, 'setup.py is not a folder; give'),
    (f'{MVTEC} --config.seeds=a,b', 1, "--config.seeds is ('a', 'b'),"),
    (f'{MVTEC} --config.train.epochs=few', 2, "a whole number, not 'few'"),
    (f'{MVTEC} --config.precision={"x" * 5000}', 1, "'xxxxxxxxxxxx"),
    (f'{MVTEC} --config.data.root=nowhere', 1, 'nowhere: no such folder'),
  ],
)
def test_errors_are_one_line(arguments, status, message):
  done = commands.run('main', *arguments.split())
  assert done.status == status, done.errors
  assert done.error.startswith('error: ')
  assert message in done.error
  assert len(done.error) < 1100


@pytest.mark.parametrize(
  ('name', 'config', 'message'),
  [
    ('main', MVTEC, EPOCH),
    ('sweep', SWEEP, 'did you mean --config.base.train.epochs?'),
    ('sweep', MVTEC, 'config of one run: simplenet train'),
  ],
)
def test_flags_in_files_are_looked_at(tmp_path, name, config, message):
  (tmp_path / 'flags').write_text('--config.train.epoch=3\n')
  done = commands.run(name, config, f'--flagfile={tmp_path / "flags"}')
  assert done.status == 2
  assert message in done.error


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    ('import missing_one', 'line 1: ModuleNotFoundError: No module named '),
    ('x = 1', 'has no function get_config; see configs/folder.py'),
    ('def get_config():\n  return (1).x', 'line 2: AttributeError: '),
    ('def get_config():\n  pass', 'returned NoneType, expected a ConfigDict'),
    ('def get_config(base):\n  pass', 'TypeError: get_config() missing 1'),
    (
      'from simplenet_jax.config import from_protocol\n\n\n'
      'def get_config():\n  config = from_protocol()\n'
      '  config.train.epoch = 3\n  return config',
      f'there is {EPOCH[:-1]}',
    ),
  ],
)
def test_a_config_file_that_is_wrong_is_one_line(tmp_path, lines, message):
  path = tmp_path / 'mine.py'
  path.write_text(f'{lines}\n')
  done = commands.run('main', f'--config={path}', '--config.train.epochs=1')
  assert done.status == 2
  assert f'--config={path}: ' in done.error
  assert message in done.error


@pytest.fixture
def trained(monkeypatch, tmp_path):
  """Returns the settings that runs would have had, from any folder."""
  seen = []
  monkeypatch.setattr(
    train, 'train_and_evaluate', lambda config, *_: seen.append(config)
  )
  monkeypatch.chdir(tmp_path)
  return seen


@pytest.mark.parametrize(
  ('given', 'categories'),
  [
    ('2024_01,1e3,true,01, 7', ('2024_01', '1e3', 'true', '01', '7')),
    ("('01', 'a,b')", ('01', 'a,b')),
    ('gear,', ('gear',)),
  ],
)
def test_categories_are_what_was_typed(trained, tmp_path, given, categories):
  flag = f'--config.data.categories={given}'
  (tmp_path / 'flags').write_text(f'{flag}\n')
  for one in (flag, f'--flagfile={tmp_path / "flags"}'):
    done = commands.run('main', MVTEC, '--config.seeds=0,12', one)
    assert done.status == 0, done.errors
    assert trained[-1].data.categories == categories
    assert trained[-1].seeds == (0, 12)


def test_configs_are_found_from_any_folder(trained):
  for given in ('mvtec:paper', 'configs/mvtec.py:paper'):
    done = commands.run('main', f'--config={given}', '--strict')
    assert done.status == 0, done.errors
    assert trained[-1].protocol == 'paper'
    assert trained[-1].data.strict


def test_runs_have_a_directory_each(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  with cli.workdir(None, 'part') as one, cli.workdir(None, 'part') as other:
    (other / 'results.json').touch()
    assert one.name.startswith('part-')
    assert one != other
  # What nothing was written into is gone.
  assert list(pathlib.Path('runs').iterdir()) == [other]


@pytest.mark.parametrize(
  ('name', 'flags'),
  [
    ('import_released', ('config', 'checkpoint', 'output')),
    ('predict', ('detector', 'input', 'output')),
    ('export', ('detector', 'output')),
  ],
)
def test_all_that_must_be_given_is_named(name, flags):
  missing = f'error: {", ".join(f"--{flag}" for flag in flags)} must be given'
  given = [MVTEC if flag == 'config' else f'--{flag}=x' for flag in flags]
  for flags_given in ([], given[:-1], [*given[:-1], f'--{flags[-1]}=']):
    done = commands.run(name, *flags_given)
    assert (done.status, done.error) == (2, missing)


@pytest.mark.parametrize('name', ['predict', 'calibrate', 'export'])
def test_places_for_results_are_looked_at_first(tmp_path, name):
  (tmp_path / 'file').touch()
  (tmp_path / 'x.png').touch()
  given = ['--detector=none', f'--output={tmp_path / "file/new"}']
  given += [f'--input={tmp_path}'] * (name != 'export')
  done = commands.run(name, *given)
  assert done.status == 1
  assert f'{tmp_path / "file"} is not a folder; give another' in done.error


def assert_error(done, status, message):
  assert done.returncode == status
  (line,) = done.stderr.splitlines()
  assert line.startswith(f'error: {message}')


def test_verbs_are_listed_and_run():
  package = pathlib.Path(cli.__file__).parent
  modules = {
    '.'.join(path.relative_to(package).with_suffix('').parts)
    for path in package.rglob('*.py')
    if 'cli.run(' in path.read_text() and path.name != 'cli.py'
  }
  names = {name.removesuffix('.__main__') for name in modules}
  assert {*verbs.COMMANDS.values()} == names
  listed = commands.python('-m', 'simplenet_jax', '--help').stdout
  assert [line.split()[0] for line in listed.splitlines()[1:-1]] == list(
    verbs.COMMANDS
  )
  helped = commands.python('-m', 'simplenet_jax', 'train', '--help').stdout
  assert verbs.summary('train') in helped
  asked = commands.python('-m', 'simplenet_jax', 'help', 'train')
  assert asked.stdout == helped
  for flag in ('--config:', '--workdir:', '--[no]strict:'):
    assert flag in helped
  done = commands.python('-m', 'simplenet_jax', 'prdict')
  assert_error(done, 2, 'there is no simplenet prdict; did you mean predict?')


def test_settings_are_printed_with_their_meanings():
  done = commands.run(
    'show_config', f'{MVTEC}:paper', '--config.train.epochs=3'
  )
  assert done.status == 0
  text = ' '.join(done.told.split())
  assert '--config.train.epochs=3 (default 160) Epochs of each head.' in text
  assert 'Takes one of constant, cosine.' in text
  assert '--config.data.crop=224 (default 288) ' in text


@pytest.mark.parametrize(
  ('raised', 'status', 'message'),
  [
    ("RuntimeError('RESOURCE_EXHAUSTED')", 1, 'a device is out of memory'),
    ('MemoryError()', 1, 'this machine is out of memory'),
    ("PermissionError(13, 'No', 'a/b')", 1, 'a/b: No; give this user the ri'),
    (
      "ModuleNotFoundError(name='tensorflow_datasets')",
      1,
      "this needs tensorflow_datasets, of simplenet-jax's extra [tfds]; in a ",
    ),
    ("KeyError('gear')", 70, "KeyError: 'gear'; this is a fault of the "),
    ("AssertionError('a\\nb')", 70, 'AssertionError: a b; this is a fault'),
  ],
)
def test_whatever_happens_is_one_line(raised, status, message):
  lines = f'def main():\n  raise {raised}\ncli.run(main)'
  lines = f'from simplenet_jax import cli\n{lines}'
  assert_error(commands.python('-c', lines), status, message)
  if status == 70:  # Where a fault is can be seen.
    assert 'Traceback' in commands.python('-c', lines, '--verbosity=1').stderr


def test_a_backend_that_is_not_there_is_told():
  lines = 'from simplenet_jax import cli\nimport jax\ncli.run(jax.devices)'
  done = commands.python('-c', lines, JAX_PLATFORMS='nonsense')
  assert_error(done, 1, 'JAX_PLATFORMS is nonsense, which jax does not find on')


COMPILES = """
from simplenet_jax.environment import keep_compiled

keep_compiled()
import jax

events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
jax.jit(lambda x: 2 * x + 1)(1.0)
for kind in ('misses', 'hits'):
  print(sum(name.endswith(f'/cache_{kind}') for name in events))
"""


def test_a_later_command_compiles_nothing_again(tmp_path, monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
  monkeypatch.delenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS')
  (tmp_path / 'file').touch()

  def compile_in(home, **more):
    done = commands.python('-c', COMPILES, XDG_CACHE_HOME=str(home), **more)
    assert (done.returncode, done.stderr) == (0, '')
    misses, hits = map(int, done.stdout.split())
    return misses, hits

  compiled, hits = compile_in(tmp_path)
  assert compiled
  assert not hits
  (folder,) = (tmp_path / 'simplenet_jax').iterdir()
  half = folder / 'a-cache'  # A kill left it; JAX would stumble over it.
  half.touch()
  assert compile_in(tmp_path) == (0, compiled)
  assert not half.exists()
  # Without a place to write to, nothing is kept, and nothing is wrong.
  assert compile_in(tmp_path / 'file') == (0, 0)
  own = {'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'own')}
  compile_in(tmp_path / 'other', **own)
  assert not (tmp_path / 'other').exists()
