"""Signals that end a run at any moment."""

import functools
import random
import shutil
import signal
import time
from collections.abc import Iterator

from benchmarks.breaking.short_run import ShortRun
from benchmarks.breaking.verdict import Fault, expect, resumed

_EARLIER = 0.8


def interrupted(
  run: ShortRun, work: str, moment: float, number: int
) -> str | None:
  """Sends a signal after some seconds.

  Returns:
    What the run was at, None if it was through by then.
  """
  process = run.start(work)
  told = run.read(process)
  time.sleep(moment)
  process.send_signal(number)
  status = process.wait(timeout=120)
  phase = run.phase(told())
  if status == 0:
    return None
  # SIGTERM before it is heeded ends a process as it ends any.
  allowed = (-number, 128 + number)
  expect(status in allowed, f'status {status} after signal {number}')
  return phase


def signalled(
  run: ShortRun, number: signal.Signals, index: int, moment: float
) -> str:
  """A signal after some seconds, to a run that is then taken up again.

  A run can be through before, being faster than the one that was timed; then
  the signal comes earlier to another.
  """
  work = f'{number.name} {index}'
  while (phase := interrupted(run, work, moment, number)) is None:
    shutil.rmtree(run.folder / work)
    moment *= _EARLIER
  resumed(run, work)
  return phase


def signals(
  run: ShortRun, count: int, number: signal.Signals
) -> Iterator[Fault]:
  """Yields signals at random moments, each to a run of its own."""
  chance = random.Random(int(number))  # noqa: S311
  for index in range(count):
    moment = chance.uniform(0.0, run.seconds)
    yield functools.partial(signalled, run, number, index, moment)


def kills(run: ShortRun, count: int) -> Iterator[Fault]:
  """SIGKILL at random moments."""
  return signals(run, count, signal.SIGKILL)


def stops(run: ShortRun, count: int) -> Iterator[Fault]:
  """SIGTERM at random moments."""
  return signals(run, count, signal.SIGTERM)
