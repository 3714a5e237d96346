"""Commands as a user types them: what is wrong fits on one line."""

import subprocess
import sys

import pytest

from tests import commands

MVTEC = '--config=configs/mvtec.py'


def command(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'simplenet_jax.main', *arguments],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )


@pytest.mark.parametrize(
  ('arguments', 'status', 'message'),
  [
    ((), 2, '--config must be given'),
    (('--config=configs/no.py',), 2, '--config=configs/no.py: no such file;'),
    (('--config=configs/demo.py:paper',), 2, '--config: this one has no choic'),
    ((f'{MVTEC}:papr',), 2, "'papr'; choose one of reference, paper"),
    ((MVTEC, 'data'), 2, "unexpected argument 'data'"),
    ((MVTEC, '--confg=x'), 2, "'confg'. Did you mean: config"),
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
      (MVTEC, '--config.backbone.batch_size=4', '--config.trian.epochs=3'),
      2,
      'no --config.trian.epochs; did you mean --config.train.epochs?',
    ),
    (
      ('--config=README.md',),
      2,
      '--config: no config file, its Python is wrong: ',
    ),
    (
      (MVTEC, '--workdir=setup.py/x'),
      1,
      '--workdir=setup.py/x: setup.py is not a folder; give another --workdir',
    ),
    (
      (MVTEC, '--config.seeds=a,b'),
      1,
      "--config.seeds is ('a,b',)",
    ),
    ((MVTEC, '--config.train.epochs=few'), 2, '--config.train.epochs=few'),
    (
      (MVTEC, '--config.train.epochs=0', '--config.precision=half'),
      1,
      "--config.precision is 'half', expected one of float32,",
    ),
    ((MVTEC, '--config.data.root=nowhere'), 1, 'nowhere: no such folder'),
  ],
)
def test_errors_are_one_line(arguments, status, message):
  done = command(*arguments)
  assert done.returncode == status, done.stderr
  lines = done.stderr.strip().splitlines()
  assert len(lines) == 1, done.stderr
  assert lines[0].startswith('error: ')
  assert message in lines[0]


@pytest.mark.parametrize(
  ('name', 'flags'),
  [
    ('predict', ('detector', 'input', 'output')),
    ('calibrate', ('detector', 'input')),
    ('export', ('detector', 'output')),
  ],
)
def test_all_that_must_be_given_is_named(name, flags):
  done = commands.run(name)
  assert done.status == 2
  assert f'{", ".join(f"--{flag}" for flag in flags)} must be' in done.error


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
  done = command('--help')
  assert 'python -m simplenet_jax.main --config=configs/mvtec.py' in done.stdout
  assert '--workdir' in done.stdout


def test_a_message_stays_one_line_however_much_was_given():
  found = command(MVTEC, f'--config.precision={"x" * 5000}')
  assert found.returncode == 1
  (line,) = found.stderr.splitlines()
  assert len(line) < 1100
  assert line.startswith("error: --config.precision is 'xxx")


@pytest.mark.parametrize(
  ('error', 'message'),
  [
    ("RuntimeError('RESOURCE_EXHAUSTED: 9 bytes')", 'device is out of memory'),
    ('MemoryError()', 'this machine is out of memory'),
    ("MemoryError('lower --x')", 'lower --x'),
  ],
)
def test_too_little_memory_is_one_line(error, message):
  script = (
    f'from simplenet_jax import cli\ndef main(): raise {error}\ncli.run(main)'
  )
  done = subprocess.run(
    [sys.executable, '-c', script],
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert done.returncode == 1
  (line,) = done.stderr.splitlines()
  assert line.startswith('error: ')
  assert message in line
