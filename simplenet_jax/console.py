"""What a person sees while a run is under way."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator

from rich import console as rich_console
from rich import progress as rich_progress

# Only terminals are asked for their width; a log's lines stay whole.
# Markup stays off: names and paths may hold brackets.
console = rich_console.Console(highlight=False, soft_wrap=True, markup=False)

_EVERY = 60.0  # Seconds between lines where there is no terminal.


def first_line(error: BaseException) -> str:
  """Returns what an error says, in one line."""
  return (str(error).strip() or type(error).__name__).splitlines()[0]


class Board:
  """One live line per category under way; one that stays when it is through.

  Where there is no terminal, a line a minute per category stands in for the
  live ones. Its methods can be called from several threads.
  """

  def __init__(self):
    """Prepares; lines are shown inside its context."""
    columns = (
      rich_progress.TextColumn('  {task.description}', markup=False),
      rich_progress.BarColumn(bar_width=16),
      rich_progress.TextColumn('{task.fields[note]}', markup=False),
      rich_progress.TimeRemainingColumn(
        compact=True, elapsed_when_finished=True
      ),
    )
    self._bars = rich_progress.Progress(
      *columns,
      console=console,
      transient=True,
      disable=not console.is_terminal,
    )
    self._lines: dict[str, _Line] = {}
    self._lock = threading.Lock()

  def __enter__(self) -> 'Board':
    self._bars.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._bars.stop()

  def show(self, name: str, done: float, total: float, note: str) -> None:
    """Shows in a line of this name how much of a total is done."""
    with self._lock:
      line = self._lines.get(name)
      if line is None:
        now = time.perf_counter()
        task = self._bars.add_task(name, total=total, note=note)
        line = self._lines[name] = _Line(task, now, now, done)
      self._bars.update(line.task, completed=done, note=note)
      now = time.perf_counter()
      if done < line.first:  # It went back to what was saved.
        line.start, line.first = now, done
      if console.is_terminal or done >= total or now - line.told < _EVERY:
        return
      line.told = now
      pace = (now - line.start) / max(done - line.first, 1e-9)
      left = duration(pace * (total - done))
      console.print(f'  {name}: {note}, {left} left')

  def end(self, name: str, text: str = '') -> None:
    """Replaces a live line, if there is one, by one that stays.

    It says `text` and the seconds since it was first shown; without a text
    nothing stays.
    """
    with self._lock:
      line = self._lines.pop(name, None)
      spent = ''
      if line:
        self._bars.remove_task(line.task)
        spent = f' in {time.perf_counter() - line.start:.1f} s'
      if text:
        console.print(f'  {name}: {text}{spent}')


@dataclasses.dataclass
class _Line:
  task: rich_progress.TaskID
  start: float
  told: float
  first: float


def counted(count: int, one: str, several: str = '') -> str:
  """Returns a count as people say it: '1 seed', '3 seeds'."""
  return f'{count} {one if count == 1 else several or one + "s"}'


class Clock:
  """Adds up wall time by phase, in `seconds`.

  Phases overlap, as categories are evaluated while others train. Compilation
  is part of them and also told apart, added up over devices.
  """

  def __init__(self):
    self._lock = threading.Lock()
    self.seconds: dict[str, float] = {'of which compilation': 0.0}
    import jax  # Here, as commands load it once their flags are checked.

    jax.monitoring.register_event_duration_secs_listener(self._on_event)

  def _on_event(self, event: str, duration_secs: float, **_: object) -> None:
    if event == '/jax/core/compile/backend_compile_duration':
      self._add('of which compilation', duration_secs)

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


def duration(seconds: float) -> str:
  """Returns a duration as people say it: '40 s', '12 min', '3.5 h'."""
  if seconds < 90:
    return f'{seconds:.0f} s'
  if seconds < 5400:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3600:.1f} h'
