"""Signals that ask a run to stop: it saves and ends."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from simplenet_jax.console import console

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):  # noqa: N818 - nothing went wrong.
  """A run was stopped and can go on later; `status` is its exit status."""

  def __init__(self, message: str, status: int):
    super().__init__(message)
    self.status = status


class Stop(threading.Event):
  """Set when a signal arrived."""

  signal: int = 0  # Its number.


@contextlib.contextmanager
def caught(meanwhile: str = 'heads are saved') -> Iterator[Stop]:
  """Sets the event that it yields when SIGTERM or SIGINT arrives.

  A second signal ends the process at once; what was saved stays whole. Off the
  main thread, where Python allows no handlers, signals go their usual way.
  `meanwhile` tells what is done before the process ends.
  """
  stop = Stop()
  if threading.current_thread() is not threading.main_thread():
    yield stop
    return

  def on_first(number, frame):
    del frame
    stop.signal = number
    stop.set()
    for each in _SIGNALS:
      signal.signal(each, on_second)
    console.print(f'  stopping, {meanwhile}; once more ends it at once')

  def on_second(number, frame):
    del frame
    console.show_cursor()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)

  before = {number: signal.getsignal(number) for number in _SIGNALS}
  try:
    for number in _SIGNALS:
      signal.signal(number, on_first)
    yield stop
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


@contextlib.contextmanager
def at_once(kept: Callable[[], str]) -> Iterator[None]:
  """Turns SIGTERM and SIGINT into `Stopped`, wherever they arrive.

  For work that cannot look at an event: waiting for a server takes minutes.
  `kept` returns what is left and how it goes on, to be told.
  """
  numbers: list[int] = []

  def on_signal(number, frame):
    del frame
    numbers.append(number)
    raise KeyboardInterrupt

  before = {}
  try:
    if threading.current_thread() is threading.main_thread():
      for number in _SIGNALS:
        before[number] = signal.signal(number, on_signal)
    yield
  except KeyboardInterrupt:
    status = 128 + (numbers or [signal.SIGINT])[0]
    raise Stopped(kept(), status) from None
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
