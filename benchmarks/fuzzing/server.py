"""A process that has everything loaded and runs commands in forks of itself.

A fork starts in milliseconds and is a process like any: it has its own flags,
prints, leaves a status, crashes and hangs alone. Only that its objects are not
taken apart in the end, which would take longer than most commands do. Reads a
JSON object a line from the standard input: `argv`, `folder`, `stop` and `kill`;
writes one with `status`, `peak` and `seconds` back.
"""

import atexit
import gc
import json
import os
import pathlib
import resource
import runpy
import signal
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

# Of the address space; a bomb ends here instead of the machine.
_ROOM = 24 << 30
_TICK = 0.005


def _preload() -> None:
  """Imports what commands import, but not them: each defines its flags."""
  import torch  # noqa: F401 - of files of weights.

  from simplenet_jax import cli, train  # noqa: F401
  from simplenet_jax.data import download  # noqa: F401
  from simplenet_jax.detection import (  # noqa: F401
    bundle,
    released,
    session,
  )
  from simplenet_jax.report import page  # noqa: F401


def _become(argv: list[str], folder: pathlib.Path) -> NoReturn:
  """Goes on as a command; its lines go to files in the folder."""
  for number, name in ((1, 'stdout'), (2, 'stderr')):
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, number)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  resource.setrlimit(resource.RLIMIT_AS, (_ROOM, _ROOM))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  sys.argv = [argv[0], *argv[1:]]
  status = _run(argv[0])
  # As an interpreter ends, up to where it frees what it holds.
  threading._shutdown()  # type: ignore[attr-defined]
  atexit._run_exitfuncs()
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
  os._exit(status)


def _run(module: str) -> int:
  """Runs a module as a command; returns its exit status."""
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


def _wait(child: int, stop: float, kill: float) -> dict[str, Any]:
  """Waits for a process; asks it to stop, then kills it, if it takes long."""
  start, asked = time.monotonic(), False
  while True:
    found, status, usage = os.wait4(child, os.WNOHANG)
    passed = time.monotonic() - start
    if found:
      return {
        'status': os.waitstatus_to_exitcode(status),
        'peak': usage.ru_maxrss << 10,
        'seconds': passed,
      }
    if passed > stop and not asked:
      os.kill(child, signal.SIGTERM)
      asked = True
    if passed > stop + kill:
      os.kill(child, signal.SIGKILL)
    time.sleep(_TICK)


def main() -> None:
  """Serves until the input ends."""
  _preload()
  # Else every fork would copy all there is to look for what is not needed.
  gc.collect()
  gc.freeze()
  print('ready', flush=True)
  for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
      _become(asked['argv'], pathlib.Path(asked['folder']))
    told = _wait(child, asked['stop'], asked['kill'])
    print(json.dumps(told), flush=True)


if __name__ == '__main__':
  main()
