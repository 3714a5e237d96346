"""The runs that `benchmarks.reproducibility` compares, as processes."""

import contextlib
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
# Of all runs; the others are the demo's own.
SETTINGS = {
  'data.source': 'folder',
  'data.categories': 'gasket,wood',
  'seeds': '0,1',
  'train.epochs': 12,
  'evaluation.every': 6,
  'evaluation.pictures': 0,
  'evaluation.report': False,
  'engine.devices': 1,
  'engine.tensorboard': False,
  'engine.checkpoint_seconds': 0.2,
}
_DIFFERS = ('changes', 'flags', 'environment', 'cores', 'killed', 'processes')
_PATIENCE = 900  # Seconds that a run of half a minute may take.


@dataclasses.dataclass(frozen=True)
class Run:
  """A run, by what is another thing in it.

  Attributes:
    changes: Fields of the config.
    flags: Of XLA.
    environment: Other variables.
    cores: How many of this machine's processors it may use; 0: all.
    killed: Whether a run without `changes` is killed first, which this one
      then takes up.
    processes: How many do it together.
    told: What it must say of itself, so that it was what it is called; a
      regular expression.
    needs: 'cpu' or 'gpu', where JAX's default device must be one, or 'devices',
      of which accelerators must have two.
    first_seed: What its seeds are counted from when they are compared.
  """

  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  flags: str = ''
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
  cores: int = 0
  killed: bool = False
  processes: int = 1
  told: str = ''
  needs: str = ''
  first_seed: int = 0

  @property
  def differs(self) -> dict[str, Any]:
    """What is another thing in it, by name."""
    usual, mine = dataclasses.asdict(Run()), dataclasses.asdict(self)
    return {name: mine[name] for name in _DIFFERS if mine[name] != usual[name]}


class Runner:
  """Starts runs on the same images."""

  def __init__(self, folder: pathlib.Path, images: pathlib.Path):
    """Notes where runs and compiled programs go, and the images."""
    self._folder, self._images = folder, images

  def __call__(self, name: str, run: Run) -> pathlib.Path:
    """Runs to the end; returns the work directory.

    Raises:
      ValueError: If it fails, or is not what it is called.
    """
    workdir = self._folder / name
    if run.killed:
      self._kill(workdir)
    process = self._start(workdir, run)
    told, errors = process.communicate(timeout=_PATIENCE)
    if process.returncode:
      raise ValueError(f'{name}: {errors.strip()}')
    if not re.search(run.told, told):
      raise ValueError(f'{name} does not say {run.told!r}: {told}')
    return workdir

  def _kill(self, workdir: pathlib.Path) -> None:
    """Kills a run once a head that is under way is saved."""
    process = self._start(workdir, Run())
    # Folders that are not whole yet have longer names.
    while not any(
      path.name.isdecimal() for path in workdir.glob('checkpoints/*/*/*')
    ):
      if process.poll() is not None:
        raise ValueError('the run to be killed ended before')
      time.sleep(0.02)
    process.kill()
    process.communicate()

  def _start(self, workdir: pathlib.Path, run: Run) -> subprocess.Popen[str]:
    settings = {**SETTINGS, 'data.root': self._images, **run.changes}
    flags = [
      '--config=configs/demo.py',
      *(f'--config.{field}={value}' for field, value in settings.items()),
      f'--workdir={workdir}',
    ]
    with _confined(run.cores):
      return subprocess.Popen(  # noqa: S603 - our own.
        [*_command(run.processes), *flags],
        cwd=ROOT,
        env=self._environment(run),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )

  def _environment(self, run: Run) -> dict[str, str]:
    # Launch scripts start the first Python that they find.
    path = f'{pathlib.Path(sys.executable).parent}:{os.environ["PATH"]}'
    return {
      **os.environ,
      'PATH': path,
      'JAX_COMPILATION_CACHE_DIR': str(self._folder / 'compiled'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {run.flags}'.strip(),
      **run.environment,
    }


def _command(processes: int) -> Sequence[str]:
  if processes > 1:
    return ('bash', 'launch/local.sh', str(processes))
  return (sys.executable, '-m', 'simplenet_jax.main')


@contextlib.contextmanager
def _confined(cores: int) -> Iterator[None]:
  """Has processes that are started meanwhile use few processors."""
  if not cores:
    yield
    return
  allowed = os.sched_getaffinity(0)
  os.sched_setaffinity(0, sorted(allowed)[:cores])
  try:
    yield
  finally:
    os.sched_setaffinity(0, allowed)
