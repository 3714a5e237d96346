"""What a fault comes to, and what must hold after it."""

import shutil
from collections.abc import Callable

from benchmarks.breaking.short_run import ShortRun


class Wrong(Exception):  # noqa: N818 - a finding.
  """What should not have happened."""


class LeftOut(Exception):  # noqa: N818 - a circumstance.
  """A fault that cannot be made to happen here."""


# Makes something happen; returns what came of it, or raises one of the above.
Fault = Callable[[], str]


def expect(holds: bool, what: str) -> None:
  """Raises `Wrong` unless something holds."""
  if not holds:
    raise Wrong(what)


def resumed(run: ShortRun, work: str) -> None:
  """Checks what is left, takes a run up again and compares."""
  expect(not run.halves(work), f'half-written: {run.halves(work)}')
  status, _, errors = run.finish(work)
  expect(status == 0, f'does not resume: {errors}')
  expect(not run.differing(work), f'is left otherwise: {run.differing(work)}')
  expect(not run.halves(work), f'half-written: {run.halves(work)}')
  shutil.rmtree(run.folder / work)


def refused(status: int, errors: str, reason: str) -> None:
  """Checks that a run gave up in one line that says why."""
  expect(status == 1, f'status {status}: {errors}')
  expect(len(errors.splitlines()) == 1, f'says more than a line: {errors}')
  expect(reason in errors, f'does not say why: {errors}')
