"""Runs commands on hostile input and says what is wrong with how they end.

As a module of its own, `python -m benchmarks.fuzzing.judge` is a process that
has everything loaded and runs commands in forks of itself. A fork starts in
milliseconds and is a process like any: it has its own flags, prints, leaves a
status, crashes and hangs alone.
"""

import atexit
import dataclasses
import gc
import json
import os
import pathlib
import resource
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import IO, NamedTuple, NoReturn

# Bytes of memory that no small input may lead to, beside what is loaded.
MEMORY = 6 << 30
_ROOM = 24 << 30  # Of the address space: a bomb ends here, not the machine.
_KILL = 60.0  # Seconds after which a command that was told to stop hangs.


class Outcome(NamedTuple):
  """How a command ended: a signal is a negative status, `peak` is in bytes."""

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


Run = Callable[[Case, pathlib.Path], Outcome]


def started(compiled: pathlib.Path) -> tuple[Run, Callable[[], object]]:
  """Starts a process that forks; returns what runs a case, and what ends it.

  Args:
    compiled: Where compiled programs are kept from case to case.
  """
  process = subprocess.Popen(
    [sys.executable, '-m', 'benchmarks.fuzzing.judge'],
    env={
      **os.environ,
      'COLUMNS': '200',
      'JAX_COMPILATION_CACHE_DIR': str(compiled),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '0',
    },
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  read: IO[str] = process.stdout  # type: ignore[assignment]
  write: IO[str] = process.stdin  # type: ignore[assignment]
  if read.readline().strip() != 'ready':
    raise ValueError('the process that forks did not start')

  def run(case: Case, folder: pathlib.Path) -> Outcome:
    print(
      json.dumps([list(case.argv), str(folder), case.seconds]),
      file=write,
      flush=True,
    )
    status, seconds, peak = json.loads(read.readline())
    out, errors = (
      (folder / name).read_text(encoding='utf-8', errors='surrogateescape')
      for name in ('stdout', 'stderr')
    )
    return Outcome(status, out, errors, seconds, peak)

  return run, process.terminate


def wrong(case: Case, outcome: Outcome, folder: pathlib.Path) -> str | None:
  """Returns what is wrong with how a case in a folder ended, if anything."""
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


def run_module(module: str) -> int:
  """Runs a module as a command in this process; returns its exit status."""
  try:
    runpy.run_module(module, run_name='__main__', alter_sys=True)
  except SystemExit as ended:
    if isinstance(ended.code, str):
      print(ended.code, file=sys.stderr)
      return 1
    return ended.code or 0
  except BaseException:
    traceback.print_exc()
    return 1
  return 0


def _become(argv: list[str], folder: pathlib.Path) -> NoReturn:
  """Goes on as a command; its lines go to files in the folder."""
  for number, name in ((1, 'stdout'), (2, 'stderr')):
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, number)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  resource.setrlimit(resource.RLIMIT_AS, (_ROOM, _ROOM))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  sys.argv = argv
  status = run_module(argv[0])
  # As an interpreter ends, up to where it frees what it holds.
  threading._shutdown()  # type: ignore[attr-defined]
  atexit._run_exitfuncs()
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
  os._exit(status)


def _wait(child: int, stop: float) -> tuple[int, float, int]:
  """Waits for a fork; asks it to stop, then kills it, if it takes long."""
  start, signals = time.monotonic(), [signal.SIGTERM, signal.SIGKILL]
  while True:
    found, status, usage = os.wait4(child, os.WNOHANG)
    passed = time.monotonic() - start
    if found:
      code = os.waitstatus_to_exitcode(status)
      return code, passed, usage.ru_maxrss << 10
    if signals and passed > stop:
      os.kill(child, signals.pop(0))
      stop += _KILL
    time.sleep(0.005)


def _serve() -> None:
  """Runs a case for each line of the input, until that ends."""
  # What commands import, but not they: each defines its flags.
  import torch  # noqa: F401 - of files of weights.

  from simplenet_jax import cli, detector, train  # noqa: F401
  from simplenet_jax.data import download  # noqa: F401

  # Else every fork would copy all there is to look for what is not needed.
  gc.collect()
  gc.freeze()
  print('ready', flush=True)
  for line in sys.stdin:
    argv, folder, seconds = json.loads(line)
    child = os.fork()
    if not child:
      _become(argv, pathlib.Path(folder))
    print(json.dumps(_wait(child, seconds)), flush=True)


if __name__ == '__main__':
  _serve()
