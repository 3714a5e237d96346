"""What a person sees while a run is under way."""

import contextlib
import time
from collections.abc import Callable, Iterator

import jax
from rich import console as rich_console
from rich import progress as rich_progress

# Only terminals are asked for their width; a log's lines stay whole.
# Markup stays off: names and paths may hold brackets.
console = rich_console.Console(highlight=False, soft_wrap=True, markup=False)

_EVERY = 60.0  # Seconds between lines where there is no terminal.


@contextlib.contextmanager
def phase(label: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
  """Shows one live line with the time left, then one line of what it took.

  Where there is no terminal, a line a minute stands in for the live one.

  Args:
    label: What is under way.
    total: Number of `unit`s.
    unit: What is counted, such as `images`.

  Yields:
    A function to call with the number done so far and a short note.
  """
  start = time.perf_counter()
  columns = (
    rich_progress.TextColumn('  {task.description}', markup=False),
    rich_progress.BarColumn(bar_width=24),
    rich_progress.TextColumn('{task.completed:.0f}/{task.total:.0f}'),
    rich_progress.TextColumn('{task.fields[unit]}  {task.fields[note]}'),
    rich_progress.TimeRemainingColumn(compact=True),
  )
  bar = rich_progress.Progress(
    *columns, console=console, transient=True, disable=not console.is_terminal
  )
  with bar:
    task = bar.add_task(label, total=total, unit=unit, note='')

    told = start

    def update(done: int, note: str = '') -> None:
      nonlocal told
      bar.update(task, completed=done, note=note)
      now = time.perf_counter()
      if not console.is_terminal and done < total and now - told > _EVERY:
        told = now
        left = duration((now - start) / done * (total - done))
        ending = f', {note}' if note else ''
        console.print(f'  {label}: {done}/{total}, {left} left{ending}')

    yield update
  seconds = time.perf_counter() - start
  note = bar.tasks[0].fields['note']
  ending = f', {note}' if note else ''
  console.print(f'  {label}: {total} {unit} in {seconds:.1f} s{ending}')


def counted(count: int, one: str, several: str = '') -> str:
  """Returns a count as people say it: '1 seed', '3 seeds'."""
  return f'{count} {one if count == 1 else several or one + "s"}'


class Clock:
  """Adds up wall time by phase.

  Attributes:
    seconds: Wall time of each phase so far. Compilation happens within the
      phases and is told apart under `of which compilation`.
  """

  def __init__(self):
    self.seconds: dict[str, float] = {'of which compilation': 0.0}
    jax.monitoring.register_event_duration_secs_listener(self._on_event)

  def _on_event(self, event: str, duration_secs: float, **_: object) -> None:
    if event == '/jax/core/compile/backend_compile_duration':
      self.seconds['of which compilation'] += duration_secs

  @contextlib.contextmanager
  def __call__(self, name: str) -> Iterator[None]:
    """Counts what runs inside towards the phase `name`."""
    start = time.perf_counter()
    try:
      yield
    finally:
      spent = time.perf_counter() - start
      self.seconds[name] = self.seconds.get(name, 0.0) + spent


def duration(seconds: float) -> str:
  """Returns a duration as people say it: '40 s', '12 min', '3.5 h'."""
  if seconds < 90:
    return f'{seconds:.0f} s'
  if seconds < 5400:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3600:.1f} h'
