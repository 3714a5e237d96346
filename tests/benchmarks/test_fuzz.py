"""The judge of hostile input: it must see what it is there to see."""

import json
import pathlib
import signal
import subprocess
import sys

import pytest

from benchmarks import fuzz
from benchmarks.fuzzing import judge

ROOT = pathlib.Path(__file__).parents[2]
CASE = judge.Case(['x'], 'a case', seconds=5.0, trains=True)
LINE = 'error: x.png: cannot be read'


def outcome(status=0, errors='', out='', seconds=1.0, peak=0):
  return judge.Outcome(status, out, errors, seconds, peak)


@pytest.mark.parametrize(
  ('found', 'why'),
  [
    (outcome(), None),
    (outcome(out='2 images\n', errors='WARNING of something\n'), None),
    (outcome(1, LINE), None),
    (outcome(2, f'a warning\n{LINE}\n'), None),
    (outcome(143, 'stop: stopped and saved', seconds=6.0), None),
    (outcome(-signal.SIGTERM, seconds=6.0), None),
    (outcome(-signal.SIGSEGV), 'status -11'),
    (outcome(-signal.SIGKILL, seconds=70.0), 'status -9'),
    (outcome(3, LINE), 'status 3'),
    (outcome(143, 'stop: stopped'), 'status 143'),
    (outcome(1, f'Traceback (most recent call last)\n{LINE}'), 'a traceback'),
    (outcome(0, out='Traceback (most recent call last)'), 'a traceback'),
    (outcome(1), 'status 1 and 0 lines that say why'),
    (outcome(1, f'{LINE}\n{LINE}'), 'status 1 and 2 lines'),
    (outcome(0, LINE), 'status 0 and 1 lines'),
    (outcome(1, f'{LINE}\nand more'), 'is not the last'),
    (outcome(1, f'error: {"x" * 3000}'), 'a line of 3007 characters'),
    (outcome(peak=judge.MEMORY + 1), 'MiB of memory'),
  ],
)
def test_what_may_happen_and_what_may_not(tmp_path, found, why):
  wrong = judge.wrong(CASE, found, tmp_path)
  assert wrong is None if why is None else why in wrong


def test_what_else_is_seen(tmp_path):
  case = judge.Case(['x'], 'a case', seconds=5.0)
  hangs = outcome(-signal.SIGTERM, seconds=6.0)
  assert judge.wrong(case, hangs, tmp_path) == 'not done after 5 s'
  case = judge.Case(['x'], 'a case', check=lambda found: found.out or None)
  assert judge.wrong(case, outcome(out='odd'), tmp_path) == 'odd'
  (tmp_path / '.partial-1-x.png').touch()
  assert "left behind: ['.partial" in judge.wrong(CASE, outcome(), tmp_path)


@pytest.mark.slow
def test_commands_given_anything(tmp_path):
  script = (
    'import pathlib\n'
    'from benchmarks import fuzz, timing\n'
    'from simplenet_jax import cli\n'
    f'timing.RESULTS = pathlib.Path({str(tmp_path)!r})\n'
    'cli.run(fuzz.main)'
  )
  done = subprocess.run(
    [
      *(sys.executable, '-c', script, '--count=200'),
      f'--keep={tmp_path / "kept"}',
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / 'fuzz.json').read_text())
  assert found['inputs'] >= 200
  assert set(found['inputs_by_kind']) == set(fuzz.KINDS)
  assert found['wrong'] == []
