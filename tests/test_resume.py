"""Runs that are killed and started again, as processes of their own."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests import commands
from tests.small import make_category


class Command:
  """A run on three small categories; `start` begins it or takes it up."""

  def __init__(self, folder, backbone):
    self.folder = folder
    for index, name in enumerate(('bolt', 'cog', 'nut')):
      make_category(folder / 'data' / name, train=5 + 2 * index)
    settings = {
      'data.root': folder / 'data',
      'data.resize': 32,
      'backbone.name': 'demo_resnet',
      'backbone.weights': backbone,
      'patch.pretrain_dim': 24,
      'patch.target_dim': 24,
      'head.hidden': 8,
      'seeds': '0,1',
      'train.epochs': 240,
      'train.batch_size': 4,
      'evaluation.every': 40,
      'evaluation.pictures': 0,
      'engine.checkpoint_seconds': 0.1,
      'engine.tensorboard': False,
    }
    self.flags = [
      '--config=configs/folder.py:reference',
      *(f'--config.{field}={value}' for field, value in settings.items()),
    ]
    # Small programs too: nothing but what is disturbed takes time.
    cache = {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
    self.environment = {**os.environ, **cache}

  def start(self, work, *more):
    return subprocess.Popen(
      [
        *(sys.executable, '-m', 'simplenet_jax.main', *self.flags),
        *(f'--workdir={self.folder / work}', *more),
      ],
      env=self.environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  def here(self, work, *more):
    """Runs in this process, where nothing has to be disturbed."""
    workdir = f'--workdir={self.folder / work}'
    return commands.run('main', *self.flags, workdir, *more)

  def finish(self, work, *more):
    """Runs to the end; returns what it told and what it left."""
    process = self.start(work, *more)
    told, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return told, self.left(work)

  def left(self, work):
    """Returns what a run that ended has left."""
    left = json.loads((self.folder / work / 'results.json').read_text())
    curves = [
      (self.folder / work / f'curves/{name}.csv').read_text()
      for name in ('bolt', 'cog', 'nut')
    ]
    figures = [left[key] for key in ('categories', 'mean', 'selected_on_test')]
    return figures, curves

  def until_saved(self, work, process):
    """Waits until a head that is under way has been saved."""
    folder = self.folder / work / 'checkpoints'
    while not list(folder.glob('*/*/*/_CHECKPOINT_METADATA')):
      assert process.poll() is None, process.stderr.read()
      time.sleep(0.02)


@pytest.fixture(scope='module')
def command(tmp_path_factory, backbone):
  return Command(tmp_path_factory.mktemp('resume'), backbone)


@pytest.fixture(scope='module')
def whole(command):
  """What a run leaves that nobody disturbs."""
  return command.finish('whole')[1]


@pytest.fixture(scope='module')
def seconds(command, whole):
  """How long a run takes for which everything is compiled."""
  start = time.monotonic()
  assert command.finish('timed')[1] == whole
  return time.monotonic() - start


def test_signals_and_kills_change_nothing(command, whole):
  process = command.start('stopped')
  command.until_saved('stopped', process)
  process.send_signal(signal.SIGTERM)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 128 + signal.SIGTERM
  # A head that ended before may have been told of.
  assert errors.splitlines()[-1].startswith('stop: stopped and saved; the same')

  process = command.start('stopped')
  told = iter(process.stdout.readline, '')
  assert any('through' in line for line in told)  # The first of three.
  process.kill()
  process.communicate()

  told, left = command.finish('stopped')
  assert 'resumes' in told
  assert left == whole


def test_a_finished_run_is_not_trained_again(command, whole):
  done = command.here('whole')
  assert done.status == 0, done.errors
  assert 'resumes   6 heads finished, 0 under way' in done.told
  assert 'features' not in done.told
  assert command.left('whole') == whole


def test_another_config_is_refused(command, whole):
  done = command.here('whole', '--config.train.sigma=0.5')
  assert done.status == 1
  assert '--config.train.sigma was 0.015, is 0.5' in done.error


@pytest.mark.slow
@pytest.mark.parametrize('chance', range(10))
def test_kills_at_random_moments_change_nothing(
  command, whole, seconds, chance
):
  work, moment = f'killed {chance}', random.Random(chance).uniform(0.1, 0.9)
  process = command.start(work)
  time.sleep(moment * seconds)
  assert process.poll() is None
  process.kill()
  process.communicate()
  _, left = command.finish(work)
  assert left == whole


def test_a_second_run_in_the_same_directory_is_refused(command):
  first = command.start('busy')
  told = iter(first.stdout.readline, '')
  assert any('results' in line for line in told)
  done = command.here('busy')
  assert done.status == 1
  assert done.error.startswith('error: another run is at work in ')
  assert first.poll() is None
  first.kill()
  first.communicate()
