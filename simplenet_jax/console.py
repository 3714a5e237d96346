"""What a person sees while a run is under way, and how it is asked to stop."""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from rich import console as rich_console
from rich import progress as rich_progress

# Only terminals are asked for their width; a log's lines stay whole.
# Markup stays off: names and paths may hold brackets.
console = rich_console.Console(highlight=False, soft_wrap=True, markup=False)

# Seconds to a first line where there is no terminal, and between more of them.
_FIRST, _EVERY = 10.0, 60.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STOPPED = 'stopped; start the same command again'
_MOMENT = 1.0  # Seconds; three after a signal the process is ended.

unsaved: set[object] = set()  # Who would lose something by that.


def first_line(error: BaseException) -> str:
  """Returns what an error says, in one line."""
  return (str(error).strip() or type(error).__name__).splitlines()[0]


def counted(count: int, one: str, several: str = '') -> str:
  """Returns a count as people say it: '1 seed', '3 seeds'."""
  return f'{count} {one if count == 1 else several or one + "s"}'


def numbers(*values: float) -> list[str]:
  """Returns values with three digits, or as many more as tell them apart."""
  told, digits = [], 2
  while len({*told}) < len({*values}) and digits < 10:
    digits += 1
    told = [f'{one:#.{digits}g}'.rstrip('.') for one in values]
  return told


def duration(seconds: float) -> str:
  """Returns a duration as people say it: '40 s', '12 min', '3.5 h'."""
  if seconds < 90:
    return f'{seconds:.0f} s'
  if seconds < 5400:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3600:.1f} h'


def doing(what: str) -> contextlib.AbstractContextManager[object]:
  """Says on a terminal what takes seconds, as long as it does."""
  on_main = threading.current_thread() is threading.main_thread()
  shown = on_main and console.is_terminal
  return console.status(what) if shown else contextlib.nullcontext()


class Board(rich_progress.Progress):
  """One live line per category under way; one that stays when it is through.

  Without a terminal it is a line after ten seconds and one a minute. Several
  threads can use it.
  """

  def __init__(self):
    super().__init__(
      rich_progress.TextColumn('  {task.description}', markup=False),
      rich_progress.BarColumn(bar_width=16),
      rich_progress.TextColumn('{task.fields[note]}', markup=False),
      rich_progress.TimeRemainingColumn(
        compact=True, elapsed_when_finished=True
      ),
      console=console,
      speed_estimate_period=10 * _EVERY,
      transient=True,
      disable=not console.is_terminal,
    )
    self._showing = threading.Lock()

  def _task(self, name: str) -> rich_progress.Task | None:
    return {task.description: task for task in self.tasks}.get(name)

  def show(self, name: str, done: int, total: int, note: str) -> None:
    """Shows in a line of this name how much of a total is done."""
    with self._showing:
      now, task = time.monotonic(), self._task(name)
      if task is None:
        self.add_task(
          name, True, total, done, note=note, told=now + _FIRST - _EVERY
        )
        return
      if done and not task.completed:  # Its speed is not known at once.
        soon = now + _FIRST / 2 - _EVERY
        self.update(task.id, told=max(soon, task.fields['told']))
      self.update(task.id, completed=done, total=total, note=note)
      if console.is_terminal or now - task.fields['told'] < _EVERY:
        return
      if left := task.time_remaining:
        self.update(task.id, told=now)
        console.print(f'  {name}: {note}, {duration(left)} left')

  def end(self, name: str, text: str = '') -> None:
    """Replaces a live line by one that stays, with `text`, or by nothing."""
    with self._showing:
      spent = ''
      if task := self._task(name):
        spent = f' in {task.elapsed:.1f} s'
        self.remove_task(task.id)
      if text:
        console.print(f'  {name}: {text}{spent}')


class Clock:
  """Adds up wall time by phase, in `seconds`.

  Phases overlap, and compilation, added up over devices, is part of them.
  """

  def __init__(self):
    self._lock = threading.Lock()
    self.seconds: dict[str, float] = {'of which compilation': 0.0}
    import jax  # Here, as commands load it once their flags are checked.

    def on_event(event: str, duration_secs: float, **_: object) -> None:
      if event == '/jax/core/compile/backend_compile_duration':
        self._add('of which compilation', duration_secs)

    jax.monitoring.register_event_duration_secs_listener(on_event)

  @contextlib.contextmanager
  def __call__(self, name: str) -> Iterator[None]:
    """Counts what runs inside towards the phase `name`."""
    start = time.perf_counter()
    try:
      yield
    finally:
      self._add(name, time.perf_counter() - start)

  def _add(self, name: str, seconds: float) -> None:
    with self._lock:
      self.seconds[name] = self.seconds.get(name, 0.0) + seconds


class Stopped(Exception):  # noqa: N818 - nothing went wrong.
  """A run was stopped and can go on later; `status` is its exit status."""

  def __init__(self, message: str, status: int):
    super().__init__(message)
    self.status = status


class Signalled(BaseException):
  """A thread is to leave what it does, as the run is to stop.

  Where KeyboardInterrupt passes through `exec`, Python ends by SIGINT itself.
  """


class Stop(threading.Event):
  """Set when a signal arrived, whose number is `signal`."""

  signal: int = 0  # An error sets it, too, without a signal.

  def heed(self) -> None:
    """Raises `Signalled` if it is set."""
    if self.is_set():
      raise Signalled

  def stopped(self, message: str) -> Stopped:
    """Returns what ends the command by this signal."""
    return Stopped(message, 128 + (self.signal or signal.SIGINT))


@contextlib.contextmanager
def caught(meanwhile: str, raises: bool = False) -> Iterator[Stop]:
  """Sets the event that it yields when SIGTERM or SIGINT arrives.

  `meanwhile` says what is done then; a second signal ends the process at once.
  Where it `raises`, the main thread leaves what it does by `Signalled`.
  """
  stop = Stop()

  def on_signal(number, _):
    if stop.signal:
      console.show_cursor()
      signal.signal(number, signal.SIG_DFL)
      os.kill(os.getpid(), number)
    stop.signal = number
    stop.set()
    console.print(f'  stopping, {meanwhile}; Ctrl-C again stops at once')
    if raises:
      raise Signalled

  with _handled_by(on_signal, protects=not raises):
    yield stop


@contextlib.contextmanager
def at_once(kept: Callable[[], str], protects: bool = True) -> Iterator[None]:
  """Turns SIGTERM and SIGINT into `Stopped`, for work that reads no event.

  `kept` returns what is left and how it goes on, to be told.
  """
  stop = Stop()

  def on_signal(number, _):
    stop.signal = number
    raise Signalled

  try:
    with _handled_by(on_signal, protects):
      yield
  except (Signalled, Exception) as error:
    # A module that was being loaded makes an error of its own of a signal.
    if not (stop.signal or isinstance(error, Signalled)):
      raise
    raise stop.stopped(kept()) from None


@contextlib.contextmanager
def heeded() -> Iterator[None]:
  """Has this process end some seconds after a signal, whatever it does.

  Python handles signals between its own steps, and a compilation is one. Then
  the process is ended from another thread, unless somebody is `unsaved`.
  """
  readable, writable = os.pipe()
  os.set_blocking(writable, False)
  before = signal.set_wakeup_fd(writable)

  def watch() -> None:
    while byte := os.read(readable, 1):
      waited = 0
      while not select.select([readable], [], [], _MOMENT)[0]:
        waited = 0 if unsaved else waited + 1
        if byte[0] in _SIGNALS and waited == 3:
          console.show_cursor()
          print(f'stop: {_STOPPED}', file=sys.stderr)
          os._exit(128 + byte[0])
    os.close(readable)

  threading.Thread(target=watch, daemon=True).start()
  try:
    with at_once(lambda: _STOPPED, protects=False):
      yield
  finally:
    signal.set_wakeup_fd(before)
    os.close(writable)


@contextlib.contextmanager
def _handled_by(handler: Callable[..., None], protects: bool) -> Iterator[None]:
  """Has SIGTERM and SIGINT handled, which Python allows on its main thread."""
  on_main = threading.current_thread() is threading.main_thread()
  before = {
    number: signal.signal(number, handler) for number in _SIGNALS if on_main
  }
  try:
    if protects:
      unsaved.add(handler)
    yield
  finally:
    unsaved.discard(handler)
    for number, old in before.items():
      signal.signal(number, old)
