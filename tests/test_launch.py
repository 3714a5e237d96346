"""The launch scripts, with a stand-in for what they start."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess

import pytest
import yaml

LAUNCH = pathlib.Path(__file__).parents[1] / 'launch'
SCRIPTS = sorted([*LAUNCH.glob('*.sh'), *LAUNCH.glob('*.sbatch')])
# Tells what it was given; fails or waits where it is told to.
STAND_IN = """#!/usr/bin/env bash
if [[ $1 = -c ]]; then exec {python} "$@"; fi
trap 'echo saved; exit 143' TERM
echo "GPUs ${{CUDA_VISIBLE_DEVICES:-none}}: $*"
case " $* " in
  *" --fail=${{*: -1}} "*) exit 7 ;;
  *" --fail="*) sleep .5; echo through ;;
  *" --wait "*) for _ in {{1..100}}; do sleep .1; done ;;
esac
"""


@pytest.fixture
def start(tmp_path):
  """Returns a function that starts a script, `python` being the stand-in."""
  stand_in = tmp_path / 'bin/python'
  stand_in.parent.mkdir()
  stand_in.write_text(STAND_IN.format(python=shutil.which('python3')))
  stand_in.chmod(0o755)
  known = ('WORKDIR', 'TPU_NAME', 'ZONE', 'CUDA_VISIBLE_DEVICES')
  kept = {k: v for k, v in os.environ.items() if k not in known}
  kept['PATH'] = f'{stand_in.parent}:{kept["PATH"]}'

  def start(name, *arguments, **environment):
    return subprocess.Popen(
      [LAUNCH / name, *arguments],
      env=kept | environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )

  return start


@pytest.fixture
def run(start):
  def run(name, *arguments, **environment):
    process = start(name, *arguments, **environment)
    told, errors = process.communicate(timeout=30)
    return process.returncode, told, errors

  return run


@pytest.fixture(autouse=True, scope='module')
def heeded():
  """Lets children heed Ctrl-C, though a shell's background ignores it."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_short_and_strict(script):
  text = script.read_text()
  assert '\nset -euo pipefail\n' in text
  assert len(text.splitlines()) < 70
  assert text.count('python -m simplenet_jax.main') == 1
  assert os.access(script, os.X_OK)
  if not shutil.which('shellcheck'):
    pytest.skip('needs shellcheck')
  subprocess.run(['shellcheck', script], check=True)


@pytest.mark.parametrize(
  ('name', 'given', 'missing'),
  [
    ('gpu_single.sh', {}, 'WORKDIR'),
    ('slurm.sbatch', {}, 'WORKDIR'),
    ('tpu_vm.sh', {'TPU_NAME': 'pod'}, 'ZONE'),
    ('local.sh', {}, '1'),
  ],
)
def test_what_is_missing_is_named(run, name, given, missing):
  status, told, errors = run(name, **given)
  assert status != 0
  assert not told
  assert len(errors.splitlines()) == 1
  assert f'{missing}: ' in errors


def test_tpu_hosts_are_told_the_whole_command(run):
  place = {'TPU_NAME': 'pod', 'ZONE': 'z', 'WORKDIR': '/a b', 'DRY_RUN': '1'}
  status, told, errors = run('tpu_vm.sh', '--config.seeds=0,1', **place)
  assert status == 0, errors
  shown = f'printf "%s\\0" {" ".join(told.splitlines())}'
  text = subprocess.check_output(['bash', '-c', shown], text=True)
  words = text.split('\0')[:-1]
  assert words[:6] == ['gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', 'pod']
  on_host = shlex.split(words[-1].removeprefix('--command='))
  assert on_host == [
    *('cd', 'simplenet_jax', '&&', 'python', '-m', 'simplenet_jax.main'),
    *('--multihost', '--workdir=/a b', '--config.seeds=0,1'),
  ]


def test_processes_are_told_who_they_are_and_gpus_divided(run):
  gpus = {'CUDA_VISIBLE_DEVICES': '4,5,6,7'}
  status, told, errors = run('local.sh', '2', '--workdir=a b', **gpus)
  assert status == 0, errors
  assert sorted(told.splitlines()) == [
    f'[{index}] GPUs {gpus}: -m simplenet_jax.main --workdir=a b '
    f'--processes_on_host=2 --processes=2 --process={index}'
    for index, gpus in enumerate(['4,5', '6,7'])
  ]
  status, _, errors = run('local.sh', '3', '--workdir=x', **gpus)
  assert status == 2
  assert errors == 'launch/local.sh: 4 GPUs cannot be divided by 3\n'


def test_a_failure_stops_no_other(run):
  status, told, _ = run('local.sh', '3', '--fail=--process=1')
  assert status == 7
  assert told.count('through') == 2


@pytest.mark.parametrize('to_group', [False, True], ids=['TERM', 'Ctrl-C'])
def test_a_signal_reaches_all_and_each_once(start, to_group):
  process = start('local.sh', '2', '--wait')
  for _ in range(2):
    assert 'GPUs' in process.stdout.readline()
  if to_group:
    os.killpg(process.pid, signal.SIGINT)
  else:
    process.send_signal(signal.SIGTERM)
  told, _ = process.communicate(timeout=30)
  assert process.returncode == 143
  assert sorted(told.splitlines()) == ['[0] saved', '[1] saved']


def test_manifests_hang_together():
  found = {
    document['kind']: document
    for path in sorted(LAUNCH.glob('gke/*.yaml'))
    for document in yaml.safe_load_all(path.read_text())
  }
  assert set(found) == {'Job', 'PersistentVolumeClaim'}
  job, claim = found['Job']['spec'], found['PersistentVolumeClaim']
  assert job['completionMode'] == 'Indexed'
  assert job['parallelism'] == job['completions']
  pod = job['template']['spec']
  (container,), (volume,) = pod['containers'], pod['volumes']
  (mount,) = container['volumeMounts']
  assert mount['name'] == volume['name']
  claimed = volume['persistentVolumeClaim']['claimName']
  assert claimed == claim['metadata']['name']
  assert claim['spec']['accessModes'] == ['ReadWriteMany']
  command = container['command']
  assert command[:3] == ['python', '-m', 'simplenet_jax.main']
  assert command[3] == f'--processes={job["completions"]}'
  (cache,) = container['env']
  assert cache['name'] == 'XDG_CACHE_HOME'
  assert cache['value'].startswith(f'{mount["mountPath"]}/')
  shared = [one for one in command if f'={mount["mountPath"]}/' in one]
  assert [one.split('=')[0] for one in shared] == [
    *('--workdir', '--config.data.root', '--config.backbone.weights')
  ]
