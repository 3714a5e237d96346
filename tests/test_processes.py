"""Runs that are stopped, killed and shared by processes: all end alike."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from simplenet_jax import environment
from simplenet_jax.environment import Processes
from tests import commands
from tests.small import SMALL, make_category

CATEGORIES = ('bolt', 'cog', 'nut')


class Command:
  """A run on three small categories; `start` begins it or takes it up."""

  def __init__(self, folder, backbone):
    self.folder = folder
    for index, name in enumerate(CATEGORIES):
      make_category(folder / 'data' / name, train=5 + 2 * index)
    settings = SMALL | {
      'data.root': folder / 'data',
      'backbone.weights': backbone,
      'seeds': '0,1',
      'train.epochs': 240,
      'evaluation.every': 40,
      'evaluation.pictures': 0,
      'engine.checkpoint_seconds': 0.1,
      'engine.tensorboard': False,
    }
    self.flags = [
      '--config=configs/folder.py:reference',
      *(f'--config.{field}={value}' for field, value in settings.items()),
    ]

  def start(self, work, *more):
    where = f'--workdir={self.folder / work}'
    # Small programs too: nothing but what is disturbed takes time.
    cache = {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
    return subprocess.Popen(
      [sys.executable, '-m', 'simplenet_jax.main', *self.flags, where, *more],
      env=os.environ | cache,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  def start_all(self, work, count):
    return [
      self.start(work, f'--process={index}', f'--processes={count}')
      for index in range(count)
    ]

  def here(self, work):
    """Runs in this process, which has other devices: nothing is trained."""
    workdir = f'--workdir={self.folder / work}'
    return commands.run('main', *self.flags, workdir)

  def finish(self, work):
    """Runs to the end; returns what it told and what it left."""
    process = self.start(work)
    told, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return told, self.left(work)

  def left(self, work):
    """Returns what a run that ended has left."""
    folder = self.folder / work
    left = json.loads((folder / 'results.json').read_text())
    curves = [(folder / f'curves/{n}.csv').read_text() for n in CATEGORIES]
    figures = [left[key] for key in ('categories', 'mean', 'selected_on_test')]
    return figures, curves


@pytest.fixture(scope='module')
def command(tmp_path_factory, backbone):
  return Command(tmp_path_factory.mktemp('processes'), backbone)


@pytest.fixture(scope='module')
def whole(command):
  """What a run leaves that nobody disturbs."""
  return command.finish('whole')[1]


def test_a_finished_run_is_not_trained_again(command, whole):
  table = command.folder / 'whole/results.json'
  before = table.read_bytes()
  done = command.here('whole')
  assert done.status == 0, done.errors
  assert 'resumes   6 heads finished, 0 under way' in done.told
  assert ', features: ' not in done.told
  assert table.read_bytes() == before


def test_signals_and_kills_change_nothing(command, whole):
  process = command.start('stopped')
  folder = command.folder / 'stopped/checkpoints'
  while not list(folder.glob('*/*/*/_CHECKPOINT_METADATA')):
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.02)
  process.send_signal(signal.SIGSTOP)  # So that it is not done meanwhile.
  busy = command.here('stopped')
  process.send_signal(signal.SIGCONT)
  assert busy.status == 1
  assert busy.error.startswith('error: another run is at work in ')
  process.send_signal(signal.SIGTERM)
  _, errors = process.communicate(timeout=600)
  assert process.returncode == 128 + signal.SIGTERM
  # A head that ended before may have been told of.
  assert errors.splitlines()[-1].startswith('stop: stopped and saved; the same')

  process = command.start('stopped')
  told = iter(process.stdout.readline, '')
  assert any('of 2 x ' in line for line in told)  # The first of three.
  process.kill()
  process.communicate()

  told, left = command.finish('stopped')
  assert 'resumes' in told
  assert left == whole


@pytest.mark.parametrize(
  'chance', [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 6))]
)
def test_a_kill_of_one_process_stops_no_other(command, whole, chance):
  """Kills one of three processes at a random moment of its training."""
  drawn, work = random.Random(chance), f'killed {chance}'
  lost = drawn.randrange(3)
  started = command.start_all(work, 3)
  told = iter(started[lost].stdout.readline, '')
  assert any('features' in line for line in told)
  time.sleep(drawn.uniform(0, 1))
  started[lost].kill()
  for index, process in enumerate(started):
    _, errors = process.communicate(timeout=600)
    assert process.returncode == (-signal.SIGKILL if index == lost else 0), (
      errors
    )
  assert command.finish(work)[1] == whole


@pytest.mark.slow
@pytest.mark.parametrize('count', [2, 4])
def test_processes_leave_what_one_does(command, whole, count):
  work = f'{count} processes'
  for process in command.start_all(work, count):
    told, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert f' of {count}, from 0' in told
  assert command.left(work) == whole
  table = json.loads((command.folder / work / 'results.json').read_text())
  assert table['device']['processes'] == count


VALUES = ('process', 'processes', 'processes_on_host', 'multihost')
STEP = {'SLURM_JOB_ID': '7', 'SLURM_STEP_ID': '0'}
TASK = {'SLURM_PROCID': '5', 'SLURM_NTASKS': '8'}


@pytest.mark.parametrize(
  ('given', 'environ', 'expected'),
  [
    ({}, {}, (0, 1, 1)),
    ({'process': 2, 'processes': 3, 'processes_on_host': 2}, {}, (2, 3, 2)),
    ({}, TASK | STEP | {'SLURM_STEP_TASKS_PER_NODE': '3(x2),2'}, (5, 8, 3)),
    ({}, TASK | {'SLURM_JOB_ID': '7'}, (0, 1, 1)),  # A batch script itself.
    ({'processes': 1}, TASK | STEP, (0, 1, 1)),
    ({'processes': 4}, {'JOB_COMPLETION_INDEX': '3'}, (3, 4, 1)),
    ({}, {'JOB_COMPLETION_INDEX': '3'}, (0, 1, 1)),
  ],
)
def test_who_a_process_is(given, environ, expected):
  values = dict.fromkeys(VALUES) | given
  assert environment.find(values, environ) == Processes(*expected)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ('main --config=demo --process=0', '--process needs --processes'),
    ('main --config=demo --processes=2', '--processes=2 needs --process'),
    ('main --config=demo --process=2 --processes=2', '--process=2 is none of'),
    ('main --config=demo --multihost', 'several processes need --workdir'),
    ('sweep --config=paper/table3 --multihost --process=1', '--multihost f'),
  ],
)
def test_commands_look_at_them_first(arguments, message):
  done = commands.run(*arguments.split())
  assert done.status == 2
  assert done.error.startswith(f'error: {message}')
