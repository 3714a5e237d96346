"""Commands as a user types them: what is wrong fits on one line."""

import datetime
import os
import pathlib
import shutil
import subprocess
import sys
import types

import pytest

from simplenet_jax import __main__ as listed
from simplenet_jax import cli, train
from tests import commands

MVTEC = '--config=configs/mvtec.py'
SWEEP = '--config=configs/paper/table3.py'


@pytest.mark.parametrize(
  ('arguments', 'status', 'message'),
  [
    ((), 2, '--config must be given'),
    (('--config=configs/no.py',), 2, '--config=configs/no.py: no such file;'),
    (('--config=configs',), 2, '--config=configs: no such file;'),
    (('--config=configs/demo.py:paper',), 2, 'this one has no choices; leave'),
    ((f'{MVTEC}:papr',), 2, "'papr'; choose one of reference, paper"),
    ((SWEEP,), 2, 'the config of a sweep: python -m simplenet_jax.sweep'),
    (
      (SWEEP, '--config.train.epochs=3'),
      2,
      'the config of a sweep: python -m simplenet_jax.sweep',
    ),
    ((MVTEC, 'data'), 2, "unexpected argument 'data'"),
    ((MVTEC, '--confg=x'), 2, "'confg'. Did you mean: config"),
    ((MVTEC, '--flagfile=no'), 2, 'Unable to open flagfile: [Errno 2] No such'),
    (
      ('--config.train.epochs=3', MVTEC),
      2,
      '--config must be given, before --config.train.epochs',
    ),
    (
      (MVTEC, '--config.data=x'),
      2,
      '--config.data is a section; set its fields, as in --config.data.',
    ),
    (
      (MVTEC, '--config.train.epochs'),
      2,
      'Missing value for flag --config.tra',
    ),
    (
      (MVTEC, '--config.trian.epochs=3'),
      2,
      'no --config.trian.epochs; did you mean --config.train.epochs?',
    ),
    (
      (MVTEC, '--config.train.epoch=3'),
      2,
      'no --config.train.epoch; did you mean --config.train.epochs?',
    ),
    (
      (MVTEC, '-config.train.epoch=3'),
      2,
      'no --config.train.epoch; did you mean --config.train.epochs?',
    ),
    (
      (MVTEC, '--config.backbone.batch_size=4', '--config.trian.epochs=3'),
      2,
      'no --config.trian.epochs; did you mean --config.train.epochs?',
    ),
    (
      ('--config=README.md',),
      2,
      '--config=README.md: its Python is wrong, line ',
    ),
    (
      (MVTEC, '--workdir=setup.py/x'),
      1,
      '--workdir=setup.py/x: setup.py is not a folder; give another --workdir',
    ),
    (
      (MVTEC, '--config.seeds=a,b'),
      1,
      "--config.seeds is ('a', 'b'), expected one or more",
    ),
    (
      (MVTEC, '--config.train.epochs=few'),
      2,
      "--config.train.epochs=few: expected a whole number, not 'few'",
    ),
    (
      (MVTEC, '--config.train.epochs=0', '--config.precision=half'),
      1,
      "--config.precision is 'half', expected one of float32,",
    ),
    ((MVTEC, '--config.data.root=nowhere'), 1, 'nowhere: no such folder'),
  ],
)
def test_errors_are_one_line(arguments, status, message):
  done = commands.run('main', *arguments)
  assert done.status == status, done.errors
  assert done.error.startswith('error: ')
  assert message in done.error


def test_flags_in_files_are_looked_at(tmp_path):
  (tmp_path / 'flags').write_text('--config.train.epoch=3\n')
  for name, config, meant in (
    ('main', MVTEC, 'train.epochs'),
    ('sweep', SWEEP, 'base.train.epochs'),
  ):
    done = commands.run(name, config, f'--flagfile={tmp_path / "flags"}')
    assert done.status == 2
    assert done.error.endswith(f'did you mean --config.{meant}?')


@pytest.mark.parametrize('name', ['main', 'import_released'])
def test_a_sweeps_config_is_told(name):
  given = ('--checkpoint=x', '--output=y') if name != 'main' else ()
  done = commands.run(name, SWEEP, *given)
  assert done.status == 2
  assert 'config of a sweep: python -m simplenet_jax.sweep' in done.error


def test_a_runs_config_is_told():
  done = commands.run('sweep', MVTEC, '--config.base.train.epochs=3')
  assert done.status == 2
  assert 'config of one run: python -m simplenet_jax.main' in done.error


def test_of_several_choices_the_first_is_taken_and_told(caplog):
  done = commands.run('main', '--config=configs/folder.py:fast:reference')
  assert done.status == 1
  assert 'data.root is empty' in done.error
  assert caplog.messages[0] == (
    '--config=configs/folder.py:fast:reference makes several choices; the '
    'first, fast, is taken'
  )


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    ('import missing_one', 'line 1: ModuleNotFoundError: No module named '),
    ('def get_config(:', 'its Python is wrong, line 1: '),
    ('x = 1', 'has no function get_config; see configs/folder.py'),
    ('def get_config():\n  return (1).x', 'line 2: AttributeError: '),
    ('def get_config():\n  pass', 'returned NoneType, expected a ConfigDict'),
    ('def get_config(base):\n  pass', 'needs a choice, as in '),
    (
      'from ml_collections import ConfigDict\n\n\n'
      'def get_config():\n  return ConfigDict({"name": "x"})',
      'there must be --config.backbone, --config.bank, --config.data,',
    ),
    (
      'from simplenet_jax.config import from_protocol\n\n\n'
      'def get_config():\n'
      '  config = from_protocol()\n'
      '  config.train.epoch = 3\n'
      '  config.trian = {"sigma": 0.5}\n'
      '  return config',
      'there is no --config.trian; did you mean --config.train?; there is no '
      '--config.train.epoch; did you mean --config.train.epochs?',
    ),
  ],
)
@pytest.mark.parametrize('more', [(), ('--config.train.epochs=1',)])
def test_a_config_file_that_is_wrong_is_one_line(
  tmp_path, lines, message, more
):
  path = tmp_path / 'mine.py'
  path.write_text(f'{lines}\n')
  done = commands.run('main', f'--config={path}', *more)
  assert done.status == 2
  assert f'--config={path}: ' in done.error
  assert message in done.error


@pytest.fixture
def trained(monkeypatch, tmp_path):
  """Returns the settings and directories that runs would have had."""
  seen = []
  monkeypatch.setattr(
    train,
    'train_and_evaluate',
    lambda config, workdir, _: seen.append((config, workdir)),
  )
  for name in ('configs', 'setup.py'):
    (tmp_path / name).symlink_to(pathlib.Path(name).resolve())
  monkeypatch.chdir(tmp_path)
  return seen


@pytest.mark.parametrize(
  ('given', 'categories'),
  [
    *(
      (name, (name,))
      for name in ('2024_01', '1e3', 'true', '0x10', 'None', '01', '7', '-1')
    ),
    ('01,02,03', ('01', '02', '03')),
    ('screw, a nut', ('screw', 'a nut')),
    ("('01', 'a,b')", ('01', 'a,b')),
    ("'01'", ('01',)),
    ('gear,', ('gear',)),
  ],
)
@pytest.mark.parametrize('in_file', [False, True])
def test_categories_are_what_was_typed(
  trained, tmp_path, given, categories, in_file
):
  flag = f'--config.data.categories={given}'
  if in_file:
    (tmp_path / 'flags').write_text(f'{flag}\n')
    flag = f'--flagfile={tmp_path / "flags"}'
  done = commands.run('main', MVTEC, '--config.seeds=0,12', flag)
  assert done.status == 0, done.errors
  ((config, _),) = trained
  assert config.data.categories == categories
  assert config.seeds == (0, 12)


def test_unreadable_images_end_a_run_where_that_is_asked_for(trained):
  for flag, strict in ((), False), (('--strict',), True):
    done = commands.run('main', MVTEC, *flag)
    assert done.status == 0, done.errors
    assert trained[-1][0].data.strict == strict


def test_runs_of_one_second_have_a_directory_each(monkeypatch, tmp_path):
  moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
  clock = types.SimpleNamespace(now=lambda: moment)
  monkeypatch.setattr(cli.datetime, 'datetime', clock)
  monkeypatch.chdir(tmp_path)
  with (
    cli.workdir(None, 'part') as first,
    cli.workdir(None, 'part') as second,
    cli.workdir(None, 'part') as third,
  ):
    (second / 'results.json').touch()
    names = [path.name for path in (first, second, third)]
  assert names == [f'part-20260102-030405{end}' for end in ('', '-2', '-3')]
  # What nothing was written into is gone.
  assert list(pathlib.Path('runs').iterdir()) == [second]


@pytest.mark.parametrize(
  ('name', 'flags'),
  [
    ('import_released', ('config', 'checkpoint', 'output')),
    ('predict', ('detector', 'input', 'output')),
    ('calibrate', ('detector', 'input')),
    ('export', ('detector', 'output')),
  ],
)
def test_all_that_must_be_given_is_named(name, flags):
  missing = f'error: {", ".join(f"--{flag}" for flag in flags)} must be given'
  config = [MVTEC] if 'config' in flags else []
  for given in ([], config):
    done = commands.run(name, *given)
    assert done.status == 2
    assert done.error == missing


@pytest.mark.parametrize('name', ['predict', 'calibrate', 'export'])
def test_places_for_results_are_looked_at_first(tmp_path, name):
  (tmp_path / 'file').touch()
  (tmp_path / 'x.png').touch()
  given = ['--detector=none', f'--output={tmp_path / "file/new"}']
  given += [f'--input={tmp_path}'] * (name != 'export')
  done = commands.run(name, *given)
  assert done.status == 1
  assert f'{tmp_path / "file"} is not a folder; give another' in done.error


def test_help_names_the_command():
  done = subprocess.run(
    [sys.executable, '-m', 'simplenet_jax.main', '--help'],
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert 'python -m simplenet_jax.main --config=configs/mvtec.py' in done.stdout
  for flag in ('--config:', '--workdir:', '--[no]strict:'):
    assert flag in done.stdout


def test_all_commands_are_listed():
  package = pathlib.Path(cli.__file__).parent
  modules = {
    '.'.join(path.relative_to(package).with_suffix('').parts)
    for path in package.rglob('*.py')
    if 'cli.run(' in path.read_text() and path.name != 'cli.py'
  }
  names = {name.removesuffix('.__main__') for name in modules}
  told = listed.listing()
  lines = told.splitlines()[1:]
  assert {line.split()[2] for line in lines} == {
    f'simplenet_jax.{name}' for name in names - {'pretraining'}
  }
  assert 'simplenet_jax.main             Trains and evaluates.' in told


def test_a_message_stays_one_line_however_much_was_given():
  found = commands.run('main', MVTEC, f'--config.precision={"x" * 5000}')
  assert found.status == 1
  assert len(found.error) < 1100
  assert found.error.startswith("error: --config.precision is 'xxx")


def script(raised, *flags, **environment):
  """Runs a command, as a process, that does what a line of Python says."""
  lines = (
    f'from simplenet_jax import cli\ndef main():\n  {raised}\ncli.run(main)'
  )
  return subprocess.run(
    [sys.executable, '-c', lines, *flags],
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
    env={**os.environ, **environment},
  )


@pytest.mark.parametrize(
  ('error', 'status', 'message'),
  [
    (
      "RuntimeError('RESOURCE_EXHAUSTED: 9 bytes')",
      1,
      'error: a device is out of memory',
    ),
    ('MemoryError()', 1, 'error: this machine is out of memory'),
    ("MemoryError('lower --x')", 1, 'error: lower --x'),
    (
      "PermissionError(13, 'Permission denied', 'a/b')",
      1,
      'error: a/b: Permission denied; give this user the right to it, or',
    ),
    (
      "KeyError('gear')",
      70,
      "error: KeyError: 'gear'; this is a fault of the program, please report",
    ),
    (
      "AssertionError('a\\nb')",
      70,
      'error: AssertionError: a b; this is a fault of the program',
    ),
  ],
)
def test_whatever_happens_is_one_line(error, status, message):
  done = script(f'raise {error}')
  assert done.returncode == status
  (line,) = done.stderr.splitlines()
  assert line.startswith(message)


def test_where_a_fault_is_can_be_seen():
  done = script("raise KeyError('gear')", '--verbosity=1')
  assert done.returncode == 70
  assert 'Traceback' in done.stderr
  assert done.stderr.splitlines()[-1].startswith("error: KeyError: 'gear'")


@pytest.mark.parametrize('platforms', ['cuda', 'nonsense'])
def test_a_backend_that_is_not_there_is_told(platforms):
  if platforms == 'cuda' and shutil.which('nvidia-smi'):
    pytest.skip('it is there')
  done = script('import jax; jax.devices()', JAX_PLATFORMS=platforms)
  assert done.returncode == 1
  (line,) = done.stderr.splitlines()
  assert line.startswith(
    f'error: JAX_PLATFORMS is {platforms}, which jax does not find on this '
    'machine; there is cpu: unset JAX_PLATFORMS or set it to that'
  )
