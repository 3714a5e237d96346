"""Runs commands on hostile input and says what is wrong with how they end."""

import csv
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

# Bytes of memory that no small input may lead to, beside what is loaded.
MEMORY = 6 << 30
_KILL = 60.0  # Seconds after which a command that was told to stop hangs.


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a command ended.

  Attributes:
    status: Of the process, or minus the signal that ended it.
    out: What it printed.
    errors: What it printed as errors.
    seconds: How long it took.
    peak: Bytes of memory that it took at most.
  """

  status: int
  out: str
  errors: str
  seconds: float
  peak: int


@dataclasses.dataclass(frozen=True)
class Case:
  """One command and what it is given.

  Attributes:
    argv: The module, and its arguments.
    told: What makes the input hostile, for whoever looks into a finding.
    inputs: How many inputs are tried at once.
    seconds: After which it is told to stop.
    trains: Whether it may take longer than that, and stops when it is told to.
    check: Says what else is wrong, given how it ended.
  """

  argv: Sequence[str]
  told: str
  inputs: int = 1
  seconds: float = 60.0
  trains: bool = False
  check: Callable[[Outcome], str | None] = lambda outcome: None


class Judge:
  """Runs cases in one process after another that were loaded before."""

  def __init__(self, compiled: pathlib.Path):
    """Starts the process that forks.

    Args:
      compiled: Where compiled programs are kept from case to case.
    """
    self._compiled, self._process = compiled, None

  def __enter__(self) -> 'Judge':
    """Waits until everything is loaded."""
    self._process = subprocess.Popen(
      [sys.executable, '-m', 'benchmarks.fuzzing.server'],
      env={
        **os.environ,
        'COLUMNS': '200',
        'JAX_COMPILATION_CACHE_DIR': str(self._compiled),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '0',
      },
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    if self._ask(None) != 'ready':
      raise ValueError('the process that forks did not start')
    return self

  def __exit__(self, *_: Any) -> None:
    """Ends it."""
    assert self._process and self._process.stdin
    self._process.stdin.close()
    self._process.wait()

  def run(self, case: Case, folder: pathlib.Path) -> Outcome:
    """Runs a case; what it prints is kept in the folder."""
    asked = {
      'argv': list(case.argv),
      'folder': str(folder),
      'stop': case.seconds,
      'kill': _KILL,
    }
    told = json.loads(self._ask(json.dumps(asked)))
    out, errors = (
      (folder / name).read_text(encoding='utf-8', errors='surrogateescape')
      for name in ('stdout', 'stderr')
    )
    return Outcome(told['status'], out, errors, told['seconds'], told['peak'])

  def _ask(self, line: str | None) -> str:
    process = self._process
    assert process and process.stdin and process.stdout
    if line:
      process.stdin.write(line + '\n')
      process.stdin.flush()
    return process.stdout.readline().strip()


def wrong(case: Case, outcome: Outcome, folder: pathlib.Path) -> str | None:
  """Returns what is wrong with how a case ended, if anything.

  Args:
    case: It.
    outcome: How it ended.
    folder: All that it was given and could write to.
  """
  status, lines = outcome.status, outcome.errors.splitlines()
  final = [line for line in lines if line.startswith(('error: ', 'stop: '))]
  # It says so where there is something to save, and else ends by the signal.
  told_to = outcome.seconds >= case.seconds
  stopped = told_to and status in (143, -signal.SIGTERM)
  if told_to and not case.trains:
    return f'not done after {case.seconds:.0f} s'
  if status not in (0, 1, 2) and not stopped:
    return f'status {status}'
  if 'Traceback' in outcome.errors + outcome.out:
    return 'a traceback'
  if len(final) != (status > 0):
    return f'status {status} and {len(final)} lines that say why'
  if final and lines[-1] != final[0]:
    return 'the line that says why is not the last'
  if final and len(final[0]) > 2000:
    return f'a line of {len(final[0])} characters'
  if outcome.peak > MEMORY:
    return f'{outcome.peak >> 20} MiB of memory'
  if left := list(folder.rglob('.partial-*')):
    return f'left behind: {left[0].name}'
  return case.check(outcome)


def rows(path: pathlib.Path) -> list[list[str]]:
  """Returns a CSV file's rows, without the first."""
  with path.open(
    encoding='utf-8', errors='surrogateescape', newline=''
  ) as file:
    return list(csv.reader(file))[1:]
