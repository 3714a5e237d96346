"""Runs commands on hostile input and says what is wrong with how they end.

Commands run in forks of a process that has everything loaded. A fork starts in
milliseconds and is a process like any: it has its own flags, prints, leaves a
status, crashes and hangs alone.
"""

import atexit
import dataclasses
import gc
import os
import pathlib
import resource
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

import jax
from absl import flags

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
  """One command and what it is given."""

  argv: Sequence[str]  # The module, and its arguments.
  told: str  # What makes the input hostile, for whoever looks into a finding.
  inputs: int = 1  # How many are tried at once.
  seconds: float = 60.0  # After which it is told to stop.
  trains: bool = False  # Whether it may take longer, and stops when told to.
  # Says what else is wrong, given how it ended.
  check: Callable[[Outcome], str | None] = lambda outcome: None


def load(compiled: pathlib.Path) -> None:
  """Loads what commands import, but not them: each defines its flags.

  Compiled programs are kept in a folder from case to case.
  """
  import torch  # noqa: F401 - of files of weights.

  from simplenet_jax import cli, detector, train  # noqa: F401
  from simplenet_jax.data import download  # noqa: F401

  os.environ['COLUMNS'] = '200'
  jax.config.update('jax_compilation_cache_dir', str(compiled))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)
  # Else every fork would copy all there is to look for what is not needed.
  gc.collect()
  gc.freeze()


class Fork:
  """A case under way; it is asked to stop, then killed, if it takes long."""

  def __init__(self, case: Case, folder: pathlib.Path):
    self.case, self.folder = case, folder
    self._begun, self._stop = time.monotonic(), case.seconds
    self._signals = [signal.SIGTERM, signal.SIGKILL]
    sys.stdout.flush()  # Or the fork would print it too.
    self._child = os.fork()
    if not self._child:
      try:
        _become(list(case.argv), folder)
      finally:  # The fork must not go on as the judge.
        os._exit(70)

  def poll(self) -> Outcome | None:
    """Returns how it ended; None while it has not."""
    found, status, usage = os.wait4(self._child, os.WNOHANG)
    passed = time.monotonic() - self._begun
    if found:
      code, peak = os.waitstatus_to_exitcode(status), usage.ru_maxrss << 10
      out, errors = (
        (self.folder / name).read_text('utf-8', 'surrogateescape')
        for name in ('stdout', 'stderr')
      )
      return Outcome(code, out, errors, passed, peak)
    if self._signals and passed > self._stop:
      os.kill(self._child, self._signals.pop(0))
      self._stop += _KILL
    return None


def wrong(case: Case, outcome: Outcome, folder: pathlib.Path) -> str | None:
  """Returns what is wrong with how a case in a folder ended, if anything."""
  status, lines = outcome.status, outcome.errors.splitlines()
  final = [line for line in lines if line.startswith(('error: ', 'stop: '))]
  last = final[0] if final else ''
  # It says so where there is something to save, and else ends by the signal.
  told_to = outcome.seconds >= case.seconds
  stopped = told_to and status in (143, -signal.SIGTERM)
  left = [path.name for path in folder.rglob('.partial-*')]
  findings = {
    f'not done after {case.seconds:.0f} s': told_to and not case.trains,
    f'status {status}': status not in (0, 1, 2) and not stopped,
    'a traceback': 'Traceback' in outcome.errors + outcome.out,
    f'status {status} and {len(final)} lines that say why': (
      len(final) != (status > 0)
    ),
    'the line that says why is not the last': last and lines[-1] != last,
    f'a line of {len(last)} characters': len(last) > 2000,
    f'{outcome.peak >> 20} MiB of memory': outcome.peak > MEMORY,
    f'left behind: {left}': left,
  }
  found = [why for why, holds in findings.items() if holds]
  return found[0] if found else case.check(outcome)


def _become(argv: list[str], folder: pathlib.Path) -> NoReturn:
  """Goes on as a command; its lines go to files in the folder."""
  for number, name in ((1, 'stdout'), (2, 'stderr')):
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, number)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  resource.setrlimit(resource.RLIMIT_AS, (_ROOM, _ROOM))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  for name in list(flags.FLAGS):
    if 'fuzz' in str(flags.FLAGS.find_module_defining_flag(name)):
      delattr(flags.FLAGS, name)
  sys.argv, status = argv, 1
  try:
    runpy.run_module(argv[0], run_name='__main__', alter_sys=True)
    status = 0
  except SystemExit as ended:
    if isinstance(ended.code, str):
      print(ended.code, file=sys.stderr)
    else:
      status = ended.code or 0
  except BaseException:
    traceback.print_exc()
  # As an interpreter ends, up to where it frees what it holds.
  threading._shutdown()  # type: ignore[attr-defined]
  atexit._run_exitfuncs()
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
  os._exit(status)
