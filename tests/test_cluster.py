"""Runs of several processes: as one process, whatever happens to some."""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests import commands
from tests.test_resume import Command


def free_port():
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    return probe.getsockname()[1]


def places(count):
  """Returns the flags of every process."""
  port = free_port()
  return [
    [
      '--multihost',
      f'--coordinator_address=localhost:{port}',
      f'--num_processes={count}',
      f'--process_id={index}',
    ]
    for index in range(count)
  ]


class Processes:
  """The processes of one run."""

  def __init__(self, command, count, work):
    self.all = [command.start(work, *place) for place in places(count)]

  def end(self):
    """Waits for all; returns their statuses, what they told, their errors."""
    told, errors = zip(
      *(one.communicate(timeout=120) for one in self.all), strict=True
    )
    return [one.returncode for one in self.all], told, errors


@pytest.fixture(scope='module')
def command(tmp_path_factory, backbone):
  return Command(tmp_path_factory.mktemp('cluster'), backbone)


@pytest.fixture(scope='module')
def whole(command):
  """What one process leaves."""
  return command.finish('whole')[1]


def test_two_processes_of_two_devices_leave_what_one_does(command, whole):
  command.environment['XLA_FLAGS'] = '--xla_force_host_platform_device_count=2'
  try:
    processes = Processes(command, 2, 'two')
  finally:
    del command.environment['XLA_FLAGS']
  statuses, told, errors = processes.end()
  assert statuses == [0, 0], errors
  assert command.left('two') == whole
  # The first speaks for all; each decodes what its devices need.
  assert '2 processes, 4 devices' in told[0]
  assert '3 categories x 2 seeds' in told[0]
  assert 'Results: ' in told[0]
  assert 'categories' not in told[1]
  assert 'Results: ' not in told[1]
  evaluated = [
    {name for name in ('bolt', 'cog', 'nut') if f'{name}: I-AUROC' in one}
    for one in told
  ]
  assert set.union(*evaluated) == {'bolt', 'cog', 'nut'}
  assert not evaluated[0] & evaluated[1]
  assert all(evaluated)
  table = json.loads((command.folder / 'two/results.json').read_text())
  assert (table['device']['processes'], table['device']['count']) == (2, 4)


def test_a_stop_of_one_process_stops_all_and_changes_nothing(command, whole):
  processes = Processes(command, 2, 'stopped')
  command.until_saved('stopped', processes.all[0])
  processes.all[1].send_signal(signal.SIGTERM)
  statuses, _, errors = processes.end()
  assert statuses == [128 + signal.SIGTERM] * 2, errors
  for one in errors:
    # Above it JAX's runtime warns of what it was asked for.
    assert one.splitlines()[-1].startswith('stop: stopped and saved;')
  told, left = command.finish('stopped')
  assert 'resumes' in told
  assert left == whole


@pytest.mark.slow
def test_a_loss_of_a_process_changes_nothing(command, whole):
  # It is lost as soon as it has features.
  processes = Processes(command, 3, 'lost')
  told = iter(processes.all[2].stdout.readline, '')
  assert any('features' in line for line in told)
  processes.all[2].kill()
  start = time.monotonic()
  statuses, told, errors = processes.end()
  assert time.monotonic() - start < 45
  assert statuses == [1, 1, -signal.SIGKILL]
  for one in errors[:2]:
    assert one.splitlines()[-1] == (
      'error: process 2 of 3 is gone; what was trained is saved, the same '
      'command goes on'
    )

  _, left = command.finish('lost')
  assert left == whole


@pytest.mark.slow
def test_four_processes_leave_what_one_does(command, whole):
  statuses, _, errors = Processes(command, 4, 'four').end()
  assert statuses == [0] * 4, errors
  assert command.left('four') == whole


@pytest.mark.slow
def test_each_process_decodes_what_its_devices_need_and_no_more(command):
  one = copy.copy(command)
  one.flags = [flag.replace('seeds=0,1', 'seeds=0,') for flag in command.flags]
  statuses, told, errors = Processes(one, 2, 'one seed').end()
  assert statuses == [0, 0], errors
  decoded = [
    {name for name in ('bolt', 'cog', 'nut') if f'{name}, features' in one}
    for one in told
  ]
  assert not decoded[0] & decoded[1]
  assert decoded[0] | decoded[1] == {'bolt', 'cog', 'nut'}


@pytest.mark.slow
def test_others_end_with_process_0(command):
  processes = Processes(command, 2, 'first lost')
  command.until_saved('first lost', processes.all[0])
  processes.all[0].kill()
  start = time.monotonic()
  statuses, _, errors = processes.end()
  assert time.monotonic() - start < 45
  assert statuses == [-signal.SIGKILL, -signal.SIGABRT]
  assert 'another task died' in errors[1]


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others(command):
  one, other = places(2)
  first = command.start('other', *one)
  second = command.start('other', *other, '--config.train.sigma=.5')
  told, error = second.communicate(timeout=120)
  assert second.returncode == 1
  assert error.startswith(
    'error: process 1 is to do something else than process 0: '
    '--config.train.sigma was 0.015, is 0.5'
  )
  told, error = first.communicate(timeout=120)
  assert first.returncode == 1, told
  assert error.splitlines()[-1].startswith(
    'error: process 1 of 2 ended: process 1 is to do'
  )


@pytest.mark.slow
def test_a_sweep_of_two_processes_finds_what_one_does(tmp_path, command):
  # Patch sizes do not share their features: one group after the other.
  settings = {
    **{'data.categories': 'gasket,', 'data.root': tmp_path / 'demo'},
    **{'data.resize': 64, 'seeds': '0,1', 'train.epochs': 2},
    **{'patch.pretrain_dim': 16, 'patch.target_dim': 16, 'head.hidden': 8},
  }
  line = [
    *(sys.executable, '-m', 'simplenet_jax.sweep'),
    *('--config=configs/paper/figure6.py:demo', '--config.only=1,3'),
    *(f'--config.base.{field}={value}' for field, value in settings.items()),
  ]
  found = []
  for name, flags in (('alone', [[]]), ('together', places(2))):
    started = [
      subprocess.Popen(
        [*line, f'--workdir={tmp_path / name}', *of_one],
        env=command.environment,
        stderr=subprocess.PIPE,
        text=True,
      )
      for of_one in flags
    ]
    errors = [one.communicate(timeout=200)[1] for one in started]
    assert all(one.returncode == 0 for one in started), errors
    rows = json.loads((tmp_path / name / 'figure6.json').read_text())['rows']
    found.append([(row['label'], row['figures']) for row in rows])
  assert found[0] == found[1]


def test_without_a_cluster_it_does_not_begin(tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'simplenet_jax.main'),
      *('--config=configs/demo.py', f'--workdir={tmp_path / "work"}'),
      '--multihost',
    ],
    env={k: v for k, v in os.environ.items() if not k.startswith('SLURM')},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert done.stderr.startswith('error: --multihost: no cluster was found')
  assert done.stderr.count('\n') == 1
  assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize(
  ('arguments', 'error'),
  [
    (['--multihost'], '--multihost needs --workdir, on storage that all'),
    (['--process_id=0'], '--process_id needs --multihost'),
    (
      ['--multihost', '--workdir=x', '--num_processes=2'],
      '--coordinator_address, --num_processes, --process_id go together',
    ),
  ],
)
@pytest.mark.parametrize(
  ('name', 'config'),
  [('main', 'configs/demo.py'), ('sweep', 'configs/paper/table1.py:demo')],
)
def test_flags_that_do_not_go_together_are_refused(
  name, config, arguments, error
):
  done = commands.run(name, f'--config={config}', *arguments)
  assert done.status == 2
  assert done.error.startswith(f'error: {error}')
