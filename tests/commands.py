"""Commands in this process, as the shell would run them."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from typing import NamedTuple
from unittest import mock

from absl import app, flags

from simplenet_jax import cli

_OURS = ('simplenet_jax', 'benchmarks')


class Done(NamedTuple):
  status: int
  told: str
  errors: str

  @property
  def error(self):
    """The one line on stderr."""
    lines = self.errors.splitlines()
    assert len(lines) == 1, self.errors
    return lines[0]


@contextlib.contextmanager
def _flags_of_its_own():
  """Hides our modules' flags, and those that are defined inside afterwards."""
  app.define_help_flags()
  # Those of modules that other tests imported, where they have the same names.
  # Without a module are those that were put back below.
  module = flags.FLAGS.find_module_defining_flag
  ours = [x for x in flags.FLAGS if (module(x) or _OURS[0]).startswith(_OURS)]
  others = {flag: flags.FLAGS[flag] for flag in ours}
  for flag in others:
    delattr(flags.FLAGS, flag)
  known, argv = set(flags.FLAGS), sys.argv
  try:
    yield
  finally:
    sys.argv = argv
    for flag in set(flags.FLAGS) - known:
      delattr(flags.FLAGS, flag)
    for flag, value in others.items():
      flags.FLAGS[flag] = value


def run(name, *arguments):
  """Runs `python -m simplenet_jax.<name>`; its flags are gone afterwards."""
  told, errors = io.StringIO(), io.StringIO()
  status = None
  try:
    with (
      _flags_of_its_own(),
      mock.patch.object(os, '_exit', sys.exit),
      contextlib.redirect_stdout(told),
      contextlib.redirect_stderr(errors),
    ):
      sys.argv = [name, *map(str, arguments)]
      runpy.run_module(f'simplenet_jax.{name}', run_name='__main__')
  except SystemExit as ended:
    status = ended.code or 0
  assert status is not None
  return Done(status, told.getvalue(), errors.getvalue())


def python(*arguments, **environment):
  """Runs Python in a process of its own."""
  return subprocess.run(
    [sys.executable, *arguments],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
    env=os.environ | environment,
  )


def parse(module, *arguments):
  """Parses a command's flags, its config too; or raises `flags.Error`."""
  with _flags_of_its_own():
    sys.modules.pop(module, None)  # A test may have imported it.
    runpy.run_module(module, run_name='parsed')
    sys.argv = [module, *arguments]  # Where overrides are read from.
    left = cli.parse(sys.argv)
    if any('--config=' in argument for argument in arguments):
      assert flags.FLAGS['config'].value.name
  return left[1:]
